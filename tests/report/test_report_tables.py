"""What the page is made of, without a browser."""

import json
import re
import shutil

import pandas as pd
import pytest
from lorun.report.lines import Lines
from lorun.report.stored import read_stored
from lorun.results.rows import read_rows, write_table
from tiny import PROJECT
from typer.testing import CliRunner

from lorun.cli import app
from lorun.errors import LorunError
from lorun.report import crops, write_report
from lorun.report.charts import scaling
from lorun.report.crops import Crops
from lorun.report.licences import licences
from lorun.report.tables import overview, sections, whole_tables


@pytest.fixture
def folder(project, tmp_path):
    """A copy of the result set to change."""
    return shutil.copytree(project.folder, tmp_path / "results" / "tiny")


def numbers(page):
    """What a page holds for its scripts."""
    return json.loads(re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page.read_text())[1])


def change_rows(folder, **changed):
    """Set columns of the rows of lorun."""
    rows = read_rows(folder / "rows.csv")
    for name, value in changed.items():
        rows.loc[rows.method == "lorun", name] = value
    write_table(folder / "rows.csv", rows)


def test_the_same_tables_runs_and_data_give_the_same_bytes(project, page_file, tmp_path):
    assert project.write(tmp_path / "again.html").read_bytes() == page_file.read_bytes()


def test_the_page_names_no_address_that_a_browser_would_load(page_file):
    text = page_file.read_text()
    own = text[: text.index('<script type="application/json"')]
    assert re.findall(r"""(?:src|href)=["']?(?!data:|#|https://)([^"'\s>]+)""", own) == []
    assert re.findall(r"<link[^>]*>", own) == ['<link rel="icon" href="data:,">']
    assert re.findall(r"@import|url\(", own) == []


def test_the_command_writes_beside_the_tables_and_says_the_size(project, folder):
    arguments = ["report", str(folder), "-c", str(project.config), "--runs", str(project.runs)]
    result = CliRunner().invoke(app, [*arguments, "--data", str(project.data)])
    assert result.exit_code == 0, result.output
    size = (folder / "report.html").stat().st_size / 1e6
    assert result.output == f"wrote {folder / 'report.html'} ({size:.1f} MB)\n"
    assert 5 < size < 10


def test_a_folder_without_a_result_set_is_refused(project, tmp_path):
    with pytest.raises(LorunError, match=r"no result set here \(summary.csv is missing\)"):
        write_report(
            project.profile, project.config, tmp_path, runs=project.runs, data=project.data, out=tmp_path / "page.html"
        )
    assert not (tmp_path / "page.html").exists()


def test_a_damaged_table_is_named(project, folder):
    (folder / "curves.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LorunError, match=r"curves\.csv: not a readable table"):
        read_stored(folder)


def test_cells_have_the_texts_of_the_summary_and_sort_by_number(project):
    stored = read_stored(project.folder)
    lines = Lines(project.profile, project.config, stored)
    (section,) = sections(project.profile, stored.summary, stored.degradations, lines)
    named = {row[0].text: dict(zip(section.scores.columns, row, strict=True)) for row in section.scores.rows[:4]}
    assert (named["block_k"]["network"].text, named["block_k"]["network"].order) == ("128 132", 128132)
    assert (named["linear_mmse"]["step (MB)"].text, named["linear_mmse"]["step (MB)"].order) == ("–", "")
    assert named["lorun"]["status"].order is None
    score = named["lorun"]["PSNR (dB)"]
    assert (score.text, score.order) == ("27.62", 27.625)
    assert lines.records[score.line]["title"] == "lorun: cs, tiny, r25, cs_float_y"
    assert section.scores.protocols == ["cs_float_y", "cs_round_y"]
    assert [row[1].text for row in overview([section], stored.summary, lines).rows] == [
        *("26.00", "29.75", "27.62", "25.25")
    ]


def test_claims_are_those_of_the_table_and_nothing_is_a_table_without_rows(project):
    stored = read_stored(project.folder)
    found = whole_tables(stored, Lines(project.profile, project.config, stored))
    assert found["comparison"] is None
    assert found["tasks"] is None
    ours = [row[found["claims"].columns.index("ours")].text for row in found["claims"].rows]
    assert ours[0] == f"{50_380 / 128_132:.3f}"
    assert ours[3] == "-2.125"


def test_what_did_not_run_is_a_status_in_the_overview(project, folder):
    text = (folder / "summary.csv").read_text().replace("lorun,completed,1", "lorun,diverged,0")
    (folder / "summary.csv").write_text(re.sub(r"(lorun,diverged,.*?,last),[0-9.]+,,[0-9.]+,", r"\1,,,,", text))
    stored = read_stored(folder)
    lines = Lines(project.profile, project.config, stored)
    found = sections(project.profile, stored.summary, stored.degradations, lines)
    cell = next(row[1] for row in overview(found, stored.summary, lines).rows if row[0].text == "lorun")
    assert (cell.text, cell.order, cell.kind) == ("diverged", "", "diverged")


def test_provenance_says_when_the_profile_has_changed_since(project, folder):
    change_rows(folder, config_hash="0" * 10)
    stored = read_stored(folder)
    records = Lines(project.profile, project.config, stored).records
    notes = {record["title"].split(":")[0]: record["runs"][0]["note"] for record in records}
    assert notes["block_k"] is None
    assert "has changed since" in notes["lorun"]
    assert "0000000000" in notes["lorun"]


def test_a_score_made_by_another_commit_is_got_again_at_both(project, folder):
    change_rows(folder, commit="f" * 40)
    stored = read_stored(folder)
    records = Lines(project.profile, project.config, stored).records
    commands = next(record["runs"][0]["commands"] for record in records if record["title"].startswith("lorun:"))
    assert [command.split()[1] for command in commands] == [
        "checkout",
        "data",
        "train",
        "train",
        "checkout",
        "evaluate",
    ]
    assert commands[0].startswith("git checkout 0123456789")
    assert commands[4].startswith(f"git checkout {'f' * 40}")


def test_names_cannot_be_markup(project, folder, tmp_path):
    change_rows(folder, message="</script><script>alert(1)</script>", run="<b>")
    out = tmp_path / "page.html"
    write_report(project.profile, project.config, folder, runs=project.runs, data=project.data, out=out)
    assert "<script>alert" not in out.read_text()
    messages = {run["message"] for line in numbers(out)["lines"] for run in line["runs"]}
    assert "</script><script>alert(1)</script>" in messages


def test_more_than_a_page_holds_is_named(project, monkeypatch):
    monkeypatch.setattr(crops, "LIMIT", 100)
    stored = read_stored(project.folder)
    lines = Lines(project.profile, project.config, stored)
    found = sections(project.profile, stored.summary, stored.degradations, lines)
    made = Crops(project.profile, stored.rows, project.folder, runs=project.runs, data=project.data).of(found)
    assert made == [{"images": [], "left_out": ["checks"]}]


@pytest.mark.parametrize(
    ("height", "width", "strip", "window"),
    [
        (40, 44, (0, 0, 16), (0, 0, 40, 44)),
        (512, 512, (96, 200, 96), (16, 120, 256, 256)),
        (512, 300, (0, 0, 96), (0, 0, 256, 256)),
        (512, 300, (500, 290, 96), (256, 44, 256, 256)),
    ],
)
def test_the_window_is_around_the_strip_and_within_the_image(height, width, strip, window):
    assert crops._window(height, width, strip) == window


def test_bytes_against_stages_are_those_of_the_committed_table():
    found = scaling(PROJECT / "results" / "bench" / "scaling.csv")
    methods = {(series["method"], series["recompute"]) for series in found["series"]}
    assert ("lorun", "none") in methods
    assert ("block_k", "stage") in methods
    assert not {"lorun_transfer", "lorun_random"} & {method for method, _ in methods}
    assert all(series["stages"] == list(range(1, 21)) for series in found["series"])
    assert "cs, r10" in found["note"]
    assert scaling(PROJECT / "results" / "none.csv") is None


def test_a_method_that_is_no_baseline_has_no_licence_of_its_own(project):
    methods = pd.DataFrame({"method": ["lorun", "lorun_transfer", "linear_mmse", "gone"]})
    found = {one.name: one.licence for one in licences(project.profile, methods, project.data)}
    assert {"lorun", "lorun_transfer"}.isdisjoint(found)
    assert found["linear_mmse"] == "MIT"
    assert found["gone"] == "not registered"
