"""A project of its own for tests: this code in a fresh git repository, and result sets that its first commit made."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from lorun.evaluation.planned import planned_rows

from lorun.config import Experiment, load_profile
from lorun.data.checksums import dataset_identity
from lorun.results.rows import to_frame, write_table
from lorun.results.summary import COUNTS
from lorun.status.judge import Judged, judge
from lorun.status.project import Project

PROFILE = {
    "extends": "quick.yaml",
    "profile": "scratch",
    "seeds": [0],
    "tasks": {
        "cs": {
            "data": {"test": ["photos", "set11"]},
            "strategies": ["block_k", "lorun"],
            "baselines": ["linear_mmse", "ista_net_plus"],
        },
        "cassi": {"strategies": ["block_k"], "baselines": ["gap_tv"]},
        "sr": {"strategies": [], "baselines": ["bicubic"]},
    },
}
VERSIONS = "torch=2.15.0 numpy=2.4.6"
LOCK = "numpy==2.4.6 ; python_version < '3.12' \\\n    --hash=sha256:0\nnumpy==2.5.5\ntorch==2.15.0 \\\n"
SECONDS = 100.0


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Scratch:
    """The folder of the project; `commit` made the rows."""

    def __init__(self, root: Path, commit: str) -> None:
        self.root = root
        self.commit = commit

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text, f"{path} no longer has {old!r}"
        (self.root / path).write_text(text.replace(old, new))

    def rewrite(self, path: str, change: Callable[[Any], object]) -> None:
        """Change a YAML file as data."""
        said = yaml.safe_load((self.root / path).read_text())
        change(said)
        (self.root / path).write_text(yaml.safe_dump(said, sort_keys=False))

    def say(self, column: str, value: str | None, method: str | None = None) -> None:
        """Write a value into a column of the rows of `scratch`, of all methods or one."""
        path = self.root / "results" / "scratch" / "rows.csv"
        frame = pd.read_csv(path, dtype=str)
        frame.loc[(frame.method == method) | (method is None), column] = value
        frame.to_csv(path, index=False)

    def judged(self, result_set: str = "scratch") -> list[Judged]:
        profile = load_profile(self.root / "config" / f"{result_set}.yaml")
        return judge(Project(self.root), self.root / "results" / result_set, profile, self.root / "runs")

    def reasons(self, result_set: str = "scratch") -> dict[str, set[str]]:
        """What is not fresh, as in {"cs/lorun": {"train: code"}, "cs/lorun account": {"account: code"}}."""
        return {
            f"{one.task}/{one.method}{' account' if one.what == 'account' else ''}": {
                f"{reason.step}: {reason.kind}" for reason in one.reasons
            }
            for one in self.judged(result_set)
            if one.state != "fresh"
        }


def write_tables(root: Path, name: str, commit: str) -> None:
    """The tables of a result set that all came well of a commit."""
    profile, folder = load_profile(root / "config" / f"{name}.yaml"), root / "results" / name
    rows, timing, accounts = [], [], []
    for experiment in profile.experiments():
        made = made_by(root, experiment, commit)
        for row in planned_rows(experiment):
            rows += [{**row, **made, "status": "completed", "image": image, "value": 30.0} for image in ("a", "b")]
        timing.append({**experiment.labels, "what": "training", "seconds": SECONDS})
    for experiment in profile.accounted():
        counts = dict.fromkeys(COUNTS, 1000) | {"image": 256}
        accounts.append({**experiment.labels, **counts, **made_by(root, experiment, commit)})
        timing.append({**experiment.labels, "what": "reconstruction latency", "median_ms": 36.0})
    write_table(folder / "rows.csv", to_frame(rows))
    write_table(folder / "timing.csv", pd.DataFrame(timing))
    write_table(folder / "accounting.csv", pd.DataFrame(accounts).drop(columns="seed"))


def made_by(root: Path, experiment: Experiment, commit: str) -> dict[str, Any]:
    md5s = {name: dataset_identity(root / "data", name) for name in experiment.datasets}
    return {
        "run": experiment.key,
        "config_hash": experiment.config_hash,
        "commit": commit,
        "dirty": False,
        "trained_commit": commit,
        "trained_dirty": False,
        "data_md5": " ".join(f"{name}={md5}" for name, md5 in md5s.items()),
        "versions": VERSIONS,
    }
