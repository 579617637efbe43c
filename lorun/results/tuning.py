"""What tuning chose: a line per task and method, from the trials."""

import pandas as pd

from lorun.profiles.trials import edge


def choices(tuning: pd.DataFrame) -> pd.DataFrame:
    """The chosen trials, each with the values that were tried (`grid`) and whether the choice is at an `edge` of them:
    "lowest", "highest" or "no"."""
    chosen = tuning[tuning.chosen.astype(bool)]
    tried = tuning.groupby(["task", "method"])["value"].apply(lambda values: sorted(set(values)))
    grids = [tried[place] for place in zip(chosen.task, chosen.method, strict=True)]
    return chosen.assign(
        grid=[", ".join(f"{value:g}" for value in grid) for grid in grids],
        edge=[edge(value, grid) for value, grid in zip(chosen["value"], grids, strict=True)],
    )
