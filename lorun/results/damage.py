"""What of a profile's runs and tables is damaged, so that the workflow makes it again."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lorun.errors import LorunError
from lorun.profiles import Profile
from lorun.results.paths import EVALUATION, account_path, with_bases
from lorun.results.result_set import checked_evaluation
from lorun.results.store import read_account, read_result_set
from lorun.training.outcome import FILE, check_files, read_outcome


def remove_damaged(profile: Profile, runs: Path, results: Path) -> Iterator[str]:
    """Remove the files that show damaged work as done, and say of each why, in a line.

    Of a training that is training.json, of scores evaluation.csv, of costs their account, and of a result set
    summary.csv: the workflow makes what these stand for.
    """

    def check_training(path: Path) -> None:
        outcome = read_outcome(path.parent)
        if outcome is not None:
            check_files(path.parent, outcome)

    checks: dict[Path, Callable[[Path], object]] = {}
    for experiment in profile.experiments():
        checks |= {runs / one.folder / FILE: check_training for one in with_bases(experiment)}
        checks[runs / experiment.folder / EVALUATION] = partial(checked_evaluation, experiment)
        checks[account_path(runs, experiment)] = read_account
    checks[results / "summary.csv"] = lambda path: read_result_set(path.parent)
    for path, check in checks.items():
        if not path.exists():
            continue
        try:
            check(path)
        except LorunError as error:
            path.unlink()
            if "version.json: damaged" in str(error):
                path.with_name("version.json").unlink()  # its number counts anew
            yield f"made again: {error}"
