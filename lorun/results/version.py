"""The version of a result set: a number that people cite, and a hash by which they check it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from lorun.errors import LorunError
from lorun.files import write_text
from lorun.results.rows import read_rows

FILE = "version.json"
NO_VERSION = "no version"

SCHEMA = 1
"""Of what is hashed: whoever changes `_SCORED` or `_COUNTED` counts up."""

_SCORED = (
    *("task", "dataset", "setting", "method", "seed", "image", "degradation", "protocol", "metric"),
    *("value", "status", "steps", "scored_step", "checkpoint_policy"),
)
_COUNTED = (
    *("task", "setting", "method"),
    *("parameters_network", "parameters_trainable", "step_total", "inference_total", "flops"),
)


@dataclass(frozen=True)
class Version:
    """`version` counts the contents that the set has had; `scores` is the sha256 of what was measured and counted."""

    result_set: str
    version: int
    schema: int
    scores: str

    @property
    def cited(self) -> str:
        """As a text cites it."""
        return f"version {self.version}, scores {self.scores[:10]}"

    def holds(self, folder: Path) -> bool:
        """Whether the tables in `folder` are those of this version."""
        return self.schema == SCHEMA and self.scores == scores_digest(folder)


def scores_digest(folder: Path) -> str:
    """The sha256 of scores and counts of the result set in `folder`, in no particular order.

    Where and when they were made does not count: commit, machine, packages, hashes of the configuration, times.

    Raises:
        LorunError: rows.csv or accounting.csv is missing or has other columns.
    """
    lines = [
        *_lines(read_rows(folder / "rows.csv"), _SCORED),
        "",
        *_lines(_counts(folder / "accounting.csv"), _COUNTED),
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def version_of(folder: Path) -> Version | None:
    """The version that `folder` says it is; None where it says nothing.

    Raises:
        LorunError: version.json is damaged.
    """
    path = folder / FILE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: damaged; restore it from git ({error})") from error
    types = {one.name: one.type for one in fields(Version)}
    if not isinstance(said, dict) or {name: type(value) for name, value in said.items()} != types:
        raise LorunError(f"{path}: damaged; restore it from git (it holds not just {', '.join(types)})")
    return Version(**said)


def write_version(folder: Path, result_set: str) -> Version:
    """Write version.json beside the tables: the number that was there where their content is the same, else the next.

    Raises:
        LorunError: as `scores_digest` and `version_of`.
    """
    before, scores = version_of(folder), scores_digest(folder)
    same = before is not None and (before.schema, before.scores) == (SCHEMA, scores)
    number = 1 if before is None else before.version + (not same)
    version = Version(result_set, number, SCHEMA, scores)
    write_text(folder / FILE, json.dumps(asdict(version), indent=1) + "\n")
    return version


def _counts(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(_COUNTED[:3], str))
    except pd.errors.EmptyDataError:  # nothing was accounted
        frame = pd.DataFrame(columns=list(_COUNTED))
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: not a readable table ({error})") from error
    missing = set(_COUNTED) - set(frame.columns)
    if missing:
        raise LorunError(f"{path}: not the columns of this version: {', '.join(sorted(missing))}")
    return frame.astype(dict.fromkeys(_COUNTED[3:], "Int64"))


def _lines(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    text = frame.loc[:, list(columns)].to_csv(index=False, header=False, lineterminator="\n", float_format="%.6f")
    return sorted(text.splitlines())
