"""A small project with a result set, all of whose runs recorded the code that is there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lorun.code import current_code
from lorun.data.checksums import dataset_identity
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.provenance import reading_rules
from lorun.results.paths import EVALUATION
from lorun.results.store import (
    RUN_COLUMNS,
    ResultSet,
    code_id,
    new_result_set,
    read_result_set,
    save_result_set,
    write_evaluation,
)
from lorun.status.check import Result, status_of
from lorun.status.project import Project

COMMON = "lorun/physics/block_cs.py"
TRAINING = "lorun/training/loop.py"
SCORING = "lorun/evaluation/metrics.py"
COUNTING = "lorun/accounting/flops.py"
OF_METHOD = {
    "block_k": "lorun/unfolding.py",
    "lorun": "lorun/adapters/layers.py",
    "linear_mmse": "baselines/linear_mmse/baseline.py",
}
SOURCE = '"""A module."""\n\nSIZE = 1  # in pixels\n'
SECONDS = {"block_k": 3600.0, "lorun": 1800.0, "linear_mmse": 0.0}
REGISTRY = {
    "tiny": {
        "role": "test",
        "tasks": ["cs"],
        "what": "images",
        "licence": "CC0",
        "redistribution": "yes",
        "citation": "none",
        "built_by": "tests",
        "splits": {"test": ["test/gray/*"]},
    }
}
VERSIONS = "torch=2.15.0+cpu numpy=2.4.6 my_net=123abc@../my_net"
LOCK = "numpy==2.4.6 ; python_version < '3.12' \\\n    --hash=sha256:0\nnumpy==2.5.5\ntorch==2.15.0 \\\n"


class Suite:
    """The project in `root`; its result set is `results/scratch`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"

    @property
    def results(self) -> ResultSet:
        return read_result_set(self.root / "results" / "scratch")

    def experiment(self, method: str, seed: int = 0) -> Experiment:
        return load_profile(self.root / "config" / "scratch.yaml").experiment("cs", "r25", method, seed)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def change(self, path: str, edit: Callable[[Any], object]) -> None:
        """Edit a YAML file as data."""
        content = yaml.safe_load((self.root / path).read_text())
        edit(content)
        self.write(path, yaml.safe_dump(content, sort_keys=False))

    def change_task(self, **changes: Any) -> None:
        self.change("config/scratch.yaml", lambda content: content["tasks"]["cs"].update(changes))

    def set_column(self, table: str, column: str, value: Any, method: str | None = None) -> None:
        """Write a value into a column of the table of all methods, or of one."""
        frame = getattr(self.results, table).copy()
        frame.loc[(frame.method == method) | (method is None), column] = value
        changes: dict[str, Any] = {table: frame}
        if column == "status":
            changes["rows"] = self.results.rows[self.results.rows.method != method]
        save_result_set(self.root / "results" / "scratch", replace(self.results, **changes))

    def code(self, experiment: Experiment, *modules: str) -> dict[str, str]:
        paths = ["lorun/__init__.py", COMMON, OF_METHOD[experiment.method], *modules]
        rules = reading_rules(experiment, experiment.datasets, self.root)
        return {path: str(digest) for path, digest in current_code(paths, self.root).items()} | rules

    def run(self, method: str, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The line and the rows of a run that was made just now, with whole mappings as its code."""
        experiment = self.experiment(method, seed)
        md5s = {name: dataset_identity(self.root / "data", name) for name in experiment.datasets}
        line = {
            **dict.fromkeys(RUN_COLUMNS),
            **experiment.labels,
            "run": experiment.key,
            "config_hash": experiment.config_hash,
            "status": "completed",
            "steps": 8,
            "versions": VERSIONS,
            "data_md5": " ".join(f"{name}={md5}" for name, md5 in md5s.items()),
            "trained_code": self.code(experiment, TRAINING),
            "code": self.code(experiment, SCORING),
        }
        rows = [
            {**experiment.labels, "dataset": "tiny", "image": image, "degradation": None, "protocol": "cs_float_y"}
            | {"metric": metric, "value": 30.25 + seed}
            for image in ("checks", "001")
            for metric in ("psnr", "ssim")
        ]
        return line, rows

    def run_again(self, method: str, seed: int = 0, shift: float = 0.0, **changes: Any) -> None:
        """Write the folder of a run that was made just now; the first score is shifted."""
        line, rows = self.run(method, seed)
        rows[0]["value"] += shift
        write_evaluation(self.runs / self.experiment(method, seed).folder / EVALUATION, {**line, **changes}, rows)

    def checked(self) -> list[Result]:
        return status_of(Project(self.root), self.results, self.runs)

    def reasons(self) -> dict[str, set[str]]:
        """What is not fresh, as in {"lorun": {"train code"}, "lorun account": {"account code"}}."""
        found: dict[str, set[str]] = {}
        for result in self.checked():
            name = f"{result.method} account" if result.seed is None else result.method
            found.setdefault(name, set()).update(f"{reason.step} {reason.kind}" for reason in result.reasons)
        return {name: reasons for name, reasons in found.items() if reasons}


def write_results(suite: Suite) -> None:
    profile = load_profile(suite.root / "config" / "scratch.yaml")
    code: dict[str, dict[str, str]] = {}

    def named(modules: dict[str, str]) -> str:
        name = str(code_id(modules))
        code[name] = modules
        return name

    lines, rows, accounts, timing = [], [], [], []
    for experiment in profile.experiments():
        line, scores = suite.run(experiment.method, experiment.seed)
        lines.append({**line, "trained_code": named(line["trained_code"]), "code": named(line["code"])})
        rows += scores
        timing.append({**experiment.labels, "what": "training", "seconds": SECONDS[experiment.method]})
    for experiment in profile.accounted():
        made = {"account_key": experiment.account_key, "code": named(suite.code(experiment, COUNTING))}
        accounts.append({**experiment.labels, "parameters_network": 1000, "versions": VERSIONS, **made})
    results = new_result_set("scratch", code, runs=lines, rows=rows, timing=timing, accounting=accounts)
    save_result_set(suite.root / "results" / "scratch", results)
