"""What a result set holds of runs that are not here: another machine made them, or their folder is gone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.config import Experiment
from lorun.results.rows import read_rows

_NO_RESULT = ("not_run", "failed")


class Earlier:
    """The tables of a result set as they are, by experiment: what is of the same run and configuration is kept.

    Args:
        folder: of the result set; where it is not there, there is nothing to keep.

    Raises:
        LorunError: rows.csv is unreadable, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        rows = folder / "rows.csv"
        self._rows = read_rows(rows) if rows.exists() else None
        self._accounts = self._table("accounting")

    def rows(self, experiment: Experiment) -> pd.DataFrame | None:
        """The rows of a run that ended with a result; None where there are none."""
        if self._rows is None:
            return None
        of = self._rows[_are(self._rows, experiment) & ~self._rows.status.isin(_NO_RESULT)]
        return of if len(of) else None

    def account(self, experiment: Experiment) -> dict[str, Any] | None:
        """What was counted, with the latency that was measured then; None where nothing was."""
        if self._accounts is None:
            return None
        of = self._accounts[_are(self._accounts, experiment, but="seed")]
        if of.empty:
            return None
        times = self.table("timing", [experiment], but="seed")
        latency = times[times.what == "reconstruction latency"] if len(times) else times
        if latency.empty:
            return _known(of)
        measured = latency.drop(columns=[*experiment.labels, "what", "seconds"]).add_prefix("latency_")
        return {**_known(of), **_known(measured)}

    def table(self, name: str, experiments: Iterable[Experiment], but: str = "") -> pd.DataFrame:
        """The lines of experiments in another table, by their labels, all `but` one."""
        table = self._table(name)
        if table is None:
            return pd.DataFrame()
        ours = pd.Series(False, index=table.index)
        for experiment in experiments:
            labels = {label: value for label, value in experiment.labels.items() if label != but}
            ours |= (table[list(labels)] == pd.Series(labels)).all(axis=1)
        return table[ours]

    def _table(self, name: str) -> pd.DataFrame | None:
        path = self._folder / f"{name}.csv"
        return pd.read_csv(path) if path.exists() else None


def _are(table: pd.DataFrame, experiment: Experiment, but: str = "") -> "pd.Series[bool]":
    """Which lines are of an experiment: its labels, all `but` one, its run and its configuration."""
    said = {**experiment.labels, "run": experiment.key, "config_hash": experiment.config_hash}
    said.pop(but, None)
    columns = pd.DataFrame({name: table[name].astype(str) == str(value) for name, value in said.items()})
    return columns.all(axis=1)


def _known(table: pd.DataFrame) -> dict[str, Any]:
    """The first line, as an account has it: null is None, and whole numbers are ints."""
    line = table.astype(object).where(table.notna(), None).iloc[0].to_dict()
    return {
        str(name): int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in line.items()
    }
