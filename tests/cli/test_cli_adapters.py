"""`lorun adapters`: the adapter store from the command line, and its errors."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from output import Output

from lorun.evaluation.reconstruct import evaluate_folder
from lorun.profiles import Profile
from lorun.results.store import read_evaluation
from lorun.training import train

Run = Callable[..., Output]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def folders(trained: Path, transfer_profile: Profile, tiny_data: Path) -> dict[str, Path]:
    """Runs in two settings on one random base, as both have the same seed."""
    found = {}
    for setting in ("r10", "r25"):
        experiment = transfer_profile.experiment("cs", setting, "lorun_random", 0)
        train(experiment, runs=trained, data=tiny_data, device=CPU)
        found[setting] = trained / experiment.folder
    return found


def test_add_list_activate_and_score(
    lorun: Run, folders: dict[str, Path], trained: Path, transfer_profile: Profile, tiny_data: Path
) -> None:
    empty = "adapters: no adapters; `lorun adapters add NAME --from RUN_FOLDER` adds them\n"
    assert lorun("adapters", "list") == (0, empty, "")
    for name, folder in folders.items():
        added = lorun("adapters", "add", name, "--from", folder)
        assert (added.status, added.err) == (0, "")
        pattern = rf"{name}: added to adapters, [\d,]+ bytes of adapters on the base [0-9a-f]{{12}}\n"
        assert re.fullmatch(pattern, added.out)
    activated = lorun("adapters", "activate", "r25")
    assert (activated.status, activated.err) == (0, "")
    assert re.fullmatch(r"r25: active on the base [0-9a-f]{12}\n", activated.out)
    first, swap, reload, last = lorun("adapters", "activate", "r10", "--time").out.splitlines()
    base = first.split()[-1]
    assert first == f"r10: active on the base {base}"
    numbers = [[float(word.replace(",", "")) for word in line.split()[1::2]] for line in (swap, reload)]
    assert numbers[0][0] > 0
    assert 0 < numbers[0][1] < numbers[1][1]
    assert last == "Medians of 5 on this machine."
    assert [line.split()[:2] for line in lorun("adapters", "list").out.splitlines()[1:]] == [
        ["*", "r10"],
        ["r25", base],
    ]

    images = tiny_data / "tiny/test/gray"
    for name, setting in (("active", "r10"), ("r25", "r25")):
        scored = lorun("adapters", "evaluate", name, "--images", images, "--out", f"{name}.csv", "--device", "cpu")
        assert (scored.status, scored.err) == (0, "")
        assert scored.out.startswith(f"cs/{setting}/lorun_random seed 0: gray: cs_float_y psnr ")
        experiment = transfer_profile.experiment("cs", setting, "lorun_random", 0)
        expected = evaluate_folder(experiment, images, runs=trained, device=CPU)
        values = pytest.approx([row["value"] for row in expected.rows], abs=1e-6)
        assert list(read_evaluation(Path(f"{name}.csv"))[1].value) == values


def test_the_store_may_be_any_folder(lorun: Run, folders: dict[str, Path], tiny_data: Path) -> None:
    store = ["--store", "else/where"]
    assert lorun("adapters", "add", "r10", "--from", folders["r10"], *store).status == 0
    assert lorun("adapters", "evaluate", "r10", "--images", tiny_data / "tiny/test/gray", *store).status == 0
    assert Path("gray.csv").exists()
    assert not Path("adapters").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "r10", "--from", "nowhere"], "nowhere: not the folder of a finished run"),
        (["add", "a/b", "--from", "{r10}"], "'a/b' cannot name a set"),
        (["add", "r25", "--from", "{r10}"], "adapters/sets/r25: exists; choose another name"),
        (["activate", "r52"], "unknown set of adapters 'r52'. Did you mean 'r25'? Choices: r25"),
        (["activate", "r25", "--store", "no"], "no: no adapters here; `lorun adapters add NAME --from RUN_FOLDER`"),
        (["evaluate", "active", "--images", "mine"], "adapters: no set is active; `lorun adapters activate NAME`"),
        (["evaluate", "r25", "--images", "mine"], "no folder mine"),
    ],
)
def test_mistakes_are_one_line(lorun: Run, folders: dict[str, Path], words: list[str], message: str) -> None:
    assert lorun("adapters", "add", "r25", "--from", folders["r25"]).status == 0
    status, out, err = lorun("adapters", *(word.format(**folders) for word in words))
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not list(Path().glob("*.csv"))
    assert not Path("no").exists()
