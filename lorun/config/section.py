"""Sections of a profile, what is set in them, and their mistakes in one line."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=64)]
"""A name that becomes a folder and an argument of commands: letters, digits, and . _ + - inside."""


class Section(BaseModel):
    """A part of a profile: unknown keys are errors, and a section cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def settings(section: BaseModel) -> dict[str, Any]:
    """What differs from the defaults, as JSON values, in nested sections too; always with `name` and `kind`.

    Keys of runs are hashes of this: an option that is added later changes none of them.
    """
    defaults, changed = _defaults(type(section)), {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name not in defaults or value != defaults[name]:
            changed[name] = _plain(value)
    return changed


@cache
def _defaults(kind: type[BaseModel]) -> dict[str, Any]:
    """The defaults of a section, except those that `settings` always shows."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
        if name not in ("name", "kind") and not field.is_required()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return settings(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return to_jsonable_python(value)


def explain(error: ValidationError, keys: Iterable[str]) -> str:
    """All mistakes that pydantic found, in one line; for an unknown key also the nearest of the known `keys`."""
    known = sorted(keys)
    return "; ".join(_explain_one(dict(mistake), known) for mistake in error.errors())


def _explain_one(mistake: dict[str, Any], known: list[str]) -> str:
    *parents, last = [str(part) for part in mistake["loc"]] or [""]
    where = ".".join([*parents, last])
    if mistake["type"] == "extra_forbidden":
        near = get_close_matches(last, known, n=1)
        return f"unknown key `{where}`." + (f" Did you mean `{near[0]}`?" if near else "")
    if mistake["type"] == "missing":
        return f"`{where}` is missing"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "literal_error":
        choices = mistake["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        near = get_close_matches(str(mistake["input"]), choices, n=1)
        message += f". Did you mean '{near[0]}'?" if near else ""
    value = f" (={mistake['input']!r})" if not isinstance(mistake["input"], dict | list) else ""
    return f"`{where}`{value}: {message}" if where else message
