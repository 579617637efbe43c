"""`make reproduce ON=slurm`, on a Slurm cluster of this machine: the same tables, whatever is killed."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from cluster.slurm import Slurm, limits_memory, why_not
from launched import Launched, launcher, start_launcher, wait_until
from sessions import kill_session, run_session
from soak import Copy

from lorun.profiles import load_profile
from lorun.results.paths import account_path
from lorun.training import read_outcome

reason = why_not()
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(reason is not None, reason=reason or "")]

# Long enough to be killed in the middle.
STEPS = {"steps": 1600, "phase1_steps": 800, "checkpoint_every": 20, "validate_every": 400}
TINY = {"tasks": {"cs": {"unfolding": {"stages": 2}, "strategies": ["lorun"], "baselines": [], "training": STEPS}}}
PATIENCE = 1200  # seconds
SMOKE = 5400  # seconds: its 72 jobs start one process of Snakemake after the other

# What users have in a profile of their own: there is no accounting database here, and jobs are short.
SETTINGS = """\
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 1
latency-wait: 5
"""


class Submitted(Launched):
    """A project whose launcher submits its jobs to a cluster."""

    cluster: Slurm

    @property
    def environment(self):
        found = super().environment
        if not hasattr(self, "cluster"):
            return found
        path = os.pathsep.join([str(self.cluster.folder / "bin"), found["PATH"]])
        return found | self.cluster.environment | {"PATH": path, "SNAKEMAKE_PROFILE": str(self.root / "own")}

    def settings(self, text=""):
        """Write the user's own profile of Snakemake."""
        (self.root / "own").mkdir(exist_ok=True)
        (self.root / "own/config.yaml").write_text(SETTINGS + text)

    def words(self, *more, profile="tiny"):
        return [sys.executable, *launcher(profile), "--on", "slurm", *more]

    def submit(self, *more, profile="tiny"):
        """Run a launcher to its end."""
        words = self.words(*more, profile=profile)
        return run_session(words, cwd=self.root, env=self.environment, patience=PATIENCE)

    def jobs(self):
        """The jobs of the cluster: for each, its fields as Slurm shows them. The last one comes last."""
        shown = self.cluster.run("scontrol", "show", "job", "--oneliner").splitlines()
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in shown if line.startswith("JobId=")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("cluster") / "slurm") as running:
        yield running


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_data):
    project = Submitted(tmp_path_factory.mktemp("workflow") / "project", tiny_data, TINY)
    yield project
    project.close()


@pytest.fixture(scope="module")
def local(made):
    """The tables of a run without a cluster, whose files are then deleted."""
    result = made.launch()
    assert result.returncode == 0, result.stdout + result.stderr
    tables = made.tables()
    made.clear()
    return tables


@pytest.fixture
def project(made, local, cluster):
    """A project without runs, and a cluster without jobs."""
    made.cluster = cluster
    made.clear()
    made.settings()
    made.before = len(made.jobs())
    yield made
    cluster.cancel()


@pytest.fixture
def start(project, tmp_path):
    """Start a launcher in a session of its own, its output in `.log`; what still lives of it at the end is killed."""
    started = []

    def start_one():
        started.append(start_launcher(project.words(), project, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start_one
    for process in started:
        kill_session(process)


def test_jobs_on_gpus_of_a_cluster_end_with_the_table_of_this_machine(project, local):
    result = project.submit("--gpus", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("profile tiny: on slurm, 2 GPUs\n")
    assert "PSNR (dB)" in result.stdout
    assert project.tables() == local
    jobs = project.jobs()[project.before :]
    assert len(jobs) == 4  # pretrain, lorun, its evaluation, and its account
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert {job["TresPerJob"] for job in jobs} == {"gres:gpu:1"}
    assert all(job["TimeLimit"] != "UNLIMITED" and int(job["MinMemoryNode"].strip("M")) >= 8000 for job in jobs)


@pytest.mark.skipif(not limits_memory(), reason="slurmd cannot limit memory: no cgroup v1 that it may write to")
def test_a_job_that_runs_out_of_memory_is_tried_again_with_more(project):
    project.settings('set-resources:\n  - "train:mem_mb=200 if attempt == 1 else 4000"\n')
    output = project.folders()["pretrain"] / "training.json"
    result = project.submit("--", str(output.relative_to(project.root)))
    assert result.returncode == 0, result.stdout + result.stderr
    assert output.exists()
    first, second = project.jobs()[project.before :]
    assert (first["JobState"], first["MinMemoryNode"]) == ("OUT_OF_MEMORY", "200M")
    assert (second["JobState"], second["MinMemoryNode"]) == ("COMPLETED", "4000M")


def test_smoke_is_the_committed_set(project, tmp_path):
    root = Copy(tmp_path / "clone").folder
    environment = project.environment | {"PYTHONPATH": str(root)}
    result = run_session(project.words(profile="smoke"), cwd=root, env=environment, patience=SMOKE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Identical to results/smoke" in result.stdout


def test_accounts_are_one_job_and_run_one_after_the_other(project):
    strategies = {"strategies": ["block1", "shared"]}
    project.write_profile("two", {"extends": "tiny.yaml", "profile": "two", "tasks": {"cs": strategies}})
    profile = load_profile(project.root / "config/two.yaml")
    accounts = [str(account_path(Path("runs"), experiment)) for experiment in profile.experiments()]
    result = project.submit("--", *accounts, profile="two")
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(accounts) == 2
    assert all((project.root / path).exists() for path in accounts)
    (job,) = project.jobs()[project.before :]
    assert (job["NumCPUs"], job["MinMemoryNode"], job["TimeLimit"]) == ("1", "6000M", "01:00:00")


def test_killed_jobs_and_launchers_change_no_table(project, local, start):
    runs = project.folders()
    first = start()
    wait_until((runs["pretrain"] / "checkpoint.pt").exists, first, PATIENCE, pause=0.2)
    (killed,) = (job["JobId"] for job in project.jobs()[project.before :] if "_pretrain_" in job["Comment"])
    project.cluster.run("scancel", killed)  # Snakemake submits it again, and it resumes
    wait_until((runs["lorun"] / "checkpoint.pt").exists, first, PATIENCE, pause=0.2)
    assert re.search(r"step [1-9]\d*/800: resumes", (runs["pretrain"] / "train.log").read_text())
    kill_session(first)  # its job goes on
    second = start()
    assert second.wait(PATIENCE) == 0, second.log.read_text()
    assert project.tables() == local
    assert next(job["JobState"] for job in project.jobs() if job["JobId"] == killed) == "CANCELLED"


def test_a_node_that_dies_in_the_middle_of_a_training_changes_no_table(project, local, start):
    folder = project.folders()["pretrain"]
    launched = start()
    wait_until((folder / "checkpoint.pt").exists, launched, PATIENCE, pause=0.2)
    project.cluster.kill_node()
    assert launched.wait(PATIENCE) == 0, launched.log.read_text()
    assert re.search(r"step [1-9]\d*/800: resumes", (folder / "train.log").read_text())
    assert project.tables() == local


def test_ctrl_c_cancels_the_jobs(project, start):
    launched = start()
    wait_until((project.folders()["pretrain"] / "checkpoint.pt").exists, launched, PATIENCE, pause=0.2)
    os.killpg(launched.pid, signal.SIGINT)
    assert launched.wait(PATIENCE) == 130
    assert "Interrupted. Finished work is kept" in launched.log.read_text()
    project.cluster.wait_until_idle()


def test_a_job_that_fails_is_named_with_the_end_of_its_log(project):
    (project.folders()["pretrain"] / ".lock").mkdir(parents=True)  # no training can start
    result = project.submit()
    place = project.folders()["pretrain"].relative_to(project.root)
    assert result.returncode == 1
    *_, failed, why, last = result.stderr.splitlines()
    assert failed == f"failed: train of cs/r25/pretrain seed 0: {place}/train.log"
    assert why == f"    error: cannot write to {place}: Is a directory"
    assert last.startswith("error: some jobs failed")


def test_srun_trains_one_run_in_several_processes(project):
    words = [sys.executable, "-m", "lorun", "train", "-c", "config/tiny.yaml", "--task", "cs", "--setting", "r25"]
    words = ["srun", "--ntasks", "2", "--mem", "4000", *words, "--method", "pretrain"]
    result = run_session(words, cwd=project.root, env=project.environment, patience=PATIENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("completed after 800 steps") == 1  # said by one of them
    outcome = read_outcome(project.folders()["pretrain"])
    assert (outcome.status, outcome.steps) == ("completed", 800)
