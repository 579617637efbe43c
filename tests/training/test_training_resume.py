"""A run that was cut short goes on as if nothing had been: killed, out of disk, on a disk that cannot be written."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from processes import command, start_processes
from safetensors.torch import load_file
from tiny import with_training
from torch import Tensor

from lorun import cli
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.system import build_system
from lorun.training import Outcome, read_outcome, train
from lorun.training.patches import PatchStream
from lorun.training.weights import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
PROJECT = Path(__file__).parents[2]

# Neither divides the other, so that checkpoints come between the points of the curve.
APART = {"checkpoint_every": 3, "validate_every": 4}


class Cut(Exception):
    """Ends a training from inside."""


def tiny(profile: Profile, method: str, **training: object) -> Experiment:
    experiment = profile.experiment("cs", "r25", method, 0)
    return with_training(experiment, **training) if training else experiment


@pytest.fixture
def go(tiny_data: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Train an experiment into a folder; go(experiment, "b", cut=5) ends it before step 5 of the patch stream."""

    def go(experiment: Experiment, runs: str | Path = "runs", cut: int | None = None) -> Outcome | None:
        batch = PatchStream.batch

        def cut_short(self: PatchStream, step: int) -> Tensor:
            if step == cut:
                raise Cut
            return batch(self, step)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PatchStream, "batch", cut_short)
            try:
                return train(experiment, runs=tmp_path / runs, data=tiny_data, device=CPU)
            except Cut:
                return None

    return go


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_result(one: Path, other: Path) -> None:
    a, b = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    assert a.keys() == b.keys()
    assert [name for name in a if a[name].dtype != b[name].dtype or not torch.equal(a[name], b[name])] == []
    assert read_outcome(one).model_dump(exclude={"seconds"}) == read_outcome(other).model_dump(exclude={"seconds"})
    adapters = [folder / "adapters" / "stage_1" / "adapter_model.safetensors" for folder in (one, other)]
    assert adapters[0].exists() == adapters[1].exists()
    if adapters[0].exists():
        assert adapters[0].read_bytes() == adapters[1].read_bytes()


# Killed


def edited(profile: Path, **training: object) -> Path:
    settings = yaml.safe_load(profile.read_text())
    settings["tasks"]["cs"]["training"] |= training
    profile.write_text(yaml.safe_dump(settings))
    return profile


def train_words(profile: Path, method: str, runs: Path, data: Path) -> list[str]:
    """The arguments of `lorun` that train a method."""
    words = ["train", "--config", profile, "--task", "cs", "--setting", "r25", "--method", method]
    return [str(word) for word in [*words, "--runs", runs, "--data", data, "--device", "cpu"]]


@pytest.mark.parametrize(
    ("method", "settings"),
    [("shared_sigma", {"ema": 0.9, "checkpoint_policy": "best_validation"}), ("lorun", {"optimizer": "adamw"})],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    go: Callable[..., Outcome],
    tiny_profile_file: Path,
    tiny_data: Path,
    tmp_path: Path,
    method: str,
    settings: dict[str, object],
) -> None:
    """kill -9 at any moment after the first checkpoint; every step waits, so that there is time to."""
    steps = {"steps": 40, "phase1_steps": 4, "checkpoint_every": 7, "validate_every": 10}
    profile_file = edited(tiny_profile_file, **steps, **settings)
    experiment = load_profile(profile_file).experiment("cs", "r25", method, 0)
    if method == "lorun":
        go(experiment.base)
        shutil.copytree(tmp_path / "runs", tmp_path / "whole")
    folder = tmp_path / "runs" / experiment.folder

    words = train_words(profile_file, method, tmp_path / "runs", tiny_data)
    process = start_processes(tmp_path / "printed", 1, command, words, "slow")
    process.wait_until((folder / "checkpoint.pt").exists)
    process.kill()
    assert process.exit_codes() == [-signal.SIGKILL]
    assert not (folder / "training.json").exists(), "it ended before it was killed"
    done = load_checkpoint(folder / "checkpoint.pt")["done"]
    assert 0 < done < experiment.training.steps

    go(experiment)
    go(experiment, "whole")
    assert_same_result(folder, tmp_path / "whole" / experiment.folder)
    assert not (folder / "checkpoint.pt").exists()


AVERAGED = {"ema": 0.5, "optimizer": "adamw", "weight_decay": 0.1, "warmup_steps": 3}
BEST = {"checkpoint_policy": "best_validation"}


@pytest.mark.parametrize(
    ("method", "settings", "cut"),
    [
        ("block_k", {}, 3),
        ("block_k", {}, 7),
        ("shared", AVERAGED, 5),
        ("shared", AVERAGED, 6),
        ("shared", {**BEST, "learning_rate": 0.05}, 6),
        ("shared", {**BEST, "learning_rate": 0.05}, 7),
        ("lorun_random", {**BEST, "ema": 0.5, "precision": "bfloat16"}, 3),
        ("lorun_random", {**BEST, "ema": 0.5, "precision": "bfloat16"}, 5),
    ],
)
def test_a_run_cut_anywhere_goes_on_to_the_same_bits(
    go: Callable[..., Outcome],
    tiny_profile: Profile,
    tmp_path: Path,
    method: str,
    settings: dict[str, object],
    cut: int,
) -> None:
    experiment = tiny(tiny_profile, method, **APART, **settings)
    assert go(experiment, cut=cut) is None
    assert load_checkpoint(tmp_path / "runs" / experiment.folder / "checkpoint.pt")["done"] == cut // 3 * 3
    go(experiment)
    go(experiment, "whole")
    assert_same_result(tmp_path / "runs" / experiment.folder, tmp_path / "whole" / experiment.folder)
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_the_best_weights_survive_a_cut(
    go: Callable[..., Outcome], tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best step lies before the cut, every later one is worse."""
    from lorun.training import loop

    monkeypatch.setattr(loop._Training, "_validate", lambda self: 30.0 - self.state.done)
    experiment = tiny(tiny_profile, "shared", checkpoint_policy="best_validation", validate_every=1)
    go(experiment, cut=5)
    outcome = go(experiment)
    go(experiment, "whole")
    assert outcome.scored_step == 1
    assert_same_result(tmp_path / "runs" / experiment.folder, tmp_path / "whole" / experiment.folder)


def test_a_resumed_run_takes_only_the_steps_that_are_left(
    go: Callable[..., Outcome], tiny_profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny(tiny_profile, "shared", **APART)
    go(experiment, cut=5)
    capsys.readouterr()
    go(experiment)
    assert "cs/r25/shared seed 0: step 3/8: resumes\n" in capsys.readouterr().err


def test_a_run_that_only_lacks_its_outcome_is_finished_from_its_checkpoint(
    go: Callable[..., Outcome], tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the last checkpoint and training.json."""
    experiment = tiny(tiny_profile, "shared", **APART)
    with monkeypatch.context() as patch:
        patch.setattr("lorun.training.loop.save_weights", lambda *_: (_ for _ in ()).throw(Cut))
        go(experiment)
    folder = tmp_path / "runs" / experiment.folder
    assert sorted(contents(folder)) == [".lock", "checkpoint.pt"]
    go(experiment)
    go(experiment, "whole")
    assert_same_result(folder, tmp_path / "whole" / experiment.folder)


def test_the_seconds_of_all_sessions_count(go: Callable[..., Outcome], tiny_profile: Profile, tmp_path: Path) -> None:
    experiment = tiny(tiny_profile, "shared", **APART)
    go(experiment, cut=5)
    path = tmp_path / "runs" / experiment.folder / "checkpoint.pt"
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, {**checkpoint, "seconds": checkpoint["seconds"] + 1000})
    assert 1000 < go(experiment).seconds < 1100


# Checkpoints that do not fit


def changed(**entries: object) -> Callable[[Path], None]:
    return lambda path: save_checkpoint(path, {**load_checkpoint(path), **entries})


def reshape_step_sizes(path: Path) -> None:
    saved = load_checkpoint(path)
    saved["system"]["network.step_sizes"] = torch.zeros(5)
    save_checkpoint(path, saved)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def forget_the_optimizer(path: Path) -> None:
    saved = load_checkpoint(path)
    del saved["optimizer"]
    save_checkpoint(path, saved)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, "not a checkpoint, or damaged"),
        (lambda path: path.write_bytes(b"."), "not a checkpoint, or damaged"),
        (lambda path: path.write_bytes(b"\0" * 5000), "not a checkpoint, or damaged"),
        (changed(key="0123456789"), "belongs to another experiment (key 0123456789, not "),
        (reshape_step_sizes, "at `network.step_sizes`: shape (5,) instead of (3,)"),
        (forget_the_optimizer, "not a checkpoint of this version (KeyError('optimizer'))"),
        (changed(optimizer={"state": {}, "param_groups": []}), "not a checkpoint of this version (ValueError("),
        (changed(average=None), "not a checkpoint of this version"),
    ],
    ids=["truncated", "garbage", "zeros", "key", "shape", "entry", "optimizer", "average"],
)
def test_a_checkpoint_that_does_not_fit_is_named_and_left_alone(
    go: Callable[..., Outcome], tiny_profile: Profile, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    experiment = tiny(tiny_profile, "shared", ema=0.5, **APART)
    go(experiment, cut=5)
    path = tmp_path / "runs" / experiment.folder / "checkpoint.pt"
    damage(path)
    before = contents(tmp_path / "runs")
    with pytest.raises(LorunError) as refused:
        go(experiment)
    assert str(refused.value).startswith(f"{path}: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path / "runs") == before


# Disks that cannot be written


@contextmanager
def mounted(folder: Path, *commands: list[str]) -> Iterator[None]:
    """Run mount commands that make something of `folder`; skip the test where that is not permitted."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a file system")
    done = 0
    try:
        for command in commands:
            result = subprocess.run(["mount", *command, str(folder)], capture_output=True, text=True, check=False)
            if result.returncode:
                pytest.skip(f"mounting is not permitted here: {result.stderr.strip()}")
            done += 1
        yield
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a failed test may hold a file


def train_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    words = ["lorun", "train", "--task", "cs", "--setting", "r25", "--method", "shared", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*words, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def error_line(stderr: str) -> str:
    """The one line that is not progress."""
    (line,) = [line for line in stderr.splitlines() if not re.match(r"cs/r25/shared seed 0: step \d+/8: ", line)]
    assert line.startswith("error: ")
    return line


def test_a_full_disk_is_reported_in_one_line_and_the_run_goes_on_when_there_is_room(
    go: Callable[..., Outcome],
    tiny_profile: Profile,
    tiny_profile_file: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = tiny(tiny_profile, "shared")
    go(experiment, "measure", cut=3)
    size = (tmp_path / "measure" / experiment.folder / "checkpoint.pt").stat().st_size
    disk = tmp_path / "disk"
    with mounted(disk, ["-t", "tmpfs", "-o", f"size={10 * size // 1024}k", "tmpfs"]):
        space = os.statvfs(disk)
        (disk / "other").write_bytes(bytes(space.f_bavail * space.f_bsize - 3 * size // 2))  # one checkpoint fits
        runs = disk / "runs"
        code = train_command(monkeypatch, "--config", tiny_profile_file, "--runs", runs, "--data", tiny_data)
        assert code == 1
        path = runs / experiment.folder / "checkpoint.pt"
        line = error_line(capsys.readouterr().err)
        assert line == f"error: cannot write {path}: No space left on device. What was there before is untouched."
        assert load_checkpoint(path)["done"] == 2
        assert sorted(contents(path.parent)) == [".lock", "checkpoint.pt"]

        (disk / "other").unlink()
        go(experiment, runs)
        go(experiment, "whole")
        assert_same_result(path.parent, tmp_path / "whole" / experiment.folder)


def test_a_limit_on_the_size_of_files_is_reported_in_one_line_and_the_run_goes_on_without_it(
    go: Callable[..., Outcome], tiny_profile: Profile, tiny_profile_file: Path, tiny_data: Path, tmp_path: Path
) -> None:
    experiment = tiny(tiny_profile, "shared")
    go(experiment, cut=3)
    path = tmp_path / "runs" / experiment.folder / "checkpoint.pt"
    before = contents(tmp_path / "runs")

    words = train_words(tiny_profile_file, "shared", tmp_path / "runs", tiny_data)
    process = start_processes(tmp_path / "printed", 1, command, words, "small files")
    assert process.exit_codes() == [1]
    line = error_line(process.err(0))
    assert line == f"error: cannot write {path}: File too large. What was there before is untouched."
    assert contents(tmp_path / "runs") == before

    go(experiment)
    go(experiment, "whole")
    assert_same_result(path.parent, tmp_path / "whole" / experiment.folder)


@pytest.mark.parametrize("method", ["shared", "lorun_random"])
def test_a_disk_that_fills_up_at_the_very_end(
    go: Callable[..., Outcome], tiny_profile: Profile, tmp_path: Path, method: str
) -> None:
    """The weights, then (for LoRun) the adapters do not fit any more; the last checkpoint finishes the run."""
    experiment = tiny(tiny_profile, method)
    go(experiment, "whole")
    whole = tmp_path / "whole" / experiment.folder
    weights = (whole / "weights.safetensors").stat().st_size
    disk = tmp_path / "disk"
    with mounted(disk, ["-t", "tmpfs", "-o", "size=2m", "tmpfs"]), pytest.MonkeyPatch.context() as patch:
        room = 12_000 + (weights if method == "lorun_random" else 0)
        save, filler = save_checkpoint, disk / "other"

        def save_and_fill(path: Path, checkpoint: dict[str, object]) -> None:
            save(path, checkpoint)
            if checkpoint["done"] == 8:
                space = os.statvfs(disk)
                filler.write_bytes(bytes(space.f_bavail * space.f_bsize - room))

        patch.setattr("lorun.training.checkpoint.save_checkpoint", save_and_fill)
        name = "adapters" if method == "lorun_random" else "weights.safetensors"
        with pytest.raises(LorunError, match=f"cannot write .*{name}: .*No space left on device"):
            go(experiment, disk)
        folder = disk / experiment.folder
        assert not list(disk.rglob("*.part"))
        assert read_outcome(folder) is None
        filler.unlink()
        go(experiment, disk)
        assert_same_result(folder, whole)


def test_adapters_are_written_whole_or_not_at_all_whatever_room_there_is(tiny_profile: Profile, tmp_path: Path) -> None:
    denoiser = build_system(tiny(tiny_profile, "lorun_random")).network.denoisers[0]
    disk, failures = tmp_path / "disk", []
    with mounted(disk, ["-t", "tmpfs", "-o", "size=1m", "tmpfs"]):
        space = os.statvfs(disk)
        for pages in range(space.f_bavail):  # ever more room, until it is enough
            (disk / "other").write_bytes(bytes((space.f_bavail - pages) * space.f_bsize))
            try:
                denoiser.save(disk / "adapters")
                break
            except LorunError as error:
                failures.append((str(error), os.listdir(disk)))
        assert len(failures) > 5
        for message, left in failures:
            assert re.match(f"cannot write {disk}/adapters: .*No space left on device", message)
            assert left == ["other"]
        denoiser.load(disk / "adapters")


@pytest.mark.parametrize("started", [False, True])
def test_a_disk_mounted_read_only_is_reported_in_one_line(
    go: Callable[..., Outcome],
    tiny_profile: Profile,
    tiny_profile_file: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    started: bool,
) -> None:
    experiment = tiny(tiny_profile, "shared")
    disk = tmp_path / "disk"
    disk.mkdir()
    if started:
        go(experiment, "disk", cut=3)
    before = contents(disk)
    capsys.readouterr()
    with mounted(disk, ["--bind", str(disk)], ["-o", "remount,ro,bind"]):
        code = train_command(monkeypatch, "--config", tiny_profile_file, "--runs", disk, "--data", tiny_data)
    assert code == 1
    line = error_line(capsys.readouterr().err)
    assert line == f"error: cannot write to {disk / experiment.folder}: Read-only file system"
    assert contents(disk) == before


def as_another_user() -> list[str]:
    """What to put before a command to run it without root's rights."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv to become another user by")
    look = subprocess.run([*prefix, sys.executable, "-c", "import numpy"], check=False, capture_output=True)
    if look.returncode:
        pytest.skip("another user cannot run this Python")
    return prefix


def test_a_folder_of_another_user_is_reported_in_one_line(
    tiny_profile: Profile, tiny_profile_file: Path, tiny_data: Path
) -> None:
    """As another user where the tests run as root, to whom permissions mean nothing."""
    with tempfile.TemporaryDirectory() as place:  # where every user may look, which tmp_path is not
        root = Path(place)
        shutil.copytree(tiny_data, root / "data")
        shutil.copy(tiny_profile_file, root)
        (root / "runs").mkdir(mode=0o555)
        root.chmod(0o755)
        words = train_words(root / tiny_profile_file.name, "shared", root / "runs", root / "data")
        program = [*as_another_user(), sys.executable, "-m", "lorun", *words]
        result = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 1
        folder = root / "runs" / tiny(tiny_profile, "shared").folder
        assert error_line(result.stderr) == f"error: cannot write to {folder}: Permission denied"
        assert not list((root / "runs").iterdir())
