"""The training loop: the same patches and steps for every strategy, and an outcome however a training ends."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny import with_spec, with_training
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from lorun.errors import LorunError
from lorun.evaluation.reconstruct import evaluate, load_system
from lorun.methods import Experiment
from lorun.physics.block_cs import BlockCS
from lorun.profiles import Profile
from lorun.training import Outcome, loop, read_outcome, train
from lorun.training.distributed import Group
from lorun.training.outcome import write_outcome
from lorun.training.patches import PatchStream
from lorun.training.schedule import learning_rate
from lorun.unfolding import UnfoldingNetwork

CPU = torch.device("cpu")
EXPLODING = {"learning_rate": 1e30, "clip_norm": None}

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting makes a step on fake tensors, which tests that watch the steps would see."""
    monkeypatch.setattr(loop, "step_flops", lambda experiment: 1)


def tiny(profile: Profile, method: str, **training: object) -> Experiment:
    experiment = profile.experiment("cs", "r25", method, 0)
    return with_training(experiment, **training) if training else experiment


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(tiny_profile: Profile, tiny_data: Path, runs: Path) -> Run:
    """Train a method of the tiny profile with changed settings: run("shared", steps=4)."""

    def run(method: str, runs: Path = runs, **training: object) -> Outcome:
        return train(tiny(tiny_profile, method, **training), runs=runs, data=tiny_data, device=CPU)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def batches_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Step and digest of each batch that a training takes from its stream."""
    seen = []
    original = PatchStream.batches

    def recorded(self: PatchStream, first: int, last: int, pin: bool = False) -> Iterator[Tensor]:
        for step, batch in zip(range(first, last), original(self, first, last, pin), strict=True):
            seen.append((step, hashlib.sha256(batch.numpy().tobytes()).hexdigest()))
            yield batch

    monkeypatch.setattr(PatchStream, "batches", recorded)
    return seen


@pytest.fixture
def steps_taken() -> Iterator[list[float]]:
    """Learning rate of each optimiser step."""
    taken: list[float] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: taken.append(optimizer.param_groups[0]["lr"]))
    yield taken
    hook.remove()


def test_all_strategies_see_the_same_batches_and_take_as_many_steps(
    run: Run, batches_seen: list[tuple[int, str]], steps_taken: list[float], tiny_profile: Profile
) -> None:
    seen, steps, totals = {}, {}, {}
    strategies = tiny_profile.tasks["cs"].strategies
    for method in ("pretrain", *strategies):
        batches_seen.clear(), steps_taken.clear()
        totals[method] = run(method).total_steps
        seen[method], steps[method] = list(batches_seen), len(steps_taken)
    assert [step for step, _ in seen["pretrain"]] == [0, 1, 2, 3]
    assert [step for step, _ in seen["lorun"]] == [4, 5, 6, 7]
    for method in ("lorun", "frozen"):
        seen[method] = seen["pretrain"] + seen[method]
        steps[method] += steps["pretrain"]
    del seen["pretrain"], steps["pretrain"]
    assert len({digest for _, digest in seen["shared"]}) == 8
    assert seen == dict.fromkeys(strategies, seen["shared"])
    assert steps == dict.fromkeys(strategies, 8)
    assert totals == {"pretrain": 4, **dict.fromkeys(strategies, 8)}


def test_the_optimiser_follows_the_schedule(run: Run, steps_taken: list[float], tiny_profile: Profile) -> None:
    run("shared", warmup_steps=3)
    config = tiny(tiny_profile, "shared", warmup_steps=3).training
    assert steps_taken == [learning_rate(done, 8, config) for done in range(8)]


@pytest.mark.parametrize("method", ["shared_sigma", "lorun_random"])
def test_a_run_repeated_gives_the_same_bytes(run: Run, tmp_path: Path, method: str) -> None:
    written = []
    for name in ("first", "second"):
        outcome = run(method, runs=tmp_path / name)
        written.append({**contents(tmp_path / name), "outcome": outcome.model_dump(exclude={"seconds"})})
        written[-1].pop(next(name for name in written[-1] if name.endswith("training.json")))  # holds the seconds
    assert written[0] == written[1]
    assert any(name.endswith("weights.safetensors") for name in written[0])


def test_all_files_of_a_run_can_be_read_as_the_umask_allows(run: Run, runs: Path) -> None:
    before = os.umask(0o027)
    try:
        run("lorun_random")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in runs.rglob("*") if path.is_file()}
    assert modes == {0o640}
    assert {path.stat().st_mode & 0o777 for path in runs.rglob("*") if path.is_dir()} == {0o750}


def test_another_seed_gives_other_weights(tiny_profile: Profile, tiny_data: Path, runs: Path) -> None:
    weights = []
    for seed in (0, 1):
        experiment = tiny_profile.experiment("cs", "r25", "shared", seed)
        train(experiment, runs=runs, data=tiny_data, device=CPU)
        weights.append(load_file(runs / experiment.folder / "weights.safetensors"))
    assert not torch.equal(weights[0]["network.step_sizes"], weights[1]["network.step_sizes"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_either_precision_trains(run: Run, precision: str) -> None:
    outcome = run("shared", precision=precision)
    assert outcome.status == "completed"
    assert outcome.curve[-1].validation_psnr > 20


def test_half_precision_is_not_for_the_measurements(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    types = []

    def estimate(self: UnfoldingNetwork, y: Tensor, physics: object) -> Tensor:
        types.append(y.dtype)
        return forward(self, y, physics)

    forward = UnfoldingNetwork.forward
    monkeypatch.setattr(UnfoldingNetwork, "forward", estimate)
    run("shared", precision="bfloat16")
    assert set(types) == {torch.float32}


def test_a_curve_point_is_the_mean_loss_since_the_last(run: Run, runs: Path) -> None:
    fine = run("shared", validate_every=1).curve
    coarse = run("shared", validate_every=3).curve
    assert [point.step for point in coarse] == [3, 6, 8]
    losses = [point.loss for point in fine]
    means = [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, sum(losses[6:]) / 2]
    assert [point.loss for point in coarse] == pytest.approx(means, rel=1e-6)
    assert [point.validation_psnr for point in coarse] == [fine[at].validation_psnr for at in (2, 5, 7)]


# LoRun's two phases


@pytest.mark.parametrize("ema", [None, 0.5])
def test_lorun_leaves_its_base_unchanged_and_trains_the_rest(
    run: Run, runs: Path, tiny_profile: Profile, ema: float | None
) -> None:
    run("pretrain", ema=ema)
    run("lorun", ema=ema)
    base = load_system(tiny(tiny_profile, "pretrain", ema=ema), runs)
    trained = load_system(tiny(tiny_profile, "lorun", ema=ema), runs)
    own = trained.network.denoisers[0].base_parameters()
    pretrained = dict(base.network.denoisers[0].named_parameters())
    assert own.keys() == pretrained.keys()
    assert all(torch.equal(own[name], pretrained[name]) for name in own)
    adapters = {name: p for name, p in trained.network.named_parameters() if "lora_B" in name}
    assert len(adapters) == 3 * len(own)  # one per stage and layer, zero at first
    assert all(adapter.any() for adapter in adapters.values())
    assert (trained.network.step_sizes != base.network.step_sizes).all()
    assert len(set(trained.network.step_sizes.tolist())) == 3
    for name, buffer in base.physics.named_buffers():
        assert torch.equal(buffer, dict(trained.physics.named_buffers())[name])


def test_lorun_starts_from_the_operator_that_its_base_learned(
    tiny_profile: Profile, tiny_data: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators = []

    def record(self: UnfoldingNetwork, y: Tensor, physics: BlockCS) -> Tensor:
        operators.append(physics.phi.detach().clone())
        return forward(self, y, physics)

    forward = UnfoldingNetwork.forward
    monkeypatch.setattr(UnfoldingNetwork, "forward", record)
    learned = tiny_profile.tasks["cs"].physics_of("r25").model_copy(update={"matrix": "learned"})
    for method in ("pretrain", "lorun"):
        operators.clear()
        experiment = tiny(tiny_profile, method).model_copy(update={"physics": learned})
        if experiment.base is not None:
            experiment = with_spec(experiment, base=experiment.base.model_copy(update={"physics": learned}))
        train(experiment, runs=runs, data=tiny_data, device=CPU)
    pretrained = load_file(runs / experiment.base.folder / "weights.safetensors")["physics.phi"]
    assert torch.equal(operators[0], pretrained)
    assert not torch.equal(pretrained, learned.build().phi)  # phase 1 did learn it
    assert not torch.equal(operators[-1], pretrained)  # and phase 2 goes on


def test_lorun_needs_its_base(run: Run, runs: Path, tiny_profile: Profile) -> None:
    base = runs / tiny(tiny_profile, "pretrain").folder
    with pytest.raises(LorunError, match="cs/r25/lorun seed 0: its pretrained base is missing") as refused:
        run("lorun")
    assert str(base) in str(refused.value)
    assert read_outcome(runs / tiny(tiny_profile, "lorun").folder) is None


def test_lorun_ends_as_its_base_did(run: Run, runs: Path, tiny_profile: Profile) -> None:
    assert run("pretrain", **EXPLODING).status == "diverged"
    outcome = run("lorun", **EXPLODING)
    assert (outcome.status, outcome.steps, outcome.scored_step) == ("diverged", 0, None)
    assert outcome.message.startswith("in the training that it starts from: loss is nan at step 2")
    folder = runs / tiny(tiny_profile, "lorun", **EXPLODING).folder
    assert read_outcome(folder) == outcome
    assert not (folder / "weights.safetensors").exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "other shape"])
def test_a_base_whose_weights_cannot_be_used_is_named(run: Run, runs: Path, tiny_profile: Profile, damage: str) -> None:
    run("pretrain")
    weights = runs / tiny(tiny_profile, "pretrain").folder / "weights.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        run("block_k")
        weights.write_bytes((runs / tiny(tiny_profile, "block_k").folder / "weights.safetensors").read_bytes())
        of_before = read_outcome(weights.parent).model_copy(update={"files": None})  # which recorded no hashes
        write_outcome(weights.parent, of_before)
    with pytest.raises(LorunError) as refused:
        run("lorun")
    assert str(refused.value).startswith(f"{weights}: ")
    if damage == "other shape":
        assert "`network.denoisers.1." in str(refused.value)


# On the base of another setting


@pytest.fixture
def transferred(transfer_profile: Profile, tiny_data: Path, runs: Path) -> Callable[..., Experiment]:
    """Train one experiment of the profile with two settings: transferred("r10", "lorun_transfer")."""

    def transferred(setting: str, method: str) -> Experiment:
        experiment = transfer_profile.experiment("cs", setting, method, 0)
        train(experiment, runs=runs, data=tiny_data, device=CPU)
        return experiment

    return transferred


def test_lorun_transfer_takes_denoiser_and_step_size_from_the_other_setting_and_nothing_else(
    transferred: Callable[..., Experiment], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_system(transferred("r25", "pretrain"), runs)
    first: list[Tensor] = []

    def record(self: UnfoldingNetwork, y: Tensor, physics: BlockCS) -> Tensor:
        first.append(self.step_sizes.detach().clone())
        return forward(self, y, physics)

    forward = UnfoldingNetwork.forward
    monkeypatch.setattr(UnfoldingNetwork, "forward", record)
    experiment = transferred("r10", "lorun_transfer")
    assert torch.equal(first[0], base.network.step_sizes.expand(3))
    trained = load_system(experiment, runs)
    own, pretrained = trained.network.denoisers[0].base_parameters(), dict(base.network.denoisers[0].named_parameters())
    assert own.keys() == pretrained.keys()
    assert all(torch.equal(own[name], pretrained[name]) for name in own)
    assert (trained.network.step_sizes != base.network.step_sizes).all()
    assert all(p.any() for name, p in trained.network.named_parameters() if "lora_B" in name)
    block_k = load_system(transferred("r10", "block_k"), runs)  # the operator of r10, fitted for r10
    state = trained.physics.state_dict()
    assert state["phi"].shape[0] < base.physics.phi.shape[0]
    assert all(torch.equal(tensor, state[name]) for name, tensor in block_k.physics.state_dict().items())


def test_lorun_transfer_spends_the_steps_of_its_base_too(
    transferred: Callable[..., Experiment], runs: Path, batches_seen: list[tuple[int, str]]
) -> None:
    transferred("r25", "pretrain")
    outcome = read_outcome(runs / transferred("r10", "lorun_transfer").folder)
    assert (outcome.steps, outcome.total_steps) == (4, 8)
    both = list(batches_seen)
    batches_seen.clear()
    transferred("r10", "block_k")
    assert batches_seen == both


def test_lorun_transfer_needs_the_base_of_the_other_setting(
    transferred: Callable[..., Experiment], runs: Path, transfer_profile: Profile
) -> None:
    transferred("r10", "pretrain")  # not the base
    with pytest.raises(LorunError, match="train the method 'pretrain' in the setting 'r25' with the same seed") as no:
        transferred("r10", "lorun_transfer")
    assert str(runs / transfer_profile.experiment("cs", "r25", "pretrain", 0).folder) in str(no.value)


# On the base of another task


@pytest.fixture
def moved(tasks_profile: Profile, tasks_data: Path, runs: Path) -> Callable[..., Experiment]:
    """Train one experiment of the profile whose base is of the task `denoise`: moved("cs", "r25", "frozen")."""

    def moved(task: str, setting: str, method: str) -> Experiment:
        experiment = tasks_profile.experiment(task, setting, method, 0)
        train(experiment, runs=runs, data=tasks_data, device=CPU)
        return experiment

    return moved


@pytest.mark.parametrize("method", ["lorun_transfer", "frozen"])
def test_the_denoiser_alone_comes_from_the_other_task_and_stays_unchanged(
    moved: Callable[..., Experiment], runs: Path, method: str, batches_seen: list[tuple[int, str]]
) -> None:
    base = load_system(moved("denoise", "gray", "pretrain"), runs)
    assert [step for step, _ in batches_seen] == [0, 1, 2, 3, 4, 5]
    assert base.network.step_sizes.item() == pytest.approx(0.7)  # nothing depends on it
    batches_seen.clear()
    experiment = moved("cs", "r25", method)
    assert [step for step, _ in batches_seen] == [4, 5, 6, 7]
    outcome = read_outcome(runs / experiment.folder)
    assert (outcome.steps, outcome.total_steps) == (4, 10)  # of its own, and six of the base
    assert {part.split("=")[0] for part in outcome.provenance["data_md5"].split()} == {"other", "tiny"}
    trained = load_system(experiment, runs)
    denoiser = trained.network.denoisers[0]
    own = denoiser.base_parameters() if trained.network.adapted else dict(denoiser.named_parameters())
    pretrained = dict(base.network.denoisers[0].named_parameters())
    assert own.keys() == pretrained.keys()
    assert all(torch.equal(own[name], pretrained[name]) for name in own)
    steps = trained.network.step_sizes
    assert (steps != 1).all()
    assert (steps - 1).abs().max() < 0.01  # from its own task's first value, by four small steps
    assert set(trained.physics.state_dict()) > set(base.physics.state_dict())  # the operator is that of cs


def test_the_base_of_another_task_that_is_missing_is_named_with_its_task(
    moved: Callable[..., Experiment], runs: Path, tasks_profile: Profile
) -> None:
    moved("cs", "gray", "pretrain")  # not the base, though its setting has the same name
    with pytest.raises(LorunError, match="in the setting 'gray' of the task 'denoise' with the same seed first") as no:
        moved("cs", "gray", "frozen")
    assert str(runs / tasks_profile.experiment("denoise", "gray", "pretrain", 0).folder) in str(no.value)


# However it ends


def test_a_loss_that_is_not_a_number_is_an_outcome(
    run: Run, runs: Path, tiny_profile: Profile, tiny_data: Path
) -> None:
    outcome = run("shared", **EXPLODING)
    experiment = tiny(tiny_profile, "shared", **EXPLODING)
    assert outcome.status == "diverged"
    rate = learning_rate(1, 8, experiment.training)
    assert outcome.message == f"loss is nan at step 2 with learning rate {rate:.3g}"
    assert (outcome.steps, outcome.total_steps, outcome.scored_step) == (2, 2, None)
    folder = runs / experiment.folder
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "training.json"]
    assert json.loads((folder / "training.json").read_text())["status"] == "diverged"

    evaluation = evaluate(experiment, runs=runs, data=tiny_data, device=CPU)
    assert (evaluation.run["status"], evaluation.run["message"]) == ("diverged", outcome.message)
    assert evaluation.rows == []


def test_rmse_is_the_root_of_the_batch_s_mean_squared_error(run: Run) -> None:
    settings = {"warmup_steps": 8, "validate_every": 1}  # the first update has a learning rate of nearly nothing
    mse, rmse = (run("shared", loss=loss, **settings).curve[0].loss for loss in ("mse", "rmse"))
    assert rmse == pytest.approx(mse**0.5, rel=1e-6)


def test_processes_cannot_share_the_loss_rmse(tiny_profile: Profile, tiny_data: Path, runs: Path) -> None:
    with pytest.raises(LorunError, match="the loss 'rmse' needs the whole batch, which 2 processes share"):
        loop._Training(tiny(tiny_profile, "shared", loss="rmse"), runs, tiny_data, CPU, Group(0, 2))


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_the_message_has_the_step_and_rate_of_the_first_bad_loss(
    run: Run, monkeypatch: pytest.MonkeyPatch, tiny_profile: Profile, bad: float
) -> None:
    calls = []

    def loss(estimate: Tensor, x: Tensor) -> Tensor:
        calls.append(1)
        return (estimate - x).abs().mean() * (bad if len(calls) == 3 else 1)

    monkeypatch.setattr(F, "l1_loss", loss)
    outcome = run("shared", loss="l1", warmup_steps=4)
    rate = learning_rate(2, 8, tiny(tiny_profile, "shared", warmup_steps=4).training)
    assert (outcome.status, outcome.message) == ("diverged", f"loss is {bad} at step 3 with learning rate {rate:.3g}")
    assert len(calls) == 3


def test_weights_that_only_the_last_step_spoiled_are_not_a_result(run: Run, runs: Path) -> None:
    outcome = run("pretrain", steps=1, learning_rate=1e30, clip_norm=None)
    assert outcome.status == "diverged"
    assert outcome.message == "validation PSNR is nan at step 1 with learning rate 1e+30"
    assert not list(runs.rglob("weights.safetensors"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore"), "CUDA out of memory. Tried to"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "[enforce fail] DefaultCPUAlloc"),
        (MemoryError("Unable to allocate 9 GiB"), "Unable to allocate 9 GiB"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_running_out_of_memory_is_an_outcome(
    run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch, tiny_profile: Profile, error: Exception, message: str
) -> None:
    steps = []

    def fail_at_three(self: UnfoldingNetwork, y: Tensor, physics: object) -> Tensor:
        steps.append(1)
        if len(steps) == 3:
            raise error
        return forward(self, y, physics)

    forward = UnfoldingNetwork.forward
    monkeypatch.setattr(UnfoldingNetwork, "forward", fail_at_three)
    outcome = run("shared")
    assert outcome.status == "out_of_memory"
    assert outcome.message.startswith(message)
    assert "\n" not in outcome.message
    assert (outcome.steps, outcome.scored_step) == (2, None)
    assert read_outcome(runs / tiny(tiny_profile, "shared").folder) == outcome


def test_any_other_error_is_not_an_outcome(run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Tensor:
        raise RuntimeError("a mistake in the code")

    monkeypatch.setattr(UnfoldingNetwork, "forward", fail)
    with pytest.raises(RuntimeError, match="a mistake in the code"):
        run("shared")
    assert not list(runs.rglob("training.json"))


# Which weights count


@pytest.fixture
def scripted_psnr(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Tensor]]:
    """Validation finds 20, 30, 25, 30 dB at steps 2, 4, 6, 8; the weights that count, by step."""
    states: dict[int, dict[str, Tensor]] = {}

    def validate(self: loop._Training) -> float:
        states[self.state.done] = {name: t.clone() for name, t in self.state.scored.state_dict().items()}
        return {2: 20.0, 4: 30.0, 6: 25.0, 8: 30.0}[self.state.done]

    monkeypatch.setattr(loop._Training, "_validate", validate)
    return states


@pytest.mark.parametrize(("policy", "step"), [("best_validation", 4), ("last", 8)])
@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_policy_chooses_the_weights(
    run: Run,
    runs: Path,
    scripted_psnr: dict[int, dict[str, Tensor]],
    tiny_profile: Profile,
    policy: str,
    step: int,
    ema: float | None,
) -> None:
    settings = {"validate_every": 2, "checkpoint_policy": policy, "ema": ema}
    outcome = run("shared", **settings)
    assert (outcome.scored_step, outcome.checkpoint_policy) == (step, policy)
    written = load_file(runs / tiny(tiny_profile, "shared", **settings).folder / "weights.safetensors")
    assert [at for at, state in scripted_psnr.items() if _equal(state, written)] == [step]


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_averaged_weights_are_the_exponential_average(run: Run, runs: Path, tiny_profile: Profile) -> None:
    """After two steps: the first weights, then decay of them and the rest of the second."""

    def step_sizes(steps: int, ema: float | None) -> Tensor:
        settings = {"steps": steps, "ema": ema, "final_learning_rate": 5e-4}  # a constant rate
        run("shared", **settings)
        folder = runs / tiny(tiny_profile, "shared", **settings).folder
        return load_file(folder / "weights.safetensors")["network.step_sizes"]

    first, second = step_sizes(1, None), step_sizes(2, None)
    assert not torch.equal(first, second)
    torch.testing.assert_close(step_sizes(2, 0.75), 0.75 * first + 0.25 * second)


# One process at a time


def test_a_finished_run_is_not_changed(run: Run, runs: Path, tiny_data: Path, steps_taken: list[float]) -> None:
    first = run("shared")

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.name != ".lock"}

    before, taken = times(), len(steps_taken)
    assert run("shared") == first
    assert times() == before
    assert len(steps_taken) == taken


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tiny_profile: Profile, runs: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock of the run `shared` until its standard input has a line."""
    folder = runs / tiny(tiny_profile, "shared").folder
    folder.mkdir(parents=True)
    command = [sys.executable, "-S", "-c", HOLD, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("finished_meanwhile", [False, True])
def test_a_second_process_waits_for_the_first(
    run: Run,
    runs: Path,
    holder: subprocess.Popen,
    capsys: pytest.CaptureFixture[str],
    tiny_profile: Profile,
    tmp_path: Path,
    steps_taken: list[float],
    finished_meanwhile: bool,
) -> None:
    elsewhere = run("shared", runs=tmp_path / "elsewhere") if finished_meanwhile else None
    steps_taken.clear()
    outcomes = []
    waiting = threading.Thread(target=lambda: outcomes.append(run("shared")), daemon=True)
    waiting.start()
    printed, deadline = "", time.monotonic() + 20
    while "waiting for it" not in printed and time.monotonic() < deadline:
        printed += capsys.readouterr().out
        time.sleep(0.01)
    assert "cs/r25/shared seed 0: another process is training this run; waiting for it\n" in printed
    time.sleep(0.2)
    assert waiting.is_alive()
    assert not outcomes
    if finished_meanwhile:
        folder = tiny(tiny_profile, "shared").folder
        for name in ("weights.safetensors", "training.json"):
            shutil.copy(tmp_path / "elsewhere" / folder / name, runs / folder / name)
    holder.communicate("let go\n", timeout=20)
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    assert outcomes[0].status == "completed"
    assert len(steps_taken) == (0 if finished_meanwhile else 8)
    if finished_meanwhile:
        assert outcomes == [elsewhere]
