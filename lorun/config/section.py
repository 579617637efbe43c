"""Sections of a profile, what is set in them, and their mistakes in one line."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import to_jsonable_python

from lorun.errors import short

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=64)]
"""A name that becomes a folder and an argument of commands: letters, digits, and . _ + - inside."""


def _no_two(values: list[Any]) -> list[Any]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is there twice")
    return values


NoTwo = AfterValidator(_no_two)
"""Of a list: no value may be there twice."""


class Section(BaseModel):
    """A part of a profile: unknown keys are errors, numbers are finite, and a section cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _no_truth_as_number(cls, content: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse `yes` where a number is wanted: it would be 1."""
        section = read(content)
        for name, value in content.items() if isinstance(content, dict) else ():
            if _has_truth(value) and not _has_truth(getattr(section, str(name), value)):
                raise ValueError(f"`{name}` (={short(value)}): a number is wanted")
        return section


def _has_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(isinstance(one, bool) for one in value))


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


_SHOWN = 8  # mistakes in a message
_LONGEST = 1000  # characters of one of them


def explain(error: ValidationError, keys: Iterable[str]) -> str:
    """All mistakes that pydantic found, in one line; for an unknown key also the nearest of the known `keys`."""
    known = sorted(keys)
    mistakes = error.errors()
    lines = [_explain_one(dict(mistake), known)[:_LONGEST] for mistake in mistakes[:_SHOWN]]
    more = [f"and {len(mistakes) - _SHOWN} mistakes more"] if mistakes[_SHOWN:] else []
    return "; ".join([*lines, *more])


def _explain_one(mistake: dict[str, Any], known: list[str]) -> str:
    *parents, last = [str(part)[:100] for part in mistake["loc"]] or [""]
    where = ".".join([*parents, last])
    if mistake["type"] == "extra_forbidden":
        near = get_close_matches(last, known, n=1)
        return f"unknown key `{where}`." + (f" Did you mean `{near[0]}`?" if near else "")
    if mistake["type"] == "missing":
        return f"`{where}` is missing"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "literal_error" and isinstance(mistake["input"], str):
        choices = mistake["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        near = get_close_matches(mistake["input"][:100], choices, n=1)
        message += f". Did you mean '{near[0]}'?" if near else ""
    value = f" (={short(mistake['input'])})" if not isinstance(mistake["input"], dict | list) else ""
    return f"`{where}`{value}: {message}" if where else message
