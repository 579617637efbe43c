"""What every section of a profile is, and how its mistakes are told."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Section(BaseModel):
    """A part of a profile: unknown keys are mistakes, and nothing changes after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def explain(error: ValidationError, keys: Iterable[str]) -> str:
    """What pydantic found wrong, in one line, with the nearest of the known keys for an unknown one."""
    known = sorted(keys)
    return "; ".join(_explain_one(dict(one), known) for one in error.errors())


def _explain_one(error: dict[str, Any], known: list[str]) -> str:
    *parents, last = [str(part) for part in error["loc"]] or [""]
    where = ".".join([*parents, last])
    if error["type"] == "extra_forbidden":
        near = get_close_matches(last, known, n=1)
        return f"unknown key `{where}`." + (f" Did you mean `{near[0]}`?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"`{where}` is missing"
    if error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        near = get_close_matches(str(error["input"]), choices, n=1)
        message += f". Did you mean '{near[0]}'?" if near else ""
    shown = f" (={error['input']!r})" if not isinstance(error["input"], dict | list) else ""
    return f"`{where}`{shown}: {message}" if where else message
