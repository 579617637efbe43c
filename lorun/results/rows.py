"""The long format of scores: one row per image, degradation, metric and protocol, with where it comes from."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.errors import LorunError
from lorun.files import write_text

COLUMNS = (
    # what was measured; the degradation is null where the operator has none
    *("task", "dataset", "setting", "method", "seed", "image", "degradation", "protocol", "metric"),
    # the measurement: dB for psnr; null unless the status is completed
    *("value", "status", "message"),
    # how it was trained
    *(
        "steps",
        "scored_step",
        "checkpoint_policy",
        "trained_commit",
        "trained_dirty",
        "trained_device",
        "trained_threads",
    ),
    # how it was evaluated
    *("run", "config_hash", "commit", "dirty", "data_md5", "device", "threads", "python", "versions"),
)

_INTEGERS = ("seed", "steps", "scored_step", "trained_threads", "threads")
_NOT_TEXT = ("value", "trained_dirty", "dirty", *_INTEGERS)
_DIGITS = 6  # of a score: far finer than it means anything, coarse enough to hide the last bit's noise


def to_frame(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Rows as a table with exactly the columns of the schema; numbers are numbers, what is not known is null."""
    frame = pd.DataFrame([{column: row.get(column) for column in COLUMNS} for row in rows], columns=list(COLUMNS))
    frame["value"] = pd.to_numeric(frame["value"]).round(_DIGITS)
    for column in _INTEGERS:
        frame[column] = frame[column].astype("Int64")
    return frame


def plain(value: Any) -> Any:
    """A value of a table as JSON has it: null is None, numbers are Python's."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV, atomically; null is an empty field."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def read_rows(path: Path) -> pd.DataFrame:
    """Read rows back, types included.

    Raises:
        LorunError: the file is missing, is not CSV, or has other columns.
    """
    # An image may be called 001 or NA, and a hash may look like a number.
    text = {column: str for column in COLUMNS if column not in _NOT_TEXT}
    try:
        frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise LorunError(f"{path}: no such table of rows") from None
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: not a readable table ({error})") from error
    if tuple(frame.columns) != COLUMNS:
        odd = sorted(set(frame.columns) ^ set(COLUMNS)) or ["their order"]
        raise LorunError(f"{path}: not the columns of this version: {', '.join(odd)}")
    return to_frame(frame.astype(object).where(frame.notna(), None).to_dict("records"))
