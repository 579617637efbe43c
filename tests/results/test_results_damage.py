"""Damaged runs and tables: what cannot be trusted is not tabulated, and the workflow makes it again."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from made_up import write_runs

from lorun.errors import LorunError
from lorun.profiles import Profile
from lorun.results.damage import remove_damaged
from lorun.results.paths import account_path
from lorun.results.result_set import write_result_set
from lorun.results.store import read_result_set


@pytest.fixture
def runs(tiny_profile: Profile, tmp_path: Path) -> Path:
    """Runs with empty weights."""
    write_runs(tiny_profile, tmp_path / "runs", "checks", "blobs")
    for experiment in tiny_profile.experiments():
        (tmp_path / "runs" / experiment.folder / "weights.safetensors").touch()
    return tmp_path / "runs"


def cut(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


def removed(profile: Profile, runs: Path) -> list[str]:
    return list(remove_damaged(profile, runs, runs.parent / "results"))


def test_what_is_whole_stays(tiny_profile, runs) -> None:
    write_result_set(tiny_profile, runs, runs.parent / "results")
    assert removed(tiny_profile, runs) == []


def record_hash(path: Path) -> None:
    """As if these scores had been written."""
    about = path.with_suffix(".json")
    line = json.loads(about.read_text()) | {"rows_sha256": sha256(path.read_bytes()).hexdigest()}
    about.write_text(json.dumps(line))


@pytest.mark.parametrize(
    ("lines", "hashed", "words"),
    [(5, False, "cut or changed"), (4, True, "3 scores of 1 images"), (1, True, "0 scores")],
)
def test_scores_that_were_cut_are_not_tabulated(tiny_profile, runs, lines, hashed, words) -> None:
    """Of two images under two protocols with two metrics; five lines hold a whole image. `hashed`: by their writer."""
    path = runs / tiny_profile.experiment("cs", "r25", "lorun", 0).folder / "evaluation.csv"
    cut(path, lines)
    if hashed:
        record_hash(path)
    out = runs.parent / "results"
    with pytest.raises(LorunError, match=f"lorun.*: {words}"):
        write_result_set(tiny_profile, runs, out)
    summary = write_result_set(tiny_profile, runs, out, partial=True).set_index("method")
    assert set(summary.loc["lorun", "status"]) == {"failed"}
    assert summary.loc["lorun", "psnr"].isna().all()
    message = read_result_set(out).runs.set_index("method").message["lorun"]
    assert "`lorun evaluate` makes" in message
    (reason,) = removed(tiny_profile, runs)
    assert words in reason
    assert not path.exists()


def test_all_runs_have_the_same_images(tiny_profile, runs) -> None:
    path = runs / tiny_profile.experiment("cs", "r25", "lorun", 0).folder / "evaluation.csv"
    cut(path, 5)
    record_hash(path)
    with pytest.raises(LorunError, match=r"lorun.*: 1 images of tiny, other runs have 2|other runs have 1; `lorun"):
        write_result_set(tiny_profile, runs, runs.parent / "results")


def test_scores_of_another_run_are_refused(tiny_profile, runs) -> None:
    mine, other = (runs / tiny_profile.experiment("cs", "r25", name, 0).folder for name in ("lorun", "shared"))
    for name in ("evaluation.csv", "evaluation.json"):
        (mine / name).write_bytes((other / name).read_bytes())
    with pytest.raises(LorunError, match="scores of another run"):
        write_result_set(tiny_profile, runs, runs.parent / "results")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "completed"}'])
def test_a_damaged_training_or_account_is_named_and_made_again(tiny_profile, runs, text) -> None:
    experiment, out = tiny_profile.experiment("cs", "r25", "lorun", 0), runs.parent / "results"
    files = {"training.json": runs / experiment.folder / "training.json", "accounting-": account_path(runs, experiment)}
    for name, path in files.items():
        whole = path.read_text()
        path.write_text(text)
        with pytest.raises(LorunError, match=f"{name}.*: damaged; "):
            write_result_set(tiny_profile, runs, out)
        assert len(write_result_set(tiny_profile, runs, out, partial=True)) == 2 * len(tiny_profile.tasks["cs"].methods)
        (line,) = removed(tiny_profile, runs)
        assert line.startswith(f"made again: {path}: damaged; ")
        path.write_text(whole)


def test_weights_that_are_gone_are_made_again(tiny_profile, runs) -> None:
    folder = runs / tiny_profile.experiment("cs", "r25", "pretrain", 0).folder
    for name in ("training.json", "weights.safetensors"):
        (folder).mkdir(parents=True, exist_ok=True)
        source = runs / tiny_profile.experiment("cs", "r25", "lorun", 0).folder / name
        (folder / name).write_bytes(source.read_bytes())
    (folder / "weights.safetensors").unlink()
    (line,) = removed(tiny_profile, runs)
    assert (
        line == f"made again: {folder}/weights.safetensors: missing from a finished run; `lorun train` makes it again"
    )
    assert not (folder / "training.json").exists()


@pytest.mark.parametrize("name", ["summary.csv", "curves.csv", "code.json", "version.json"])
def test_a_damaged_table_is_made_again(tiny_profile, runs, name) -> None:
    out = runs.parent / "results"
    write_result_set(tiny_profile, runs, out)
    path = out / name
    path.write_text(path.read_text()[: path.stat().st_size // 2])
    (line,) = removed(tiny_profile, runs)
    assert f"made again: {path}: " in line
    assert not (out / "summary.csv").exists()
