"""`lorun adapters` and `lorun evaluate --adapters`: the library from the command line, and what it refuses."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lorun import cli
from lorun.profiles import Profile
from lorun.results.rows import read_rows
from lorun.training import train

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command line in a folder of its own; its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lorun", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def folders(run: Run, transfer_profile: Profile, tiny_data: Path) -> dict[str, Path]:
    """Runs in two settings on one random base, as both have the same seed, below `runs`."""
    found = {}
    for setting in ("r10", "r25"):
        experiment = transfer_profile.experiment("cs", setting, "lorun_random", 0)
        train(experiment, runs=Path("runs"), data=tiny_data, device=torch.device("cpu"))
        found[setting] = Path("runs") / experiment.folder
    return found


def test_add_list_activate_and_score(run: Run, folders: dict[str, Path], tiny_data: Path) -> None:
    assert run("adapters", "list") == (0, "adapters: no adapters; `lorun adapters add NAME --from RUN_FOLDER`\n", "")
    for name, folder in folders.items():
        status, out, err = run("adapters", "add", name, "--from", folder)
        assert (status, err) == (0, "")
        assert re.fullmatch(rf"{name}: added to adapters, [\d,]+ bytes of adapters on the base [0-9a-f]{{12}}\n", out)
    status, out, err = run("adapters", "activate", "r25", "--repeats", 1)
    assert (status, err) == (0, "")
    assert out.splitlines()[0].endswith(", the first")
    status, out, err = run("adapters", "activate", "r10", "--repeats", 2)
    assert (status, err) == (0, "")
    first, _, swap, reload, last = out.splitlines()
    assert re.fullmatch(r"r10: active on the base [0-9a-f]{12}, instead of r25", first)
    numbers = [[float(number.replace(",", "")) for number in line.split()[1:]] for line in (swap, reload)]
    assert all(number > 0 for line in numbers for number in line)
    assert numbers[0][1] < numbers[1][1]
    assert numbers[0][2] < numbers[1][2]
    assert last.startswith("Medians of 2 on this machine")
    assert [line[:5] for line in run("adapters", "list")[1].splitlines()[2:]] == ["*  r1", "   r2"]

    images = tiny_data / "tiny/test/gray"
    for name, where in (("active", "r10"), ("r25", "r25")):
        status, out, err = run("evaluate", "--adapters", name, "--images", images, "--out", f"{name}.csv")
        assert (status, err) == (0, "")
        assert out.startswith(f"cs/{where}/lorun_random seed 0: gray: cs_float_y psnr ")
        rows = read_rows(Path(f"{name}.csv"))
        assert set(rows.setting) == {where}
        assert set(rows.image) == {"checks", "blobs"}
        assert rows.value.notna().all()


def test_the_library_may_lie_anywhere(run: Run, folders: dict[str, Path], tiny_data: Path) -> None:
    assert run("adapters", "add", "r10", "--from", folders["r10"], "--library", "else/where")[0] == 0
    assert (
        run("evaluate", "--adapters", "r10", "--library", "else/where", "--images", tiny_data / "tiny/test/gray")[0]
        == 0
    )
    assert Path("gray.csv").exists()
    assert not Path("adapters").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapters", "add", "r10", "--from", "nowhere"], "nowhere: not the folder of a finished run"),
        (["adapters", "add", "a/b", "--from", "{r10}"], "'a/b' cannot name a set"),
        (["adapters", "add", "r25", "--from", "{r10}"], "adapters/sets/r25: there is such a set"),
        (["adapters", "activate", "r52"], "unknown set of adapters 'r52'. Did you mean 'r25'? Choices: r25"),
        (["adapters", "activate", "r25", "--library", "no"], "no: no adapters here; `lorun adapters add NAME --from"),
        (["evaluate", "--adapters", "active", "--images", "mine"], "adapters: no set is active; `lorun adapters activ"),
        (["evaluate", "--adapters", "r25"], "name a folder with --images to score adapters on"),
        (["evaluate", "--adapters", "r25", "--images", "mine"], "no folder mine"),
        (
            ["evaluate", "--adapters", "r25", "--images", "m", "--method", "lorun"],
            "--adapters goes with --library, --im",
        ),
    ],
)
def test_mistakes_are_one_line(run: Run, folders: dict[str, Path], words: list[str], message: str) -> None:
    assert run("adapters", "add", "r25", "--from", folders["r25"])[0] == 0
    status, out, err = run(*(word.format(**folders) for word in words))
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not list(Path().glob("*.csv"))
    assert not Path("no").exists()
