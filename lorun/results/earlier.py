"""What a result set holds of runs that are not here: another machine made them, or their folder is gone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.methods import Experiment
from lorun.results.rows import read_rows

_NO_RESULT = ("not_run", "failed")
_LABELS = ("task", "setting", "method", "seed")
_ACCOUNT = ("task", "setting", "method", "run", "config_hash")
_RUN = (*_ACCOUNT, "seed")


class Earlier:
    """The tables of a result set as they are, by experiment: what is of the same run and configuration is kept.

    Args:
        folder: of the result set; where it is not there, there is nothing to keep.

    Raises:
        LorunError: rows.csv is unreadable, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        rows = folder / "rows.csv"
        held = read_rows(rows) if rows.exists() else None
        self._rows = _grouped(None if held is None else held[~held.status.isin(_NO_RESULT)], _RUN)
        self._accounts = _grouped(_read(folder / "accounting.csv"), _ACCOUNT)
        self._others = {name: _read(folder / f"{name}.csv") for name in ("timing", "trainings", "curves")}

    def rows(self, experiment: Experiment) -> pd.DataFrame | None:
        """The rows of a run that ended with a result; None where there are none."""
        return self._rows.get(_key(experiment, _RUN))

    def account(self, experiment: Experiment) -> dict[str, Any] | None:
        """What was counted, with the latency that was measured then; None where nothing was."""
        of = self._accounts.get(_key(experiment, _ACCOUNT))
        if of is None:
            return None
        times = self.table("timing", [experiment], but="seed")
        latency = times[times.what == "reconstruction latency"] if len(times) else times
        if latency.empty:
            return _known(of)
        measured = latency.drop(columns=[*experiment.labels, "what", "seconds"]).add_prefix("latency_")
        return {**_known(of), **_known(measured)}

    def table(self, name: str, experiments: Iterable[Experiment], but: str = "") -> pd.DataFrame:
        """The lines of experiments in timing, trainings or curves, by their labels, all `but` one."""
        table = self._others[name]
        if table is None:
            return pd.DataFrame()
        labels = [label for label in _LABELS if label != but]
        ours = {tuple(experiment.labels[label] for label in labels) for experiment in experiments}
        return table[[line in ours for line in table[labels].itertuples(index=False, name=None)]]


def _read(path: Path) -> pd.DataFrame | None:
    # A setting may be called 001, and a hash may look like a number.
    return pd.read_csv(path, dtype=dict.fromkeys(_ACCOUNT, str)) if path.exists() else None


def _grouped(table: pd.DataFrame | None, by: tuple[str, ...]) -> dict[tuple[str, ...], pd.DataFrame]:
    """The lines of a table by what tells experiments apart, as text."""
    if table is None or table.empty:
        return {}
    return {tuple(map(str, which)): of for which, of in table.groupby(list(by), sort=False)}


def _key(experiment: Experiment, by: tuple[str, ...]) -> tuple[str, ...]:
    said = {**experiment.labels, "run": experiment.key, "config_hash": experiment.config_hash}
    return tuple(str(said[name]) for name in by)


def _known(table: pd.DataFrame) -> dict[str, Any]:
    """The first line, as an account has it: null is None, and whole numbers are ints."""
    line = table.astype(object).where(table.notna(), None).iloc[0].to_dict()
    return {
        str(name): int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in line.items()
    }
