"""`make reproduce STORE=...`: jobs that share no file system, each in a folder of its own; the same tables."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from launched import Launched, launcher
from sessions import run_session
from soak import Copy

PLUGINS = ("executor_plugin_cluster_generic", "storage_plugin_fs", "storage_plugin_s3")
MISSING = [name.replace("_", "-") for name in PLUGINS if find_spec(f"snakemake_{name}") is None]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(MISSING), reason=f"needs the plugins of Snakemake {', '.join(MISSING)}"),
]

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync, which the plugin for folders runs")
TINY = {"tasks": {"cs": {"unfolding": {"stages": 2}, "strategies": ["lorun"], "baselines": ["linear_mmse"]}}}
PORT = 5599

# A machine with the checkout and nothing else: what a container has.
SUBMIT = """\
#!/bin/sh
place=$(mktemp -d {jobs}/XXXXXX)
cp -r {checkout}/. "$place"
cd "$place"
export PYTHONPATH="$place"
setsid sh -c "sh '$1' > job.log 2>&1; echo \\$? > status" > /dev/null 2>&1 < /dev/null &
basename "$place"
"""
STATUS = """\
#!/bin/sh
case $(cat {jobs}/$1/status 2> /dev/null) in "") echo running;; 0) echo success;; *) echo failed;; esac
"""
PROFILE = """\
executor: cluster-generic
jobs: 2
latency-wait: 2
cluster-generic-submit-cmd: {jobs}/submit.sh
cluster-generic-status-cmd: {jobs}/status.sh
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path):
    made = Launched(tmp_path_factory.mktemp("storage") / "project", tiny_data, TINY)
    yield made
    made.close()


@pytest.fixture(scope="module")
def local(project: Launched) -> dict[str, bytes]:
    """The tables of a run on this machine, whose files are then deleted."""
    result = project.launch()
    assert result.returncode == 0, result.stdout + result.stderr
    tables = project.tables()
    project.clear()
    return tables


@pytest.fixture
def jobs(project: Launched, local: dict[str, bytes], tmp_path: Path) -> Path:
    """The folder of the machines, and of the programs that submit to them."""
    yield _machines(project.root, tmp_path)
    project.clear()


def _machines(root: Path, place: Path) -> Path:
    """A folder of machines that have a copy of `root` as it is now."""
    checkout, jobs = place / "checkout", place / "jobs"
    shutil.copytree(root, checkout)
    jobs.mkdir()
    for name, text in {"submit.sh": SUBMIT, "status.sh": STATUS, "config.yaml": PROFILE}.items():
        (jobs / name).write_text(text.format(jobs=jobs, checkout=checkout))
        (jobs / name).chmod(0o755)
    return jobs


@pytest.fixture
def bucket():
    """A bucket on an S3 server of this machine, and the variables of the plugin for it."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("needs moto_server, of the package moto[server], on PATH")
    address = f"http://127.0.0.1:{PORT}"
    with subprocess.Popen([program, "-p", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(100):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/runs", method="PUT"))
                break
            except OSError:
                time.sleep(0.2)
        prefix = "SNAKEMAKE_STORAGE_S3"
        yield {f"{prefix}_ENDPOINT_URL": address, f"{prefix}_ACCESS_KEY": "a", f"{prefix}_SECRET_KEY": "b"}
        server.terminate()


def _reproduce(project: Launched, jobs: Path, store: str, **variables: str) -> dict[str, bytes]:
    _launch(project.root, {**project.environment, **variables}, jobs, store)
    return project.tables()


def _launch(
    root: Path, environment: dict[str, str], jobs: Path, store: str, profile: str = "tiny", patience: float = 1200
) -> str:
    """What a launcher prints that ends well; its jobs run on the machines of the folder `jobs`."""
    words = [sys.executable, *launcher(profile), "--store", store]
    environment = {**environment, "SNAKEMAKE_PROFILE": str(jobs)}
    result = run_session(words, cwd=root, env=environment, patience=patience)
    logs = "".join(path.read_text() for path in jobs.glob("*/job.log"))
    assert result.returncode == 0, result.stdout + result.stderr + logs
    return result.stdout


@needs_rsync
def test_runs_go_through_a_folder(project: Launched, local: dict[str, bytes], jobs: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    assert _reproduce(project, jobs, str(store)) == local
    assert len([*store.rglob("trained.tar")]) == 3  # pretrain, lorun, linear_mmse
    assert len([*store.rglob("evaluated.tar")]) == len([*store.rglob("accounting-*.json")]) == 2
    machines = [path for path in jobs.iterdir() if path.is_dir()]
    assert len(machines) == 3 + 2 + 2
    trained = [{path.parent.name for path in machine.glob("runs/*/*/*/*/weights.safetensors")} for machine in machines]
    assert {len(runs) for runs in trained} <= {0, 1, 2}  # its own run and its base, never all


def test_runs_go_through_s3(project: Launched, local: dict[str, bytes], jobs: Path, bucket: dict[str, str]) -> None:
    assert _reproduce(project, jobs, "s3://runs/lorun", **bucket) == local
    assert os.listdir(project.root / "results/tiny")


@needs_rsync
def test_smoke_is_the_committed_set(project: Launched, tmp_path: Path) -> None:
    root, store = Copy(tmp_path / "clone").folder, tmp_path / "store"
    store.mkdir()
    environment = project.environment | {"PYTHONPATH": str(root)}
    printed = _launch(root, environment, _machines(root, tmp_path), str(store), profile="smoke", patience=5400)
    assert "Identical to results/smoke" in printed


def test_what_is_missing_is_told_before_anything_runs(project: Launched, local: dict[str, bytes]) -> None:
    result = project.launch("tiny", "--store", "gcs://runs")
    assert result.returncode == 1
    assert "needs Snakemake's plugin: .venv/bin/uv pip install snakemake-storage-plugin-gcs" in result.stderr
