"""Copies of the project with a tiny profile, in which `make reproduce` runs: workflow/launch.py with Snakemake."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from processes import launch, preloaded_in_copy, run_in_copy
from tiny import PROFILE, PROJECT

from lorun.profiles import load_profile

PATIENCE = 600  # seconds
TABLES = ("rows.csv", "summary.csv", "summary.md", "claims.csv", "curves.csv", "strip_cs_tiny_r25.png")


class Launched:
    """A copy of the project with the dataset and the profile `tiny`; `tiny` are changes of that profile."""

    def __init__(self, root: Path, data: Path, tiny: dict[str, Any]) -> None:
        self.root = root
        root.mkdir()
        (root / ".dvc").mkdir()
        for name in ("Snakefile", "dvc.yaml", ".dvc/config"):
            shutil.copy(PROJECT / name, root / name)
        for name in ("workflow", "lorun", "baselines"):
            shutil.copytree(PROJECT / name, root / name)  # with what is compiled
        shutil.copytree(data, root / "data")
        self.write_profile("base", PROFILE)
        self.write_profile("tiny", {"extends": "base.yaml", **tiny})
        self._commands = ExitStack()
        self._lorun = self._commands.enter_context(preloaded_in_copy(root, self.environment))

    def close(self) -> None:
        self._commands.close()

    def write_profile(self, name: str, settings: dict[str, Any]) -> None:
        path = self.root / "config" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(settings))

    @property
    def environment(self) -> dict[str, str]:
        settings = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        settings["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # of Snakemake
        settings["DVC_SITE_CACHE_DIR"] = str(self.root.parent / "site-cache")
        settings.pop("PYTHONDONTWRITEBYTECODE", None)  # the copied modules are imported by every job
        return settings

    def launch(self, profile: str = "tiny", *more: str) -> subprocess.CompletedProcess[str]:
        """Run a launcher to its end. All launchers of this copy share one server of commands."""
        environment = {**self.environment, "LORUN_PRELOADED": str(self._lorun)}
        return run_in_copy(self.root, environment, launch, [*launcher(profile)[1:], *more], patience=PATIENCE)

    def tables(self) -> dict[str, bytes]:
        """The tables of the profile `tiny`, by name, without those that hold times."""
        return {name: (self.root / "results/tiny" / name).read_bytes() for name in TABLES}

    def clear(self) -> None:
        """Delete what launchers made."""
        for name in ("runs", "results", ".snakemake", "logs"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def dry_run(self, profile: str = "tiny") -> dict[str, int]:
        """How many jobs of each rule would run."""
        result = self.launch(profile, "--", "--dry-run")
        assert result.returncode == 0, result.stderr
        return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.M)}

    def folders(self) -> dict[str, Path]:
        """method -> its run's folder."""
        loaded = load_profile(self.root / "config" / "tiny.yaml")
        found = {e.method: self.root / "runs" / e.folder for e in loaded.experiments()}
        base = loaded.experiment("cs", "r25", "lorun", 0).base
        assert base is not None
        return {**found, "pretrain": self.root / "runs" / base.folder}


def start_launcher(words: list[str], project: Launched, log: Path) -> "subprocess.Popen[bytes]":
    """A launcher in a session of its own, its output in `log`, which is an attribute of it too."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            words,
            cwd=project.root,
            env=project.environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it is ignored below some runners
        )
    process.log = log
    return process


def wait_until(condition: Callable[[], object], process: Any, patience: float = PATIENCE, pause: float = 0.01) -> None:
    """Wait for `condition()`; fail when the launcher ends before, or patience (seconds) does."""
    end = time.monotonic() + patience
    while not condition():
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < end, process.log.read_text()
        time.sleep(pause)


def launcher(profile: str = "tiny") -> list[str]:
    """The arguments of Python."""
    return ["workflow/launch.py", "--profile", profile, "--cores", "2"]
