"""The page itself: the template with the libraries and our own scripts and styles in it."""

import base64
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from lorun import __version__
from lorun.errors import extra
from lorun.evaluation.metrics import METRICS
from lorun.report.crops import LIMIT, SIDE
from lorun.report.tables import Section
from lorun.results.verdict import EXPLAINED

_SCRIPTS = ("data.js", "theme.js", "sections.js", "provenance.js", "charts.js", "viewer.js")
_MODULE = "tables.js"  # imports DataTables, which is a module


def render(
    *,
    sections: Sequence[Section],
    points: list[list[dict[str, Any]]],
    crops: list[dict[str, Any]],
    curves: dict[str, Any],
    looks: dict[str, dict[str, str]],
    scaling: dict[str, Any] | None,
    lines: list[dict[str, Any]],
    **context: Any,
) -> str:
    """The HTML of the report; `context` goes to the template only. The page loads nothing, and forbids it."""
    with extra("report", "the report page"):
        from plotly.offline import get_plotlyjs

    numbers = {
        "metrics": {
            name: {key: getattr(metric, key) for key in ("heading", "digits", "better")}
            for name, metric in METRICS.items()
        },
        "sections": [
            {
                "title": section.title,
                "place": f"{section.task}/{section.setting}",
                "protocol": section.protocol,
                "metrics": [metric.name for metric in section.metrics],
                "points": points[section.number],
                "crops": crops[section.number],
            }
            for section in sections
        ],
        "looks": looks,
        "curves": curves,
        "scaling": scaling,
        "lines": lines,
    }
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            **context,
            version=__version__,
            sections=sections,
            crops=crops,
            scaling=scaling,
            timed=[any(point["latency"] or point["training"] for point in group) for group in points],
            explained=EXPLAINED,
            side=SIDE,
            limit=LIMIT // 1_000_000,
            style=asset("page.css"),
            numbers=_json(numbers),
            plotly=_script(get_plotlyjs()),
            scripts=[_script(asset(name)) for name in _SCRIPTS],
            module=_script(asset(_MODULE).replace("DATATABLES", _data_tables())),
            libraries=[
                f"plotly.js (MIT), from the Python package plotly {version('plotly')}",
                f"DataTables and jQuery (MIT), from the Python package itables {version('itables')}",
            ],
        )
    )


def environment() -> Any:
    """The templates: everything that they insert is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("lorun.report", "assets")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def asset(name: str) -> str:
    """The text of a file of the page."""
    return files("lorun.report").joinpath("assets", name).read_text(encoding="utf-8")


def _data_tables() -> str:
    """DataTables as an address that a module can import."""
    bundle = files("itables").joinpath("html", "dt_bundle.js").read_bytes()
    return "data:text/javascript;base64," + base64.b64encode(bundle).decode()


def _json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _script(text: str) -> str:
    """JavaScript that cannot end its script element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
