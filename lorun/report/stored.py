"""The tables of a result set, as they lie in its folder."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lorun.errors import LorunError
from lorun.results.rows import read_rows

# A setting may be called 001 and a degradation 3; what is not text here is a number or a truth value.
_TEXT = (
    *("task", "dataset", "setting", "operator", "protocol", "method", "status", "checkpoint_policy", "metric"),
    *("degradation", "verdict", "weights", "confidence", "source", "claim", "unit", "base", "what", "device"),
    *("step_precision", "step_recompute", "step_phase", "kept_phase", "recomputed_phase", "inference_phase"),
    *("run", "config_hash", "commit", "data_md5", "versions", "python", "recompute", "precision", "optimizer"),
)


@dataclass(frozen=True)
class Stored:
    """Every table of a result set; `tasks` is None where no task shares a base."""

    rows: pd.DataFrame
    summary: pd.DataFrame
    degradations: pd.DataFrame
    claims: pd.DataFrame
    comparison: pd.DataFrame
    accounting: pd.DataFrame
    curves: pd.DataFrame
    timing: pd.DataFrame
    tasks: pd.DataFrame | None


def read_stored(folder: Path) -> Stored:
    """The tables in the folder of a result set.

    Raises:
        LorunError: one is missing or cannot be read.
    """
    names = ("summary", "degradations", "claims", "comparison", "accounting", "curves", "timing")
    if not (folder / "summary.csv").exists():
        raise LorunError(f"{folder}: no result set here (summary.csv is missing); `lorun table` writes one")
    shared = folder / "tasks.csv"
    return Stored(
        rows=read_rows(folder / "rows.csv"),
        tasks=read_table(shared) if shared.exists() else None,
        **{name: read_table(folder / f"{name}.csv") for name in names},
    )


def read_table(path: Path) -> pd.DataFrame:
    """A table with its names as text; an empty field is null.

    Raises:
        LorunError: it is missing or not CSV.
    """
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise LorunError(f"{path}: no such table; `lorun table` writes it") from None
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: not a readable table ({error})") from error
