"""Wrong inputs: one line on stderr that names the thing, a status that is not 0, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from output import Output
from PIL import Image
from tiny import PROJECT

from lorun.profiles import Profile

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def rewritten(tiny_profile_file: Path) -> Callable[[Change], Path]:
    """The tiny profile with a change."""

    def rewritten(change: Change) -> Path:
        profile = yaml.safe_load(tiny_profile_file.read_text())
        change(profile)
        tiny_profile_file.write_text(yaml.safe_dump(profile))
        return tiny_profile_file

    return rewritten


def task(profile: dict[str, Any]) -> dict[str, Any]:
    return profile["tasks"]["cs"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda p: task(p)["training"].update(batchh=3),
            ["`tasks.cs.training.batchh`", "Did you mean `batch`?"],
        ),
        (lambda p: p.update(seed=[0]), ["unknown key `seed`", "Did you mean `seeds`?"]),
        (lambda p: task(p)["settings"].update(r25=None), ["`tasks.cs.settings.r25` (=None)"]),
        (lambda p: task(p)["training"].update(ema=1.5), ["`tasks.cs.training.ema` (=1.5)", "less than 1"]),
        (lambda p: p.pop("seeds"), ["`seeds` is missing"]),
        (lambda p: p.update(tasks={"cs": 5}), ["`tasks.cs` (=5)"]),
        (lambda p: p.update(extends="base.yaml"), ["unknown profile", "base.yaml", "tiny.yaml"]),
    ],
)
def test_a_profile_with_a_mistake(
    error: Callable[..., str], rewritten: Callable[[Change], Path], change: Change, words: list[str]
) -> None:
    path = rewritten(change)
    message = error("config", "check", path)
    assert [word for word in words if word not in message] == []
    assert str(path.parent) in message
    assert message == error("list", "-c", path)


@pytest.mark.parametrize("command", ["train", "evaluate", "account", "table", "list"])
def test_a_missing_profile_names_the_nearest(
    error: Callable[..., str], tiny_profile_file: Path, options: Callable[..., list[object]], command: str
) -> None:
    wrong = tiny_profile_file.with_name("tinny.yaml")
    words = [command, "-c", wrong] if command in ("table", "list") else options(command, config=wrong, data=None)
    known = tiny_profile_file
    assert error(*words) == f"unknown profile '{wrong}'. Did you mean '{known}'? Choices: {known}"


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "sc"}, "unknown task 'sc'. Choices: cs"),
        ({"setting": "r52"}, "unknown setting 'r52'. Did you mean 'r25'? Choices: r25"),
        ({"method": "shred"}, "unknown method 'shred'. Did you mean 'shared'? Choices: block1, block_k, shared, "),
        ({"device": "gpu"}, "unknown device 'gpu'. Did you mean 'cpu'? Choices: auto, cpu, cuda"),
    ],
)
def test_a_name_that_is_not_known(
    error: Callable[..., str],
    options: Callable[..., list[object]],
    command: str,
    changes: dict[str, object],
    words: str,
) -> None:
    assert error(*options(command, **changes)).startswith(words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--recompute", "stages"],
            "unknown recompute 'stages'. Did you mean 'stage'? Choices: none, stage, half_stage",
        ),
        (["--precision", "half"], "unknown precision 'half'. Choices: auto, float32, bfloat16"),
        (["--stages", 3], "'linear_mmse' has no stages to choose; block_k, shared, "),
    ],
)
def test_an_account_that_cannot_be(
    error: Callable[..., str], options: Callable[..., list[object]], more: list[object], words: str
) -> None:
    assert error(*options("account", data=None), *more).startswith(words)
    assert not Path("runs").exists()


def test_a_step_that_is_predicted_not_to_fit(
    error: Callable[..., str], options: Callable[..., list[object]], rewritten: Callable[[Change], Path]
) -> None:
    rewritten(lambda p: task(p)["training"].update(recompute="auto", memory_budget=0.01))
    message = error(*options("train", method="shared"))
    assert message.startswith(
        "cs/r25/shared seed 0: a step on 2 patches of 16 x 16 pixels is predicted to take 0.3 MB with "
    )
    assert "the budget is 0.0 MB: lower `batch` or `patch`, or raise `memory_budget`" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(error: Callable[..., str], options: Callable[..., list[object]]) -> None:
    assert error(*options("train", device="cuda")) == "device 'cuda': no usable GPU here; choose 'auto' or 'cpu'"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: task(p)["data"].update(train="tyni"), "unknown dataset 'tyni'. Choices: tiny"),
        (
            lambda p: task(p)["data"].update(channels=3),
            "the protocol 'cs_float_y' is for 1 channels, `data.channels` is 3",
        ),
        (
            lambda p: task(p)["settings"]["r25"].update(ratio=0.1),
            "ratio 0.1 % of 64 pixels gives 0 measurements",
        ),
        (
            lambda p: task(p)["physics"].update(matrix="file", matrix_file="no.npy"),
            "no file no.npy",
        ),
        (lambda p: task(p)["data"].update(test=["tyni"]), "unknown dataset 'tyni'. Choices: tiny"),
        (lambda p: task(p)["training"].update(patch=64), "40 x 44, smaller than a patch of 64 x 64 pixels"),
    ],
)
def test_a_training_that_cannot_start(
    error: Callable[..., str],
    options: Callable[..., list[object]],
    rewritten: Callable[[Change], Path],
    change: Change,
    words: str,
) -> None:
    assert words in error(*options("train", config=rewritten(change), method="shared"))
    assert not [path for path in Path("runs").rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_baseline_that_is_not_there(
    error: Callable[..., str], options: Callable[..., list[object]], rewritten: Callable[[Change], Path]
) -> None:
    profile = rewritten(lambda p: task(p)["baselines"].append("linear_nmse"))
    message = error(*options("train", config=profile, method="linear_nmse"))
    words = "`tasks.cs`: `baselines`: unknown baseline 'linear_nmse'. Did you mean 'linear_mmse'? Choices: "
    assert message.startswith(f"{profile}: {words}")


def test_data_that_is_missing(error: Callable[..., str], options: Callable[..., list[object]]) -> None:
    assert error(*options("train", data="elsewhere")).startswith(
        "no elsewhere/registry.yaml and no dataset manifest elsewhere/*.md5"
    )
    assert error("data", "list", "--data", "elsewhere").startswith(
        "no elsewhere/registry.yaml and no dataset manifest elsewhere/*.md5"
    )


def test_data_verify_names_what_is_wrong(error: Callable[..., str], tiny_data: Path, tmp_path: Path) -> None:
    assert error("data", "verify", "tyni", "--data", tiny_data) == "unknown dataset 'tyni'. Choices: tiny"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tiny.md5").write_bytes((tiny_data / "tiny.md5").read_bytes())
    assert error("data", "verify", "tiny").startswith(
        "data/tiny/test/gray/blobs.png (and 5 more files differ) is missing"
    )


# Scores of a folder of images


@pytest.fixture
def trained(lorun: Callable[..., Output], options: Callable[..., list[object]]) -> None:
    assert lorun(*options("train")).status == 0


def test_a_folder_with_an_image_smaller_than_a_block(
    error: Callable[..., str], trained: None, options: Callable[..., list[object]]
) -> None:
    Path("mine").mkdir()
    Image.new("L", (20, 20)).save("mine/large.png")
    Image.new("L", (20, 7)).save("mine/small.png")
    message = error(*options("evaluate", images="mine"))
    assert message == "image small is 7 x 20, smaller than the 8 pixels that are measured together"
    assert not Path("mine.csv").exists()


def test_a_folder_with_a_truncated_image(
    error: Callable[..., str], trained: None, options: Callable[..., list[object]], tiny_data: Path
) -> None:
    Path("mine").mkdir()
    whole = (tiny_data / "tiny/test/gray/checks.png").read_bytes()
    Path("mine/cut.png").write_bytes(whole[: len(whole) // 2])
    assert error(*options("evaluate", images="mine")).startswith("mine/cut.png cannot be decoded (")
    assert not Path("mine.csv").exists()


def test_a_folder_without_images_and_no_folder(
    error: Callable[..., str], trained: None, options: Callable[..., list[object]]
) -> None:
    Path("mine").mkdir()
    assert error(*options("evaluate", images="mine")).startswith("no images in mine: looked for .bmp, ")
    assert error(*options("evaluate", images="theirs")) == "no folder theirs: name a folder of images"


@pytest.mark.parametrize("damage", [None, b"not safetensors"])
def test_weights_that_cannot_be_read(
    error: Callable[..., str], trained: None, options: Callable[..., list[object]], damage: bytes | None
) -> None:
    (weights,) = Path("runs").rglob("weights.safetensors")
    weights.unlink() if damage is None else weights.write_bytes(damage)
    assert error(*options("evaluate")).startswith(f"{weights}: ")


# Steps taken in the wrong order


def test_scoring_what_is_not_trained(
    error: Callable[..., str], options: Callable[..., list[object]], tiny_profile: Profile
) -> None:
    folder = Path("runs") / tiny_profile.experiment("cs", "r25", "shared", 0).folder
    words = f"cs/r25/shared seed 0 is not trained ({folder}): run `lorun train` first"
    assert error(*options("evaluate", method="shared")) == words
    Path("mine").mkdir()
    assert error(*options("evaluate", method="shared", images="mine")) == words


def test_lorun_before_its_pretraining(error: Callable[..., str], options: Callable[..., list[object]]) -> None:
    message = error(*options("train", method="lorun"))
    assert message.startswith("cs/r25/lorun seed 0: its pretrained base is missing (runs/cs/r25/pretrain/seed0-")


def test_a_table_of_runs_that_are_missing(error: Callable[..., str], tiny_profile_file: Path) -> None:
    message = error("table", "-c", tiny_profile_file)
    assert message.startswith("cs/r25/block1 seed 0 is not accounted (runs/cs/r25/block1/accounting-")
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table"], "lorun table: give a profile (--config), or a result set to make again (--from)"),
        (["table", "--from", "results/tiny", "--keep"], "--from reads no runs: leave out --partial and --keep"),
        (
            ["table", "--from", "nowhere", "-c", PROJECT / "config/smoke.yaml"],
            "nowhere: neither a folder nor a git revision",
        ),
        (["table", "--from", "nowhere", "--format", "svg"], "unknown format 'svg'"),
        (["show", PROJECT / "results/quick", "--format", "html"], "unknown format 'html'"),
    ],
)
def test_pages_that_cannot_be_made(error: Callable[..., str], words: list[object], message: str) -> None:
    assert error(*words).startswith(message)


def test_showing_a_folder_without_results(error: Callable[..., str]) -> None:
    assert error("show", "nowhere") == "nowhere: neither a folder nor a git revision (REV or REV:FOLDER)"


def test_listing_a_run_whose_outcome_is_damaged(
    lorun: Callable[..., Output], tiny_profile: Profile, tiny_profile_file: Path
) -> None:
    folder = Path("runs") / tiny_profile.experiment("cs", "r25", "shared", 0).folder
    folder.mkdir(parents=True)
    (folder / "training.json").write_text('{"status": "comp')
    lines = lorun("list", "-c", tiny_profile_file).out.splitlines()
    assert [line for line in lines if line.startswith("damaged ")] == [line for line in lines if str(folder) in line]
    assert any(f"{folder}/training.json: damaged" in line for line in lines)


@pytest.mark.parametrize("where", [".", ".."])
def test_a_folder_is_no_table(lorun: Callable[..., Output], options: Callable[..., list[object]], where: str) -> None:
    status, _, err = lorun(*options("evaluate", out=where))
    assert status == 2
    assert "is a directory" in err


def test_a_result_set_does_not_replace_the_folder_around(
    error: Callable[..., str], tiny_profile_file: Path, tmp_path: Path
) -> None:
    for out in (".", tmp_path.parent):
        message = error("table", "-c", tiny_profile_file, "--out", out, "--partial", "--no-figures")
        assert message.startswith(f"{out}: a result set takes the place of its folder")
    assert tiny_profile_file.exists()


def test_scores_that_cannot_be_written(
    error: Callable[..., str], trained: None, options: Callable[..., list[object]]
) -> None:
    Path("file").touch()
    assert error(*options("evaluate", out="file/rows.csv")).startswith("cannot write file/rows.json: ")
