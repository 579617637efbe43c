"""The command line in use: help, listings, and a training from start to scores."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from output import Output
from PIL import Image
from tiny import PROJECT
from typer.main import get_command

from lorun import __version__, cli
from lorun.profiles import Profile
from lorun.results.store import read_evaluation, read_result_set


def commands() -> Iterator[tuple[list[str], list[str]]]:
    """Every command and its options and arguments."""

    def walk(command, words: list[str]) -> Iterator[tuple[list[str], list[str]]]:
        options = [opt for p in command.params if p.param_type_name == "option" for opt in p.opts]
        arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
        yield words, options + arguments
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*words, name])

    yield from walk(get_command(cli.app), [])


@pytest.mark.parametrize(("words", "options"), [pytest.param(*one, id=" ".join(one[0]) or "-") for one in commands()])
def test_help_lists_every_option(lorun: Callable[..., Output], words: list[str], options: list[str]) -> None:
    result = lorun(*words, "--help")
    assert result.status == 0
    assert result.err == ""
    assert [option for option in options if option.lower() not in result.out.lower()] == []
    assert lorun(*words, "-h").out == result.out


def test_the_commands() -> None:
    assert {" ".join(words) for words, _ in commands()} >= {
        *("train", "evaluate", "score", "account", "scaling", "latency", "table", "show", "list"),
        "adapters evaluate",
        *("config check", "config schema", "data list", "data verify"),
    }


def test_no_command_shows_the_help(lorun: Callable[..., Output]) -> None:
    result = lorun()
    assert result.status == 2
    assert "Usage:" in result.out
    assert "evaluate" in result.out


def test_the_version(lorun: Callable[..., Output]) -> None:
    assert lorun("--version") == (0, f"lorun {__version__}\n", "")


def test_a_misspelt_option_is_a_usage_error(lorun: Callable[..., Output], options: Callable[..., list[object]]) -> None:
    result = lorun(*options("train", method="shared"), "--sede", 0)
    assert result.status == 2
    assert "--sede" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("seed", ["-1", "one"])
def test_a_seed_is_a_whole_number_from_nought(
    lorun: Callable[..., Output], options: Callable[..., list[object]], seed: str
) -> None:
    result = lorun(*options("train", method="shared"), "--seed", seed)
    assert result.status == 2
    assert "--seed" in result.err
    assert not Path("runs").exists()


# Profiles and datasets


def test_config_check_prints_the_size_of_a_profile(
    lorun: Callable[..., Output], tiny_profile_file: Path, tiny_data: Path
) -> None:
    result = lorun("config", "check", tiny_profile_file, "--data", tiny_data)
    assert result == (0, f"{tiny_profile_file}: profile 'tiny', 1 tasks, 8 experiments\n", "")


def test_config_schema_is_a_schema(lorun: Callable[..., Output]) -> None:
    result = lorun("config", "schema")
    assert result.status == 0
    sections = yaml.safe_load(result.out)["$defs"].values()
    assert any("phase1_steps" in section.get("properties", {}) for section in sections)


def test_data_list_shows_the_state(lorun: Callable[..., Output], tiny_data: Path, tmp_path: Path) -> None:
    header, line = lorun("data", "list", "--data", tiny_data).out.splitlines()
    assert header.split()[:3] == ["name", "state", "role"]
    assert line.split() == ["tiny", "present", *"------"]
    root = tmp_path / "data"
    root.mkdir()
    for name in ("absent", "damaged"):
        manifest = (tiny_data / "tiny.md5").read_text()
        (root / f"{name}.md5").write_text(manifest.replace("  tiny/", f"  {name}/"))
    (root / "damaged").mkdir()
    lines = lorun("data", "list").out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [["absent", "absent"], ["damaged", "damaged"]]


def test_data_verify_gives_the_identity(lorun: Callable[..., Output], tiny_data: Path) -> None:
    result = lorun("data", "verify", "tiny", "--data", tiny_data)
    assert result.status == 0
    assert re.fullmatch(r"tiny: intact, [0-9a-f]{32}\.dir\n", result.out)


def test_data_verify_checks_all_before_it_fails(lorun: Callable[..., Output], tiny_data: Path) -> None:
    root = tiny_data.parent / "three"
    for name in ("a", "b", "c"):
        shutil.copytree(tiny_data / "tiny", root / name)
        (root / f"{name}.md5").write_text((tiny_data / "tiny.md5").read_text().replace("  tiny/", f"  {name}/"))
    for name in ("a", "b"):
        (root / name / "test/gray/blobs.png").unlink()
    result = lorun("data", "verify", "--data", root)
    assert result.status == 1
    assert result.out.startswith("c: intact, ")
    lines = result.err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["a", "b", "error"]
    assert lines[0].endswith("blobs.png is missing: run `lorun data fetch a` to restore it")
    assert lines[-1] == "error: 2 of 3 datasets are not intact"


# A run


def test_list_follows_a_run(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tiny_profile: Profile, tiny_profile_file: Path
) -> None:
    def state() -> dict[str, str]:
        lines = lorun("list", "-c", tiny_profile_file).out.splitlines()
        columns = [re.split(r"\s{2,}", line) for line in lines]
        return {name: state for state, name, _ in columns}

    names = [experiment.name for experiment in tiny_profile.experiments()]
    assert state() == dict.fromkeys(names, "not started")
    folder = Path("runs") / tiny_profile.experiment("cs", "r25", "shared", 0).folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").touch()
    assert state()["cs/r25/shared seed 0"] == "started"
    (folder / "checkpoint.pt").unlink()
    lorun(*options("train", method="shared"))
    assert state() == {**dict.fromkeys(names, "not started"), "cs/r25/shared seed 0": "completed"}


def test_training_twice_does_nothing_the_second_time(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tiny_profile: Profile
) -> None:
    folder = Path("runs") / tiny_profile.experiment("cs", "r25", "shared", 0).folder
    first = lorun(*options("train", method="shared"))
    assert (first.status, first.out) == (0, f"cs/r25/shared seed 0: completed after 8 steps: {folder}\n")
    assert "step 0/8: starts" in first.err
    assert re.search(r"step 8/8: loss [\d.e-]+, validation [\d.]+ dB, [\d.e+]+ steps/s, 0 s left", first.err)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}
    assert lorun(*options("train", method="shared")) == (0, first.out, "")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"} == times


def test_a_method_without_parameters_is_trained_in_no_steps(
    lorun: Callable[..., Output], options: Callable[..., list[object]]
) -> None:
    result = lorun(*options("train", method="linear_mmse"))
    assert result.status == 0
    assert "completed after 0 steps" in result.out


def test_scores_of_the_test_set_are_a_row_per_image_metric_and_protocol(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tiny_profile: Profile
) -> None:
    lorun(*options("train", method="shared"))
    result = lorun(*options("evaluate", method="shared"))
    folder = Path("runs") / tiny_profile.experiment("cs", "r25", "shared", 0).folder
    run, rows = read_evaluation(folder / "evaluation.csv")
    assert result.status == 0
    assert result.err == ""
    assert len(rows) == 2 * 2 * 2
    assert set(rows.image) == {"checks", "blobs"}
    assert (run["status"], run["steps"]) == ("completed", 8)
    assert set(rows.dataset) == {"tiny"}
    psnr = rows[(rows.metric == "psnr") & (rows.protocol == "cs_float_y")].value.mean()
    assert f"tiny: cs_float_y psnr {psnr:.4f}, cs_float_y ssim 0." in result.out
    assert [path.name for path in (folder / "reconstructions" / "tiny").iterdir()] == ["checks.png"]
    with Image.open(folder / "reconstructions" / "tiny" / "checks.png") as kept:
        assert (kept.size, kept.mode) == ((44, 40), "L")


def test_scoring_twice_writes_the_same_bytes(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tmp_path: Path
) -> None:
    lorun(*options("train", method="shared"))
    for out in ("a.csv", "b.csv"):
        assert lorun(*options("evaluate", method="shared"), "--out", out).status == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


@pytest.mark.parametrize("images", ["holiday", "holiday/", "."])
def test_scores_of_a_folder_are_named_after_it(
    lorun: Callable[..., Output],
    options: Callable[..., list[object]],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: str,
) -> None:
    lorun(*options("train", method="linear_mmse"), "--runs", tmp_path / "runs")
    folder = tmp_path / "holiday"
    folder.mkdir()
    with Image.open(tiny_data / "tiny/test/gray/checks.png") as image:
        image.convert("RGB").resize((33, 20)).save(folder / "beach.png")
    if images == ".":
        monkeypatch.chdir(folder)
    result = lorun(
        *options("evaluate", method="linear_mmse", data=None), "--runs", tmp_path / "runs", "--images", images
    )
    assert result.status == 0
    assert result.out.endswith(": holiday.csv\n")
    _, rows = read_evaluation(Path("holiday.csv"))
    assert set(rows.dataset) == {"holiday"}
    assert set(rows.image) == {"beach"}
    assert len(rows) == 4


def test_a_diverged_run_has_an_exit_status_of_its_own_and_no_rows(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tiny_profile_file: Path
) -> None:
    result = yaml.safe_load(tiny_profile_file.read_text())
    result["tasks"]["cs"]["training"] |= {"learning_rate": 1e30, "clip_norm": None}
    tiny_profile_file.write_text(yaml.safe_dump(result))
    for _ in range(2):  # done is done
        trained = lorun(*options("train", method="shared"))
        assert trained.status == 3
        assert "cs/r25/shared seed 0: diverged after 2 steps" in trained.out
        assert trained.err.splitlines()[-1] == "diverged: loss is nan at step 2 with learning rate 9.5e+29"
    assert "diverged        cs/r25/shared seed 0" in lorun("list", "-c", tiny_profile_file).out
    assert lorun(*options("evaluate", method="shared"), "--out", "rows.csv").status == 0
    run, rows = read_evaluation(Path("rows.csv"))
    assert rows.empty
    assert run["status"] == "diverged"
    assert run["message"] == "loss is nan at step 2 with learning rate 9.5e+29"


def test_a_step_is_predicted_at_other_sizes(lorun: Callable[..., Output], options: Callable[..., list[object]]) -> None:
    sizes = ["--batch", 3, "--patch", 24, "--image", 16, "--stages", 4, "--precision", "bfloat16"]
    result = lorun(*options("account", method="block_k", data=None), *sizes, "--recompute", "stage", "--out", "a.json")
    assert (result.status, result.err) == (0, "")
    record = json.loads(Path("a.json").read_text())
    assert [record[name] for name in ("step_batch", "step_patch", "image", "stages")] == [3, 24, 16, 4]
    assert "(3 patches of 24 pixels, bfloat16, recompute stage)" in result.out
    assert record["step_total"] == record["recomputed_total"] < record["kept_total"]
    table = {line.split()[0]: line.split()[1:] for line in result.out.splitlines()[2:]}
    totals = ("kept_total", "recomputed_total", "inference_total")
    assert table["total"] == [f"{record[name] / 1e6:.2f}" for name in totals]


def test_the_largest_batch_within_a_budget(lorun: Callable[..., Output], options: Callable[..., list[object]]) -> None:
    command = [*options("account", method="block_k", data=None), "--no-latency"]
    result = lorun(*command, "--budget", 1, "--recompute", "auto")
    assert (result.status, result.err) == (0, "")
    *_, none, stage = result.out.splitlines()[-1].split()
    for batch, recompute, fits in ((none, "none", True), (stage, "stage", True), (int(stage) + 1, "stage", False)):
        lorun(*command, "--batch", batch, "--recompute", recompute, "--out", "b.json")
        assert (json.loads(Path("b.json").read_text())["step_total"] <= 1e6) == fits
    assert int(stage) > int(none) > 0


def test_bytes_against_stages(lorun: Callable[..., Output], tiny_profile_file: Path) -> None:
    result = lorun("scaling", "-c", tiny_profile_file, "--stages", "2", "--out", "out/scaling.csv")
    assert result == (0, "wrote out/scaling.csv (30 rows) and out/scaling.png\n", "")
    assert sorted(os.listdir("out")) == ["scaling.csv", "scaling.png"]
    assert len(pd.read_csv("out/scaling.csv")) == 30


def test_from_training_to_tables(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tiny_profile_file: Path
) -> None:
    """Train, evaluate and account two methods, then tabulate and show them."""
    result = yaml.safe_load(tiny_profile_file.read_text())
    result["tasks"]["cs"]["strategies"] = ["shared"]
    tiny_profile_file.write_text(yaml.safe_dump(result))
    for method in ("shared", "linear_mmse"):
        assert lorun(*options("train", method=method)).status == 0
        assert lorun(*options("evaluate", method=method)).status == 0
        assert lorun(*options("account", method=method, data=None)).status == 0
    made = lorun("table", "-c", tiny_profile_file, "--no-figures")
    assert made == (0, "wrote results/tiny\n", "")
    shown = lorun("show", "results/tiny")
    assert (shown.status, shown.err) == (0, "")
    assert "linear_mmse" in shown.out
    assert "results/tiny/rows.csv" in shown.out
    assert len(read_result_set("results/tiny").rows) == 16
    assert not [path for path in Path("results/tiny").iterdir() if path.name.startswith(".")]
    assert os.listdir("results") == ["tiny"]


def test_pages_and_figures_are_made_again_without_the_runs(lorun: Callable[..., Output]) -> None:
    """Of a committed set: no table changes, and what needs the runs stays."""
    shutil.copytree(PROJECT / "results/transfer", "results/transfer")
    os.symlink(PROJECT / "config", "config")
    os.symlink(PROJECT / "data", "data")
    before = {path.name: path.read_bytes() for path in Path("results/transfer").iterdir()}
    for name in ("summary.md", "psnr_parameters_cs_photos_r25.png"):
        Path("results/transfer", name).unlink()
    assert lorun("table", "--from", "results/transfer") == (0, "wrote results/transfer\n", "")
    assert {path.name: path.read_bytes() for path in Path("results/transfer").iterdir()} == before
    assert lorun("table", "--from", "results/transfer", "--out", "paper", "--format", "pdf").status == 0
    made = {path.name for path in Path("paper").iterdir()}
    names = ("psnr_parameters_cs_photos_r10", "psnr_parameters_cs_photos_r25", "tuning_cs")
    figures = {f"{name}.{form}" for name in names for form in ("png", "pdf")}
    assert made == {"summary.md", "details.md", *figures}  # no strips, which need the runs
    assert Path("paper/psnr_parameters_cs_photos_r10.pdf").read_bytes().startswith(b"%PDF-")


def test_the_tables_are_printed_for_latex(lorun: Callable[..., Output]) -> None:
    text = lorun("show", PROJECT / "results/quick", "--format", "latex")
    assert (text.status, text.err) == (0, "")
    assert text.out.startswith("\\begin{table}\n\\centering\n\\caption{quick, cs, photos, r25")
    assert text.out.endswith("\\end{table}\n")


def test_the_verdict_table_is_written_between_its_markers(lorun: Callable[..., Output]) -> None:
    page = Path("page.md")
    page.write_text("before\n<!-- verdict -->\n<!-- /verdict -->\nafter\n")
    for state in ("updated", "up to date"):
        assert lorun("verdict", page, "--results", PROJECT / "results") == (0, f"page.md: {state}\n", "")
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert any("Block-K" in line for line in lines)
