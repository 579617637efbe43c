"""Several processes train as one does: the same curve and weights but for rounding, and one end for all."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from processes import Processes, command, start_processes, train_all
from safetensors.torch import load_file
from tiny import PROFILE, PROJECT
from torch import Tensor, nn

from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.system import build_system
from lorun.training import Outcome, distributed, read_outcome, train
from lorun.training.distributed import Group, process_group
from lorun.training.weights import load_checkpoint, save_weights

CPU = torch.device("cpu")
EXPLODING = {"learning_rate": 1e30, "clip_norm": None}
LONG = {"steps": 24, "checkpoint_every": 7, "validate_every": 5, "ema": 0.9, "checkpoint_policy": "best_validation"}

# Task of the profile -> what its training changes; the batch of four is two patches for each of two processes.
TRAININGS: dict[str, dict[str, object]] = {
    "plain": {},
    "averaged": {"ema": 0.5, "clip_norm": 0.01, "loss": "l1", "validate_every": 1},
    "half": {"precision": "bfloat16"},
    "recomputed": {"recompute": "stage"},
    "long": LONG,
    "killed": LONG,
    "odd": {"batch": 3},
    "exploding": EXPLODING,
}

LONG_RUN, KILLED = "long/r25/shared_sigma", "killed/r25/shared_sigma"
EXPLODES = "exploding/r25/shared"
ODD = "odd/r25/shared"
TRAINED = [
    "plain/r25/block_k",
    "plain/r25/pretrain",
    "plain/r25/lorun",
    "plain/r25/shared_sigma",
    "plain/learned/block_k",
    "plain/binary/opine_net_plus",
    "averaged/r25/lorun_random",
    "half/r25/shared",
    "recomputed/r25/shared",
    LONG_RUN,
    KILLED,
    "plain/r25/linear_mmse",  # nothing to train
    "plain/binary/ista_net",  # released weights
]


@dataclass
class Place:
    """A profile, data, and a folder for the scripts and runs of a test."""

    folder: Path
    profile: Path
    data: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def experiment(self, name: str) -> Experiment:
        return load_profile(self.profile).experiment(*name.split("/"), 0)

    def outcome(self, name: str) -> Outcome | None:
        return read_outcome(self.runs / self.experiment(name).folder)

    def launch(self, name: str, failure: str | None = None) -> Processes:
        """Two processes of `lorun train`, with a planted failure."""
        return start_processes(self.folder / "printed", 2, command, self.command(name), failure)

    def command(self, name: str) -> list[str]:
        """The arguments of `lorun` that train an experiment."""
        task, setting, method = name.split("/")
        words = ["train", "--config", self.profile, "--runs", self.runs, "--data", self.data, "--device", "cpu"]
        return [str(word) for word in [*words, "--task", task, "--setting", setting, "--method", method]]

    def alone(self, name: str, runs: Path | None = None) -> Outcome:
        return train(self.experiment(name), runs=runs or self.runs, data=self.data, device=CPU)

    def checkpoint(self, name: str) -> Path:
        return self.runs / self.experiment(name).folder / "checkpoint.pt"

    def at_step_14(self, name: str) -> bool:
        """Whether a long run has written the last checkpoint before its processes stop."""
        path = self.checkpoint(name)
        return path.exists() and load_checkpoint(path)["done"] == 14


def make_place(folder: Path, data: Path) -> Place:
    common = deepcopy(PROFILE["tasks"]["cs"])
    common["settings"]["learned"] = {"ratio": 25, "matrix": "learned"}
    common["settings"]["binary"] = {"ratio": 25, "matrix": "learned_binary", "initial": "adjoint"}
    common["baselines"] = ["linear_mmse", "opine_net_plus", "ista_net"]
    common["only"] = {"opine_net_plus": ["binary"], "linear_mmse": ["r25"]}
    common["training"]["batch"] = 4
    tasks = {name: {**common, "training": {**common["training"], **changes}} for name, changes in TRAININGS.items()}
    plain = Profile.model_validate({**PROFILE, "tasks": tasks}).experiment("plain", "binary", "ista_net", 0)
    save_weights(folder / "released.safetensors", build_system(plain).state_dict(), {})
    tasks["plain"]["weights"] = {"ista_net": {"binary": str(folder / "released.safetensors")}}
    profile = folder / "tiny.yaml"
    profile.write_text(yaml.safe_dump({**PROFILE, "tasks": tasks}))
    return Place(folder, profile, data)


@pytest.fixture
def place(tmp_path: Path, tiny_data: Path) -> Place:
    return make_place(tmp_path, tiny_data)


def results(runs: Path, experiment: Experiment) -> tuple[Outcome, dict[str, Tensor]]:
    folder = runs / experiment.folder
    outcome = read_outcome(folder)
    assert outcome is not None
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        ".lock",
        "training.json",
        "weights.safetensors",
    ]
    return outcome, load_file(folder / "weights.safetensors")


def assert_alike(one: Path, other: Path, experiment: Experiment, loss: float = 1e-5, weights: float = 5e-6) -> None:
    """The curve, the chosen step and the weights are the same within relative and absolute tolerances."""
    (first, first_weights), (second, second_weights) = results(one, experiment), results(other, experiment)
    assert (first.status, first.steps, first.total_steps) == (second.status, second.steps, second.total_steps)
    assert first.scored_step == second.scored_step
    assert [point.step for point in first.curve] == [point.step for point in second.curve]
    for point, counterpart in zip(first.curve, second.curve, strict=True):
        assert point.loss == pytest.approx(counterpart.loss, rel=loss)
        assert point.validation_psnr == pytest.approx(counterpart.validation_psnr, abs=1e-3)
        assert point.learning_rate == counterpart.learning_rate
    assert first_weights.keys() == second_weights.keys()
    for name, tensor in first_weights.items():
        torch.testing.assert_close(tensor, second_weights[name], rtol=0, atol=weights)


# Two processes against one


@dataclass
class Together:
    """Runs of two processes, what these printed, and the folder where one process trained the same."""

    place: Place
    alone: Path
    pair: Processes


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Together:
    """All experiments, trained by two processes and by one.

    One of them was started by two processes that were killed. The first one is locked at first.
    """
    place = make_place(tmp_path_factory.mktemp("together"), tiny_data)
    alone = place.folder / "alone"
    killed = place.launch(KILLED, "stops")
    killed.wait_until(lambda: place.at_step_14(KILLED))
    killed.kill()
    shutil.copytree(place.runs, alone)

    folder = place.runs / place.experiment(TRAINED[0]).folder
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = [*TRAINED, ODD]
        pair = start_processes(place.folder / "together", 2, train_all, place.profile, place.runs, place.data, names)
        pair.wait_until(lambda: "waiting" in pair.out(0))
    assert pair.exit_codes() == [0, 0], pair.shown()
    for name in TRAINED:
        place.alone(name, alone)
    return Together(place, alone, pair)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_give_what_one_gives(together: Together, name: str) -> None:
    # Half precision rounds the gradients of shares; inverting Phi R Phi^T, and the signs of a binary Phi, amplify any
    # rounding.
    loose = {
        "plain/binary/opine_net_plus": {"weights": 5e-5},
        "half/r25/shared": {"loss": 1e-3, "weights": 5e-4},
        "plain/learned/block_k": {"loss": 1e-4, "weights": 2e-4},
    }
    assert_alike(together.place.runs, together.alone, together.place.experiment(name), **loose.get(name, {}))


def test_what_was_trained_moved(together: Together) -> None:
    """So that the tolerances mean something: they are far below what eight steps change."""
    experiment = together.place.experiment("plain/binary/opine_net_plus")
    trained = results(together.place.runs, experiment)[1]
    for name, parameter in build_system(experiment).named_parameters():
        assert (trained[name] - parameter).abs().max() > 1e-4, name


def test_killed_and_resumed_by_two_processes_is_the_same_to_the_bit(together: Together) -> None:
    whole, resumed = (results(together.place.runs, together.place.experiment(name)) for name in (LONG_RUN, KILLED))
    assert resumed[0].curve == whole[0].curve
    assert resumed[0].scored_step == whole[0].scored_step
    assert all(torch.equal(whole[1][name], tensor) for name, tensor in resumed[1].items())
    name = together.place.experiment(KILLED).name
    assert f"{name}: step 14/24: resumes\n" in together.pair.err(0)


def test_killed_and_resumed_by_one_process_is_the_same(together: Together) -> None:
    shutil.copytree(
        together.place.runs / together.place.experiment(LONG_RUN).folder,
        together.place.folder / "whole" / together.place.experiment(KILLED).folder,
    )
    assert_alike(together.alone, together.place.folder / "whole", together.place.experiment(KILLED))
    (resumed, _) = results(together.alone, together.place.experiment(KILLED))
    assert "processes" not in resumed.provenance


def test_the_outcome_says_how_many_processes(together: Together) -> None:
    for name in TRAINED:
        experiment = together.place.experiment(name)
        by_two, by_one = (results(runs, experiment)[0].provenance for runs in (together.place.runs, together.alone))
        assert by_two == (by_one if experiment.training is None else by_one | {"processes": 2})


def test_the_main_process_waits_for_the_lock_and_reports_progress(together: Together) -> None:
    first, pair = together.place.experiment(TRAINED[0]).name, together.pair
    assert pair.out(0).startswith(f"{first}: another process is training this run; waiting for it\n")
    assert pair.err(0).count(f"{first}: step 0/8: starts\n") == 1
    assert pair.err(0).count(f"{first}: step 8/8: ") == 1
    assert "waiting" not in pair.out(1)
    assert "step" not in pair.err(1)


def test_a_batch_that_the_processes_do_not_divide_is_refused(together: Together) -> None:
    refusal = "2 processes cannot share a batch of 3 patches evenly; start 1 or 3, or change `training.batch`"
    for rank in range(2):
        assert f"refused {ODD}: {refusal}\n" in together.pair.out(rank)
    assert together.place.outcome(ODD) is None


# However it ends


def test_torchrun_ends_the_others_when_a_process_is_killed_and_the_run_can_go_on(place: Place) -> None:
    script = place.folder / "script.py"
    script.write_text("import sys\nfrom processes import command\n\ncommand(sys.argv[2:], 'stops', sys.argv[1])\n")
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, place.folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    launcher = subprocess.Popen(
        [sys.executable, *map(str, words), *place.command(LONG_RUN)], env=environment, text=True, **pipes
    )
    deadline = time.monotonic() + 300
    while not place.at_step_14(LONG_RUN):
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(int((place.folder / "pid1").read_text()), signal.SIGKILL)
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert "exitcode  : -9" in err
    assert "RuntimeError" not in err
    assert place.outcome(LONG_RUN) is None
    place.alone(LONG_RUN)
    place.alone(LONG_RUN, place.folder / "whole")
    assert_alike(place.runs, place.folder / "whole", place.experiment(LONG_RUN))


def test_a_divergence_ends_all_with_one_outcome(place: Place) -> None:
    pair = place.launch(EXPLODES)
    assert pair.exit_codes() == [3, 3]
    outcome, alone = place.outcome(EXPLODES), place.alone(EXPLODES, place.folder / "alone")
    assert outcome.status == "diverged"
    exclude = {"seconds": True, "provenance": {"processes"}, "code": True}
    assert outcome.model_dump(exclude=exclude) == alone.model_dump(exclude=exclude)
    assert pair.out(0).count("diverged after 2 steps") == 1
    assert pair.err(0).count(f"diverged: {outcome.message}\n") == 1
    assert pair.out(1) == ""
    assert "diverged" not in pair.err(1)


def test_running_out_of_memory_in_one_process_ends_all_with_one_outcome(place: Place) -> None:
    name = "plain/r25/shared"
    pair = place.launch(name, "memory")
    assert pair.exit_codes() == [3, 3]
    assert "RuntimeError" not in pair.shown()
    outcome = place.outcome(name)
    assert (outcome.status, outcome.message) == ("out_of_memory", "out of memory in one process")
    assert (outcome.steps, outcome.scored_step) == (2, None)
    folder = place.runs / place.experiment(name).folder
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "training.json"]


class Lost(Group):
    """A group whose other process has ended."""

    def from_main(self, ask: object) -> object:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:9383")


def test_the_loss_of_another_process_is_reported_in_one_line(place: Place) -> None:
    group = Lost(0, 2)
    experiment = place.experiment("plain/r25/shared")
    with pytest.raises(LorunError) as refused:
        train(experiment, runs=place.runs, data=place.data, device=CPU, group=group)
    message = str(refused.value)
    assert message.startswith(f"{experiment.name}: another process of the group has ended or does not answer ([gloo/")
    assert message.endswith(
        "Connection closed by peer [127.0.0.1]:9383); start again to resume from the last checkpoint"
    )
    assert not group.in_step


def test_the_outcome_of_the_process_that_ended_is_that_of_all(place: Place) -> None:
    written = place.alone(EXPLODES)
    group = Lost(0, 2)
    experiment = place.experiment(EXPLODES)
    assert train(experiment, runs=place.runs, data=place.data, device=CPU, group=group) == written
    assert not group.in_step


def test_a_main_process_that_cannot_write_the_weights_leaves_no_result(place: Place) -> None:
    """On a disk that is full only then; the others have no result either, and the run can go on."""
    name = "plain/r25/shared"
    pair = place.launch(name, "disk")
    assert pair.exit_codes() == [1, 1]
    assert pair.err(0).count("error: cannot write weights: No space left on device\n") == 1
    assert "another process of the group has ended" in pair.err(1)
    assert "Traceback" not in pair.shown()
    assert place.outcome(name) is None
    assert load_checkpoint(place.runs / place.experiment(name).folder / "checkpoint.pt")["done"] == 8


def test_any_other_error_is_not_taken_for_the_loss_of_another(place: Place) -> None:
    class Mistaken(Group):
        def from_main(self, ask: object) -> object:
            raise RuntimeError("a mistake in the code")

    with pytest.raises(RuntimeError, match="a mistake in the code"):
        train(place.experiment(EXPLODES), runs=place.runs, data=place.data, device=CPU, group=Mistaken(0, 2))


def test_processes_that_do_not_see_the_same_checkpoint_are_refused(place: Place) -> None:
    class Elsewhere(Group):
        def from_main(self, ask: Callable[[], object]) -> object:
            answer = ask()
            return 6 if type(answer) is int else answer

    name = "plain/r25/shared"
    with pytest.raises(LorunError) as refused:
        train(place.experiment(name), runs=place.runs, data=place.data, device=CPU, group=Elsewhere())
    checkpoint = place.runs / place.experiment(name).folder / "checkpoint.pt"
    words = "process 0 finds step 0, the main process step 6; all need the same folder of runs"
    assert str(refused.value) == f"{checkpoint}: {words}"


# The group


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_shares_make_up_the_batch(size: int) -> None:
    shares = [range(8)[Group(rank, size).share(8)] for rank in range(size)]
    assert [patch for share in shares for patch in share] == list(range(8))
    assert {len(share) for share in shares} == {8 // size}


@pytest.mark.parametrize(
    ("size", "batch", "divisors"), [(4, 6, "1, 2, 3 or 6"), (2, 1, "1"), (3, 16, "1, 2, 4, 8 or 16")]
)
def test_numbers_of_processes_that_would_do_are_named(size: int, batch: int, divisors: str) -> None:
    words = f"{size} processes cannot share a batch of {batch} patches evenly; start {divisors}, or change"
    with pytest.raises(LorunError, match=words):
        Group(0, size).share(batch)


def test_a_layer_that_normalises_over_the_batch_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(
        LorunError, match=r"layer `1` \(BatchNorm2d\) normalises over the batch, which 2 processes share"
    ):
        Group(0, 2).replicate(network)
    assert Group().replicate(network) is network


def launched(monkeypatch: pytest.MonkeyPatch, **names: object) -> None:
    """Let this process look like one of torchrun's."""
    for name, value in {"TORCHELASTIC_RUN_ID": "none", **names}.items():
        monkeypatch.setenv(name, str(value))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launched(monkeypatch, RANK=3, WORLD_SIZE=4, LOCAL_RANK=3, LOCAL_WORLD_SIZE=4)
    words = "4 processes on a machine with 2 GPUs; start 2 at most, or use --device cpu"
    with pytest.raises(LorunError, match=words), process_group(torch.device("cuda")):
        pass


def test_one_process_is_alone_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # of another launcher, which means something else
    with process_group(CPU) as (group, device):
        assert (group, device) == (Group(), CPU)
    launched(monkeypatch, RANK=0, WORLD_SIZE=1, LOCAL_RANK=0)
    with process_group(CPU) as (group, device):
        assert (group, device) == (Group(), CPU)


SRUN = {"STEP_NUM_TASKS": 2, "STEP_NUM_NODES": 1, "PROCID": 1, "LOCALID": 1, "JOB_ID": 17, "STEP_ID": 0}


def started_by_srun(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Let this process look like one of srun's; what it sets itself is undone after the test."""
    for name, value in {**SRUN, **changes}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")


def test_processes_of_srun_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/cluster starts them in truth."""
    joined = {}
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: joined.update(os.environ))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    started_by_srun(monkeypatch)
    with process_group(CPU) as (group, device):
        group.leave()
        assert (group.rank, group.size, device) == (1, 2, CPU)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [joined[name] for name in names] == ["1", "1", "2", "2", "127.0.0.1", "20119"]


def test_one_process_of_srun_is_alone_and_several_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started_by_srun(monkeypatch, STEP_NUM_TASKS=1)
    with process_group(CPU) as (group, device):
        assert (group, device) == (Group(), CPU)
    started_by_srun(monkeypatch, STEP_NUM_NODES=2)
    with pytest.raises(LorunError, match="one training runs on one node, not on 2: use --nodes 1"), process_group(CPU):
        pass


def test_a_process_of_srun_that_sees_one_gpu_has_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    started_by_srun(monkeypatch)
    assert distributed._own_gpu(1) == torch.device("cuda", 0)
