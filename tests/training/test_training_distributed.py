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
from safetensors.torch import load_file
from tiny import PROFILE, PROJECT
from torch import Tensor, nn

from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.system import build_system
from lorun.training import Outcome, read_outcome, train
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

# What each process does before it trains, by the name of a behaviour.
SCRIPT = """
import os, sys, time
from pathlib import Path

import torch

rank = int(os.environ["RANK"])
behaviour, place, *words = sys.argv[1:]
Path(place, f"pid{rank}").write_text(str(os.getpid()))

if behaviour == "stands still" and rank == 1:
    from lorun.data.patches import PatchStream

    batch = PatchStream.batch
    PatchStream.batch = lambda self, step: batch(self, step) if step < 20 else time.sleep(600)

if behaviour == "runs out of memory" and rank == 1:
    from lorun.unfolding import UnfoldingNetwork

    forward, calls = UnfoldingNetwork.forward, []

    def fail_at_three(self, y, physics):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("out of memory in one process")
        return forward(self, y, physics)

    UnfoldingNetwork.forward = fail_at_three

if behaviour == "cannot write weights":
    from lorun.errors import LorunError
    from lorun.training import loop

    def fail(*_):
        raise LorunError("cannot write weights: No space left on device")

    loop.save_weights = fail

if behaviour != "trains many":
    from lorun.cli import main

    sys.argv[1:] = words
    main()
    sys.exit()

from lorun.profiles import load_profile
from lorun.errors import LorunError
from lorun.training import train
from lorun.training.distributed import process_group

profile, runs, data, *names = words
with process_group(torch.device("cpu")) as (group, device):
    for name in names:
        experiment = load_profile(profile).experiment(*name.split("/"), 0)
        try:
            train(experiment, runs=Path(runs), data=Path(data), device=device, group=group)
        except LorunError as error:
            sys.stdout.write(f"process {rank} refused {name}: {error}\\n")  # at once: the processes share a pipe
"""


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

    def launch(self, *words: object, behaviour: str | None = None) -> subprocess.Popen[str]:
        """Two processes of `python -m lorun WORDS`, or of the script with a behaviour."""
        target: list[object] = ["-m", "lorun"]
        if behaviour is not None:
            script = self.folder / "script.py"
            script.write_text(SCRIPT)
            target = [script, behaviour, self.folder]
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            2,
            *target,
            *words,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([str(word) for word in command], cwd=PROJECT, env=environment, text=True, **pipes)

    def command(self, name: str) -> list[object]:
        """What `lorun` is told to train an experiment."""
        task, setting, method = name.split("/")
        words = ["train", "--config", self.profile, "--runs", self.runs, "--data", self.data, "--device", "cpu"]
        return [*words, "--task", task, "--setting", setting, "--method", method]

    def alone(self, name: str, runs: Path | None = None) -> Outcome:
        return train(self.experiment(name), runs=runs or self.runs, data=self.data, device=CPU)

    def stop_still(self, name: str) -> tuple[subprocess.Popen[str], list[int]]:
        """Train until a checkpoint is there and both processes stand still; the launcher, and their process ids."""
        launcher = self.launch(*self.command(name), behaviour="stands still")
        checkpoint = self.runs / self.experiment(name).folder / "checkpoint.pt"
        deadline = time.monotonic() + 120
        while not (checkpoint.exists() and load_checkpoint(checkpoint)["done"] == 14):
            assert launcher.poll() is None, launcher.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return launcher, [int((self.folder / f"pid{rank}").read_text()) for rank in range(2)]


def make_place(folder: Path, data: Path) -> Place:
    common = deepcopy(PROFILE["tasks"]["cs"])
    common["settings"]["learned"] = {"ratio": 25, "matrix": "learned"}
    common["settings"]["binary"] = {"ratio": 25, "matrix": "learned_binary", "initial": "adjoint"}
    common["baselines"] = ["linear_mmse", "opine_net_plus", "ista_net"]
    common["only"] = {"opine_net_plus": ["binary"]}
    common["training"]["batch"] = 4
    tasks = {name: {**common, "training": {**common["training"], **said}} for name, said in TRAININGS.items()}
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


# What several processes find


@dataclass
class Together:
    """What two processes trained and said, and where one process trained the same."""

    place: Place
    alone: Path
    said: str
    shown: str


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Together:
    """All experiments, trained by two processes in one go, since starting them takes longest, and by one.

    One of them was begun by two processes that were killed. Another one is locked at first.
    """
    place = make_place(tmp_path_factory.mktemp("together"), tiny_data)
    alone = place.folder / "alone"
    launcher, processes = place.stop_still(KILLED)
    for process in (launcher.pid, *processes):
        os.kill(process, signal.SIGKILL)
    launcher.communicate()
    shutil.copytree(place.runs, alone)

    folder = place.runs / place.experiment(TRAINED[0]).folder
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        launcher = place.launch(place.profile, place.runs, place.data, *TRAINED, ODD, behaviour="trains many")
        said = launcher.stdout.readline()
    rest, shown = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, shown
    for name in TRAINED:
        place.alone(name, alone)
    return Together(place, alone, said + rest, shown)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_give_what_one_gives(together: Together, name: str) -> None:
    # Half precision rounds the gradients of shares; inverting Phi R Phi^T amplifies any rounding.
    loose = {
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
    assert f"{name}: step 14/24: resumes\n" in together.shown


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
        assert by_two == (by_one if experiment.weights else by_one | {"processes": 2})


def test_the_main_process_alone_waits_for_the_lock_and_tells_how_it_goes(together: Together) -> None:
    first = together.place.experiment(TRAINED[0]).name
    assert together.said.count("another process is training this run") == 1
    assert together.said.startswith(f"{first}: another process is training this run; waiting for it\n")
    assert together.shown.count(f"{first}: step 0/8: starts\n") == 1
    assert together.shown.count(f"{first}: step 8/8: ") == 1


def test_a_batch_that_the_processes_do_not_divide_is_refused(together: Together) -> None:
    refusal = "2 processes cannot share a batch of 3 patches evenly; start 1 or 3, or change `training.batch`"
    for rank in range(2):
        assert f"process {rank} refused {ODD}: {refusal}\n" in together.said
    assert together.place.outcome(ODD) is None


# However it ends


def test_a_process_that_is_killed_ends_the_others_and_the_run_can_go_on(place: Place) -> None:
    launcher, processes = place.stop_still(LONG_RUN)
    os.kill(processes[1], signal.SIGKILL)
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert "exitcode  : -9" in err
    assert "RuntimeError" not in err
    assert place.outcome(LONG_RUN) is None
    place.alone(LONG_RUN)
    place.alone(LONG_RUN, place.folder / "whole")
    assert_alike(place.runs, place.folder / "whole", place.experiment(LONG_RUN))


def test_a_divergence_ends_all_with_one_outcome(place: Place) -> None:
    launcher = place.launch(*place.command(EXPLODES))
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert "exitcode  : 3" in err
    outcome, alone = place.outcome(EXPLODES), place.alone(EXPLODES, place.folder / "alone")
    assert outcome.status == "diverged"
    exclude = {"seconds": True, "provenance": {"processes"}}
    assert outcome.model_dump(exclude=exclude) == alone.model_dump(exclude=exclude)
    assert out.count("diverged after 2 steps") == 1
    assert err.count(f"diverged: {outcome.message}\n") == 1


def test_memory_that_one_process_lacks_ends_all_with_one_outcome(place: Place) -> None:
    name = "plain/r25/shared"
    launcher = place.launch(*place.command(name), behaviour="runs out of memory")
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert "exitcode  : 3" in err
    assert "RuntimeError" not in err
    outcome = place.outcome(name)
    assert (outcome.status, outcome.message) == ("out_of_memory", "out of memory in one process")
    assert (outcome.steps, outcome.scored_step) == (2, None)
    folder = place.runs / place.experiment(name).folder
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "training.json"]


class Lost(Group):
    """A group whose other process has ended."""

    def from_main(self, ask: object) -> object:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:9383")


def test_the_loss_of_another_process_is_told_in_a_line(place: Place) -> None:
    group = Lost(0, 2)
    experiment = place.experiment("plain/r25/shared")
    with pytest.raises(LorunError) as refused:
        train(experiment, runs=place.runs, data=place.data, device=CPU, group=group)
    said = str(refused.value)
    assert said.startswith(f"{experiment.name}: another process of the group has ended or does not answer ([gloo/")
    assert said.endswith("Connection closed by peer [127.0.0.1]:9383); start again to go on from the last checkpoint")
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
    launcher = place.launch(*place.command(name), behaviour="cannot write weights")
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert err.count("error: cannot write weights: No space left on device\n") == 1
    assert "RuntimeError" not in err
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
    words = "process 0 finds step 0 there, the main process step 6; all need the same folder of runs"
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
