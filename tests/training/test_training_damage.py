"""Files of a run that are gone, cut, changed or swapped: the run is made again, or refused in a line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorun.adapter_store import AdapterStore
from lorun.data.listing import check_cells
from lorun.devices import scoring_device
from lorun.errors import LorunError
from lorun.evaluation.reconstruct import evaluate
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.training import Outcome, loop, read_outcome, train
from lorun.training.patches import PatchStream
from lorun.training.weights import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
WEIGHTS = "weights.safetensors"


@pytest.fixture
def go(tiny_data: Path, tmp_path: Path) -> Callable[[Experiment], Outcome]:
    return lambda experiment: train(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU)


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [gone, cut, flipped])
@pytest.mark.parametrize("file", [WEIGHTS, "adapters/stage_1/adapter_model.safetensors"])
def test_a_run_with_damaged_files_is_not_used_and_is_made_again(
    go, tiny_profile: Profile, tiny_data: Path, tmp_path: Path, capsys, file: str, spoil: Callable[[Path], None]
) -> None:
    experiment = tiny_profile.experiment("cs", "r25", "lorun", 0)
    go(experiment.base)
    before = go(experiment)
    path = tmp_path / "runs" / experiment.folder / file
    whole = path.read_bytes()
    assert {WEIGHTS, "adapters/stage_1/adapter_model.safetensors"} <= set(before.files)
    spoil(path)
    words = f"{file}: (missing from a finished run|cut or changed since the run was finished); `lorun train` makes it"
    with pytest.raises(LorunError, match=words):
        evaluate(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU)
    with pytest.raises(LorunError, match=words):
        AdapterStore(tmp_path / "store").add("mine", tmp_path / "runs" / experiment.folder)
    again = go(experiment)
    assert file in capsys.readouterr().err
    assert path.read_bytes() == whole
    assert again.model_dump(exclude={"seconds"}) == before.model_dump(exclude={"seconds"})
    assert go(experiment) == again  # once


def test_a_damaged_base_is_not_started_from(go, tiny_profile: Profile, tmp_path: Path) -> None:
    experiment = tiny_profile.experiment("cs", "r25", "lorun", 0)
    go(experiment.base)
    flipped(tmp_path / "runs" / experiment.base.folder / WEIGHTS)
    with pytest.raises(LorunError, match=f"{WEIGHTS}: cut or changed since the run was finished"):
        go(experiment)


def test_a_run_that_recorded_no_hashes_is_taken_as_it_is(go, tiny_profile: Profile, tmp_path: Path) -> None:
    experiment = tiny_profile.experiment("cs", "r25", "shared", 0)
    folder = tmp_path / "runs" / experiment.folder
    go(experiment)
    path = folder / "training.json"
    old = Outcome.model_validate_json(path.read_text()).model_copy(update={"files": None})
    path.write_text(old.model_dump_json(exclude={"files"}))
    flipped(folder / WEIGHTS)
    assert go(experiment) == old
    gone(folder / WEIGHTS)
    assert go(experiment).files is not None


def test_a_damaged_outcome_is_made_again(go, tiny_profile: Profile, tmp_path: Path, capsys) -> None:
    experiment = tiny_profile.experiment("cs", "r25", "shared", 0)
    before = go(experiment)
    (tmp_path / "runs" / experiment.folder / "training.json").write_text("")
    assert go(experiment).files == before.files
    assert "training.json: damaged; `lorun train` makes the run again" in capsys.readouterr().err


# Checkpoints


class Cut(Exception):
    pass


@pytest.fixture
def checkpoint(go, tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of `shared`, after 6 of 8 steps."""
    experiment = tiny_profile.experiment("cs", "r25", "shared", 0)
    batch = PatchStream.batch

    def cut_short(self: PatchStream, step: int) -> torch.Tensor:
        if step == 7:
            raise Cut
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(PatchStream, "batch", cut_short)
        with pytest.raises(Cut):
            go(experiment)
    return tmp_path / "runs" / experiment.folder / "checkpoint.pt"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("done", value) for value in (10**9, -5, 0, 8, 7, "6", 6.5, True, None, [6])),
        *(("seconds", value) for value in (float("nan"), -1.0, "1", None)),
        *(("losses", value) for value in (None, ["a"], [0.1] * 9, {})),
        *(("curve", value) for value in (None, 3, [{}], [{"step": "4"}])),
        *(("system", value) for value in (None, [], 1)),
        *(("optimizer", value) for value in (None, {}, {"state": {}, "param_groups": []})),
        *(("random", value) for value in (None, {}, {"cpu": 3}, {"cpu": torch.zeros(3, dtype=torch.uint8)})),
    ],
)
def test_a_checkpoint_that_cannot_be_is_refused(go, tiny_profile, checkpoint: Path, name, value) -> None:
    save_checkpoint(checkpoint, {**load_checkpoint(checkpoint), name: value})
    with pytest.raises(
        LorunError, match=r"checkpoint\.pt: not a checkpoint of this version .*remove it to start"
    ) as error:
        go(tiny_profile.experiment("cs", "r25", "shared", 0))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_a_flipped_bit_in_a_checkpoint_is_noticed(go, tiny_profile, checkpoint: Path) -> None:
    """In the weights: torch itself loads them without a word."""
    system = load_checkpoint(checkpoint)["system"]
    content = bytearray(checkpoint.read_bytes())
    weights = next(value for value in system.values() if value.numel() > 100)
    stored = torch.empty(0, dtype=torch.uint8).set_(weights.untyped_storage()).numpy().tobytes()
    content[content.index(stored) + 40] ^= 1
    checkpoint.write_bytes(content)
    load_checkpoint(checkpoint)
    with pytest.raises(LorunError, match=r"checkpoint\.pt: damaged at .*; remove it to start the run again"):
        go(tiny_profile.experiment("cs", "r25", "shared", 0))
    checkpoint.unlink()
    assert go(tiny_profile.experiment("cs", "r25", "shared", 0)).status == "completed"


# Out of memory before the first step


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 8 TiB"), RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: 9")],
)
@pytest.mark.parametrize(("method", "place"), [("shared", "starting_system"), ("linear_mmse", "finish_untrained")])
def test_out_of_memory_while_a_run_is_set_up_is_its_outcome(
    go, tiny_profile, tmp_path, monkeypatch, method, place, error
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(loop, place, fail)
    experiment = tiny_profile.experiment("cs", "r25", method, 0)
    outcome = go(experiment)
    assert outcome.status == "out_of_memory"
    assert outcome.message == f"before the first step: {error}"
    assert read_outcome(tmp_path / "runs" / experiment.folder) == outcome


def test_half_a_copied_run_says_what_it_lacks(go, tiny_profile, tiny_data: Path, tmp_path: Path) -> None:
    experiment = tiny_profile.experiment("cs", "r25", "shared", 0)
    go(experiment)
    here, copy = tmp_path / "runs", tmp_path / "copy"
    (copy / experiment.folder).mkdir(parents=True)
    shutil.copy(here / experiment.folder / "training.json", copy / experiment.folder)
    with pytest.raises(LorunError, match=f"{WEIGHTS}: missing from a finished run"):
        evaluate(experiment, runs=copy, data=tiny_data, device=CPU)
    train(experiment, runs=copy, data=tiny_data, device=CPU)
    same = [load_file(folder / experiment.folder / WEIGHTS) for folder in (here, copy)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


# Scores by hand


@pytest.mark.parametrize("name", ["=1+1", "@sum", "+1", "-1", "a\nb", "a\rb", "a\u202eb", "x" * 201])
def test_names_that_tables_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(LorunError, match="rename it: names in tables are printable"):
        check_cells(["fine", name])
    check_cells(["001", "NA", "2.5", "café, 3", "a=b"])


def test_scores_are_computed_on_one_thread() -> None:
    torch.set_num_threads(2)
    assert scoring_device("cpu") == CPU
    assert torch.get_num_threads() == 1
