"""Parts of pages that are generated from the code and from committed results.

```{protocols}                         every scoring protocol
```{measures}                          the metrics of each protocol
```{section} lorun.config.X            the keys of a section of a profile (or of the registry, of a card)
```{choices} lorun.physics.OPERATORS   the keys of every section of a registry
```{commands}                          every command with its options
```{strategies}                        every sharing strategy
```{baselines}                         every baseline of the suite
```{verdict}                           the paper's claims and our measurements
"""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_id

ROOT = Path(__file__).resolve().parents[2]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("protocols", Protocols)
    app.add_directive("measures", Measures)
    app.add_directive("section", Section)
    app.add_directive("choices", Choices)
    app.add_directive("commands", Commands)
    app.add_directive("strategies", Strategies)
    app.add_directive("baselines", Baselines)
    app.add_directive("verdict", Verdict)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class _Generated(SphinxDirective):
    def markdown(self, lines: list[str]) -> list[nodes.Node]:
        """The nodes of lines in Markdown."""
        source, _ = self.get_source_info()
        holder = nodes.Element()
        self.state.nested_parse(StringList(lines, source), self.content_offset, holder)
        return holder.children

    def titled(self, title: str, lines: list[str]) -> nodes.section:
        """A section of a page with a title in code type."""
        section = nodes.section(ids=[make_id(self.env, self.state.document, "", title)], names=[])
        section += nodes.title("", "", nodes.literal(text=title))
        self.state.document.note_implicit_target(section, section)
        section += self.markdown(lines)
        return section


class Protocols(_Generated):
    """A table of all protocols."""

    def run(self) -> list[nodes.Node]:
        from lorun.evaluation.protocols import PROTOCOLS

        borders = {0: "none", "scale": "the scale", "scale**2": "the scale squared"}
        lines = _table("protocol", "images", "border, pixels", "who measures so")
        for protocol in PROTOCOLS.values():
            border = borders.get(protocol.border, str(protocol.border))
            lines.append(_line(f"`{protocol.name}`", protocol.image, border, protocol.source))
        return self.markdown(lines)


class Measures(_Generated):
    """A table of the metrics of all protocols, and on which values each is computed."""

    def run(self) -> list[nodes.Node]:
        from lorun.evaluation.metrics import METRICS
        from lorun.evaluation.protocols import PROTOCOLS

        lines = _table("protocol", "metric", "estimate", "truth", "how")
        for protocol in PROTOCOLS.values():
            for measure in protocol.measures:
                how = [f"`{measure.window}`"] if measure.metric == "ssim" else []
                how += ["of Y"] if protocol.luma else []
                how += ["the mean over bands"] if protocol.by_band and measure.metric != "sam" else []
                truth = f"`{measure.truth}`" if measure.metric != "residual" else ""
                metric = METRICS[measure.metric].heading
                lines.append(_line(f"`{protocol.name}`", metric, f"`{measure.estimate}`", truth, ", ".join(how)))
        return self.markdown(lines)


class Strategies(_Generated):
    """A table of all sharing strategies, from their presets; those that train the bases of others come last."""

    def run(self) -> list[nodes.Node]:
        from lorun.methods import PRESETS

        lines = _table("strategy", "what", "origin", "starts from", "trained")
        for preset in PRESETS.values():
            start = {None: "random weights", "elsewhere": "`base` of the profile", "published": "published weights"}
            base = start.get(preset.base, f"`{preset.base}`")
            if preset.decompose:
                base = f"the SVD of {base}"
            denoisers = "denoiser" if preset.sharing == "shared" else "denoisers"
            parts = [
                denoisers if not preset.frozen and (preset.joint or not preset.adapted) else "",
                "adapters" if preset.adapted else "",
                r"$\rho_k$",
                r"$\sigma_k$" if preset.noise_map else "",
            ]
            trained = ", ".join(filter(None, parts)) if preset.trained else "nothing"
            lines.append(_line(f"`{preset.name}`", preset.about, preset.origin, base, trained))
        return self.markdown(lines)


class Baselines(_Generated):
    """A table of the suite's own baselines, from their cards."""

    def run(self) -> list[nodes.Node]:
        from lorun.plugins import card, names

        lines = _table("baseline", "what", "tasks", "trained", "publication")
        for name in names():
            its = card(name)
            cells = (its.title, ", ".join(its.tasks), "yes" if its.trained else "no", its.citation)
            lines.append(_line(f"`{name}`", *map(_escaped, cells)))
        return self.markdown(lines)


class Verdict(_Generated):
    """The table of the paper's claims, from the committed result sets; its links lead to sections of this page."""

    def run(self) -> list[nodes.Node]:
        from lorun.results.verdict import verdict_table

        table = verdict_table(ROOT / "results")
        linked = re.sub(r"\(results/(\w+)/summary\.md\)", r"(#results-of-the-\1-profile)", table)
        return self.markdown(linked.splitlines())


class Section(_Generated):
    """A table of the keys of a pydantic model, named by its module and class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.markdown(_keys(_named(self.arguments[0])))


class Choices(_Generated):
    """A section for each choice of a registry, named by its module and variable: what it is, and its keys."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [self.one(choice) for choice in _named(self.arguments[0])]

    def one(self, choice: type[BaseModel]) -> nodes.section:
        name = choice.model_fields["name"].default
        return self.titled(name, [_escaped(choice.__doc__ or ""), "", *_keys(choice)])


def _named(reference: str) -> Any:
    module, _, name = reference.rpartition(".")
    return getattr(import_module(module), name)


def _keys(model: type[BaseModel]) -> list[str]:
    properties = model.model_json_schema()["properties"]
    lines = _table("key", "values", "default", "meaning")
    for key, field in model.model_fields.items():
        lines.append(_line(f"`{key}`", _values(properties[key]), _default(field), _escaped(field.description or "")))
    return lines


_NAMES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _values(schema: dict[str, Any]) -> str:
    """What a JSON schema admits, in words."""
    if "anyOf" in schema:
        return " or ".join(map(_values, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        return f"list of: {_values(items)}" if items else "list"
    if kind == "object" or kind is None:
        return "section"
    bounds = ", ".join(f"{sign} {schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema)
    return f"{_NAMES[kind]} {bounds}".strip()


def _default(field: FieldInfo) -> str:
    """The default of a key, as YAML has it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "as below"
    if value is None or isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


class Commands(_Generated):
    """A section for each command: what it does, its arguments and options."""

    def run(self) -> list[nodes.Node]:
        from typer.main import get_command

        from lorun.cli import app

        return [self.one(words, command) for words, command in _leaves(("lorun",), get_command(app))]

    def one(self, words: tuple[str, ...], command: Any) -> nodes.section:
        lines = _escaped(command.help or "").splitlines()
        table = _table("argument or option", "default", "meaning")
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        table += [_parameter(parameter) for parameter in shown if parameter.name != "help"]
        return self.titled(" ".join(words), [*lines, "", *(table if len(table) > 2 else [])])


def _leaves(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, below in sorted(command.commands.items()):
        yield from _leaves((*words, name), below)


def _parameter(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if option else [parameter.name.upper()]
    default = parameter.default
    if parameter.required:
        text = "required"
    elif default is None or default is False or callable(default) or default == ():
        text = ""
    else:
        text = f"`{'on' if default is True else default}`"
    return _line(", ".join(f"`{name}`" for name in names), text, _escaped(getattr(parameter, "help", None) or ""))


def _escaped(text: str) -> str:
    """Plain text with `code`, where < and * mean themselves."""
    parts = text.split("`")
    parts[::2] = [part.replace("*", r"\*").replace("<", r"\<") for part in parts[::2]]
    return "`".join(parts)


def _table(*titles: str) -> list[str]:
    return [_line(*titles), _line(*("---" for _ in titles))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
