"""A score over commits, in a git repository of its own; and what DVC says of two of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from made_up import git
from PIL import Image
from tiny import PROJECT

from lorun import cli
from lorun.errors import LorunError
from lorun.results.history import history, render, write_plot
from lorun.results.store import LINE

ALL = dict.fromkeys(LINE)
LORUN = {**ALL, "task": "cs", "method": "lorun"}

LINES = [
    ("cs", "photos", "r25", "cs_float_y", "lorun", 26.0, 0.5, 100),
    ("cs", "photos", "r25", "cs_float_y", "block_k", 27.0, None, 400),
    ("cs", "photos", "r25", "cs_round_y", "lorun", 25.9, 0.5, 100),
    ("cassi", "cubes", "sim", "cassi_dpu", "lorun", 30.0, None, 50),
]
VERSION = {"result_set": "quick", "schema": 1, "scores": ""}
COLUMNS = ["task", "dataset", "setting", "protocol", "method", "psnr", "psnr_sd", "parameters_network"]


class Repository:
    """Commits summaries of the result set `quick`."""

    def __init__(self, root: Path) -> None:
        git(root.parent, "init", "--quiet", "--initial-branch=main", str(root))
        self.folder = root / "results" / "quick"
        self.folder.mkdir(parents=True)
        self.root = root

    def commit(self, subject: str, table: pd.DataFrame | str, version: int | None = None) -> str:
        text = table if isinstance(table, str) else table.to_csv(index=False)
        (self.folder / "summary.csv").write_text(text)
        if version is not None:
            (self.folder / "version.json").write_text(json.dumps({**VERSION, "version": version}))
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", subject)
        return git(self.root, "rev-parse", "HEAD")


def table(**changed: object) -> pd.DataFrame:
    """The summary, with other values in its first line."""
    frame = pd.DataFrame(LINES, columns=COLUMNS)
    for column, value in changed.items():
        frame.loc[0, column] = value
    return frame


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def test_a_value_is_listed_at_the_commits_that_changed_it(repository):
    first = repository.commit("First", table())
    repository.commit("A line that is not asked for", table().assign(psnr=[26.0, 28.0, 25.9, 30.0]))
    third = repository.commit("Third", table(psnr=26.25), version=2)
    found = history([repository.folder], "psnr", LORUN).table
    rows = found[["commit", "subject", "version", "protocol", "value", "sd"]].astype(object)
    assert rows.where(rows.notna(), None).to_numpy().tolist() == [
        [first, "First", None, "cs_float_y", 26.0, 0.5],
        [third, "Third", 2, "cs_float_y", 26.25, 0.5],
    ]
    printed = render(history([repository.folder], "psnr", LORUN)).splitlines()
    assert printed[0] == "quick/cs/photos/r25/cs_float_y/lorun: psnr"
    assert printed[1].split()[1:] == [first[:9], "26", "±", "0.5", "First"]
    assert printed[2].split()[1:] == [third[:9], "26.25", "±", "0.5", "+0.25", "version", "2", "Third"]


def test_counts_have_a_history_as_scores_have(repository):
    repository.commit("First", table())
    repository.commit("Second", table(parameters_network=90))
    found = history([repository.folder], "parameters_network", LORUN).table
    assert found["value"].tolist() == [100, 90]
    assert found.sd.isna().all()


def test_every_line_of_the_leading_protocol_is_a_series_unless_one_is_named(repository):
    repository.commit("First", table())
    found = history([repository.folder], "psnr", ALL).table
    assert list(found[["task", "protocol", "method"]].itertuples(index=False, name=None)) == [
        ("cs", "cs_float_y", "lorun"),
        ("cs", "cs_float_y", "block_k"),
        ("cassi", "cassi_dpu", "lorun"),
    ]
    assert history([repository.folder], "psnr", {**ALL, "protocol": "cs_round_y"}).table["value"].tolist() == [25.9]


def test_revisions_with_other_columns_are_read_as_far_as_they_go(repository):
    without = table().drop(columns="parameters_network").rename(columns={"psnr_sd": "sd"})
    old = repository.commit("Without counts", without)
    broken = repository.commit("Without methods", table().drop(columns="method"))
    empty = repository.commit("No table", "")
    repository.commit("Today's", table())
    psnr = history([repository.folder], "psnr", LORUN)
    assert psnr.table["value"].tolist() == [26.0, 26.0]
    assert psnr.table.sd.isna().tolist() == [True, False]
    network = history([repository.folder], "parameters_network", LORUN)
    assert network.table["value"].tolist() == [100]
    reasons = [one.split(": ", 1)[1] for one in network.unread]
    assert reasons[0] == "summary.csv: wrong columns: method"
    assert reasons[1].startswith("summary.csv: empty file")
    assert reasons[2] == "has no column 'parameters_network'"
    assert [one.split(" at ")[1][:9] for one in network.unread] == [broken[:9], empty[:9], old[:9]]
    assert render(network).count("not read: ") == 3


def test_a_line_that_is_gone_has_no_value_from_there_on(repository):
    repository.commit("First", table())
    gone = repository.commit("Gone", table()[1:])
    repository.commit("Still", table()[1:].assign(psnr=1.0))
    repository.commit("Back", table())
    found = history([repository.folder], "psnr", {**LORUN, "protocol": "cs_float_y"}).table
    assert found["value"].isna().tolist() == [False, True, False]
    assert found.commit[1] == gone


def test_a_table_that_was_removed_and_came_back(repository):
    repository.commit("First", table())
    (repository.folder / "summary.csv").unlink()
    git(repository.root, "commit", "--all", "--quiet", "--message", "Removed")
    repository.commit("Back", table(psnr=27.0))
    assert history([repository.folder], "psnr", LORUN).table["value"].tolist() == [26.0, 27.0]


@pytest.mark.parametrize(
    ("metric", "chosen", "message"),
    [
        ("pnsr", {}, "unknown metric 'pnsr'. Did you mean 'psnr'? Choices: parameters_network, psnr, psnr_sd"),
        ("psnr", {"task": "sr"}, "unknown task 'sr'. Choices: cassi, cs"),
        ("psnr", {"method": "lorum"}, "unknown method 'lorum'. Did you mean 'lorun'? Choices: block_k, lorun"),
    ],
)
def test_what_no_revision_has_is_named(repository, metric, chosen, message):
    repository.commit("First", table())
    with pytest.raises(LorunError) as error:
        history([repository.folder], metric, {**ALL, **chosen})
    assert str(error.value) == message


def test_a_folder_without_a_history_is_named(repository, tmp_path):
    repository.commit("First", table())
    (repository.root / "results/other").mkdir()
    with pytest.raises(LorunError, match=r"results/other: no summary\.csv in the history of git"):
        history([repository.root / "results/other"], "psnr", ALL)
    (tmp_path / "outside" / "quick").mkdir(parents=True)
    with pytest.raises(LorunError, match="not a git repository"):
        history([tmp_path / "outside" / "quick"], "psnr", ALL)


def test_the_plot_is_an_image_with_the_same_bytes_each_time(repository, tmp_path):
    repository.commit("First", table())
    repository.commit("Second", table(psnr=26.5))
    found = history([repository.folder], "psnr", {**ALL, "task": "cs"})
    for name in ("a.png", "b.png"):
        write_plot(found, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.convert("L").getextrema() != (255, 255)
    found.table["value"] = None
    with pytest.raises(LorunError, match=r"c\.png: no value to draw"):
        write_plot(found, tmp_path / "c.png")


def test_the_command_says_it_and_draws(repository, monkeypatch, capsys):
    repository.commit("First", table())
    monkeypatch.chdir(repository.root)
    words = ["lorun", "history", "results/quick", "--task", "cs", "--method", "lorun", "--metric", "psnr"]
    monkeypatch.setattr(sys, "argv", [*words, "--plot", "out.png"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    printed = capsys.readouterr().out
    assert "quick/cs/photos/r25/cs_float_y/lorun: psnr\n" in printed
    assert printed.endswith("wrote out.png\n")


def test_dvc_tells_the_scores_of_two_revisions_apart(tmp_path):
    """On the metrics that dvc.yaml lists, with one score of the committed set changed."""
    pytest.importorskip("dvc")
    root = tmp_path / "project"
    git(tmp_path, "init", "--quiet", str(root))
    for path in ("dvc.yaml", ".dvcignore", ".dvc/config", "data/registry.yaml"):
        if (PROJECT / path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / path, root / path)
    for path in [*PROJECT.glob("data/*.md5"), *PROJECT.glob("results/*/summary.json")]:
        (root / path.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.relative_to(PROJECT))
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--message", "Before")
    summary = root / "results/quick/summary.json"
    printed = json.loads(summary.read_text())
    line = printed["cs"]["photos"]["r25"]["cs_float_y"]["lorun"]
    before = line["psnr"]
    line["psnr"] = before + 1
    summary.write_text(json.dumps(printed))
    git(root, "commit", "--quiet", "--all", "--message", "After")
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "HEAD~1", "HEAD", "--json"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {
        "results/quick/summary.json": {
            "cs.photos.r25.cs_float_y.lorun.psnr": {"old": before, "new": before + 1, "diff": pytest.approx(1)}
        }
    }
