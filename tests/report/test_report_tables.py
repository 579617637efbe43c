"""What the page is made of, without a browser."""

import json
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from tiny import PROJECT
from typer.testing import CliRunner

from lorun.bench.latency import COLUMNS
from lorun.cli import app
from lorun.errors import LorunError
from lorun.report import crops
from lorun.report.charts import points, scaling
from lorun.report.freshness import Freshness
from lorun.report.provenance import Provenance
from lorun.report.tables import sections, whole_tables
from lorun.results.licences import licences_of
from lorun.results.store import make_table, read_result_set, save_result_set, write_table

LATENCIES = pd.DataFrame(
    {"method": ["lorun", "lorun (again)"], "median_ms": [2.0, 2.05], "q25_ms": [1.5, 1.6], "q75_ms": [2.5, 2.4]}
).assign(device="a CPU", threads=1, task="cs", setting="r25", same_network=[None, "lorun"])
"""As `lorun latency` measures them, with a method that is timed twice."""


@pytest.fixture(scope="session")
def results(project):
    return read_result_set(project.folder)


@pytest.fixture
def made(project):
    """The provenance and the only section of a result set."""

    def make(results):
        provenance = Provenance(project.profile, project.config, results)
        (section,) = sections(project.profile, results, provenance)
        return provenance, section

    return make


def changed(results, table="runs", **columns):
    """The result set with other values in the lines of lorun."""
    frame = getattr(results, table).copy()
    for name, value in columns.items():
        frame.loc[frame.method == "lorun", name] = value
    return replace(results, **{table: frame})


def line_of(provenance, method):
    return next(line for line in provenance.lines if line["title"].startswith(f"{method}:"))


def test_the_same_tables_runs_and_data_give_the_same_bytes(project, page_file, tmp_path):
    assert project.write(tmp_path / "again.html").read_bytes() == page_file.read_bytes()


def test_the_page_names_no_address_that_a_browser_would_load(page_file):
    text = page_file.read_text()
    own = text[: text.index('<script type="application/json"')]
    assert re.findall(r"""(?:src|href)=["']?(?!data:|#|https://)([^"'\s>]+)""", own) == []
    assert re.findall(r"<link[^>]*>", own) == ['<link rel="icon" href="data:,">']
    assert re.findall(r"@import|url\(", own) == []


def test_the_command_writes_the_page_into_the_folder(project, tmp_path):
    folder = shutil.copytree(project.folder, tmp_path / "tiny")
    arguments = ["report", str(folder), "-c", str(project.config), "--runs", str(project.runs)]
    result = CliRunner().invoke(app, [*arguments, "--data", str(project.data)])
    assert result.exit_code == 0, result.output
    size = (folder / "report.html").stat().st_size / 1e6
    assert result.output == f"wrote {folder / 'report.html'} ({size:.1f} MB)\n"
    assert 5 < size < 10


def test_a_folder_without_a_result_set_is_refused(project, tmp_path):
    out = tmp_path / "page.html"
    with pytest.raises(LorunError, match="no result set here"):
        project.write(out, folder=tmp_path)
    assert not out.exists()


def test_cells_have_the_texts_of_the_summary_and_sort_by_value(results, made):
    provenance, section = made(results)
    cells = {row[0].text: dict(zip(section.scores.columns, row, strict=True)) for row in section.scores.rows[:4]}
    assert (cells["block_k"]["network"].text, cells["block_k"]["network"].order) == ("128 132", 128132)
    assert (cells["linear_mmse"]["step (MB)"].text, cells["linear_mmse"]["step (MB)"].order) == ("–", "")
    assert (cells["lorun"]["status"].order, cells["lorun"]["status"].kind) == (None, "completed")
    score = cells["lorun"]["PSNR (dB)"]
    assert (score.text, score.order) == ("27.62", 27.625)
    assert provenance.lines[score.line]["title"] == "lorun: cs, tiny, r25, cs_float_y"
    assert section.scores.protocols == ["cs_float_y", "cs_round_y"]


def test_scores_under_each_degradation_have_a_column_each(results, made):
    lines = results.summary[results.summary.protocol == "cs_float_y"]
    place = lines[["task", "dataset", "setting", "protocol", "method"]]
    frames = [
        place.assign(metric="psnr", degradation=name, value=value, sd=sd)
        for name, value, sd in (("k1", 30.0, 0.5), ("k2", 20.0, None))
    ]
    provenance, section = made(replace(results, degradations=pd.concat(frames)))
    (table,) = section.degradations
    assert table.columns == ["method", "k1", "k2"]
    method, first, second = table.rows[1]
    assert (method.text, first.text, second.text) == ("block_k", "30.00 ± 0.50", "20.00")
    assert provenance.lines[first.line]["title"].startswith("block_k:")


def test_claims_are_those_of_the_table_and_a_table_without_rows_is_left_out(results, made):
    tables = whole_tables(results, made(results)[0])
    assert list(tables) == ["differences", "claims"]
    ours = [row[tables["claims"].columns.index("ours")].text for row in tables["claims"].rows]
    assert ours[0] == f"{50_380 / 128_132:.3f}"
    assert ours[3] == "-2.125"


def test_differences_have_their_interval_and_open_their_origin(results, made):
    provenance, _ = made(results)
    table = whole_tables(results, provenance)["differences"]
    assert [row[3].text for row in table.rows] == ["block1 - block_k", "lorun - block_k", "linear_mmse - block_k"]
    difference, verdict = table.rows[1][4:6]
    assert difference.text == "-2.12 [-2.12, -2.12]"  # the same for both images
    assert provenance.lines[difference.line]["title"].startswith("lorun:")
    assert (verdict.text, verdict.kind) == ("worse", "worse")
    assert "differences" not in whole_tables(replace(results, differences=results.differences[:0]), provenance)


def test_the_page_shows_the_tuning_with_its_figure_or_says_that_there_is_none(project, results, tmp_path):
    folder = shutil.copytree(project.folder, tmp_path / "tiny")
    trial = {"task": "cs", "setting": "r25", "method": "lorun", "parameter": "adapter_rate", "value": 3.0, "run": "a"}
    trial |= {"status": "completed", "validation_psnr": 26.5, "steps": 4, "training_flops": 5, "chosen": True}
    save_result_set(folder, replace(results, tuning=make_table("tuning", [trial])))
    for figure, shown in ((None, "There is no figure for cs"), (b"a figure", "YSBmaWd1cmU=")):
        if figure is not None:
            (folder / "tuning_cs.png").write_bytes(figure)
        page = project.write(tmp_path / "page.html", folder=folder).read_text()
        section = page.split('<section id="tuning">')[1].split("</section>")[0]
        assert shown in section
        assert "26.50" in section


def test_a_method_without_a_score_has_its_status_and_its_message(project, results, made):
    failed = changed(results, "summary", status="diverged", psnr=None, psnr_sd=None)
    failed = changed(failed, status="diverged", message="loss is nan", run="gone")
    failed = replace(failed, rows=failed.rows[failed.rows.method != "lorun"])
    provenance, section = made(failed)
    cells = next(row for row in section.scores.rows if row[0].text == "lorun")
    status = cells[section.scores.columns.index("status")]
    assert (cells[1].order, status.kind) == ("", "diverged")
    (run,) = line_of(provenance, "lorun")["runs"]
    assert (run["status"], run["message"], run["scores"]) == ("diverged", "loss is nan", [])
    (shown,) = crops.Crops(project.profile, failed, runs=project.runs, data=project.data).of(section)
    panels = {panel["title"]: panel for panel in shown["panels"]}
    assert panels["lorun"]["message"] == "diverged: loss is nan"
    assert panels["block_k"]["score"] == pytest.approx(30.25)


def test_provenance_says_if_the_profile_has_changed_since(results, made):
    provenance, _ = made(changed(results, config_hash="0" * 10))
    assert line_of(provenance, "block_k")["runs"][0]["note"] is None
    note = line_of(provenance, "lorun")["runs"][0]["note"]
    assert "has changed since" in note
    assert "0000000000" in note


def test_a_score_made_by_another_commit_is_reproduced_at_both(results, made):
    provenance, _ = made(changed(results, commit="f" * 40))
    commands = line_of(provenance, "lorun")["runs"][0]["commands"]
    steps = ["checkout", "data", "train", "train", "checkout", "evaluate"]
    assert [command.split()[1] for command in commands] == steps
    assert commands[0].startswith("git checkout 0123456789")
    assert commands[4].startswith(f"git checkout {'f' * 40}")


def test_a_run_of_code_with_other_names_is_reproduced_by_the_readme_of_its_commit(results, made):
    provenance, _ = made(changed(results, code=None, trained_code=None))
    (run,) = line_of(provenance, "lorun")["runs"]
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert run["commands"] == [f"git checkout {commit} && make setup"]
    assert f"commit {commit}" in run["note"]
    assert "README" in run["note"]


def test_times_and_costs_of_a_point(results, made):
    provenance, section = made(results)
    by_method = {point["method"]: point for point in points(section, results.timing, LATENCIES, provenance)}
    lorun = by_method["lorun"]
    assert (lorun["parameters"], lorun["stages"], lorun["scores"]["psnr"]) == (50380, 3, [27.625, None])
    assert lorun["latency"] == {"value": 2.0, "least": 1.5, "most": 2.5, "device": "a CPU", "threads": 1}
    assert by_method["block_k"]["latency"] is None  # its account has one, which was not measured in turns
    assert lorun["training"]["value"] == 3.0
    assert by_method["linear_mmse"]["step"] is None


def test_names_cannot_be_markup(project, tmp_path):
    folder = shutil.copytree(project.folder, tmp_path / "tiny")
    text = "</script><script>alert(1)</script>"
    runs = (folder / "runs.csv").read_text().replace(",completed,", f",completed,{text}", 1)
    (folder / "runs.csv").write_text(runs)
    (folder / "version.json").unlink()
    page = project.write(tmp_path / "page.html", folder=folder).read_text()
    assert "<script>alert" not in page
    numbers = json.loads(re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page)[1])
    assert text in {run["message"] for line in numbers["lines"] for run in line["runs"]}


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


def test_counts_against_stages_are_those_of_the_committed_table():
    found = scaling(PROJECT / "results" / "bench" / "scaling.csv")
    methods = {(series["method"], series["recompute"]) for series in found["series"]}
    assert {("lorun", "none"), ("block_k", "stage")} <= methods
    assert all(series["stages"] == list(range(1, 21)) for series in found["series"])
    assert "cs, r10" in found["note"]
    assert scaling(PROJECT / "results" / "none.csv") is None


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"task,setting\ncs,r25\n"])
def test_a_damaged_table_of_counts_is_named(tmp_path, content):
    (tmp_path / "scaling.csv").write_bytes(content)
    with pytest.raises(LorunError, match=r"scaling\.csv: not a table of `lorun scaling`"):
        scaling(tmp_path / "scaling.csv")


def test_a_method_that_is_no_baseline_has_no_licence_of_its_own(project):
    methods = ["lorun", "lorun_transfer", "linear_mmse", "gone"]
    found = {row["name"]: row["licence"] for row in licences_of(project.profile, methods, project.data)}
    assert {"lorun", "lorun_transfer"}.isdisjoint(found)
    assert found["linear_mmse"] == "MIT"
    assert found["gone"] == "not registered"


def test_the_page_begins_with_the_verdict_of_its_set_or_says_that_there_is_none(project, results, page_file, tmp_path):
    first = page_file.read_text().split("<section")[1]
    assert first.startswith(' id="verdict">')
    assert "0.39 (CS)" in first or ">0.39<" in first
    assert "worse: -2.12 dB [-2.12, -2.12]" in first
    assert "Not a verdict on the method" in first
    alone = replace(results, summary=results.summary[results.summary.method != "block_k"])
    folder = tmp_path / "tiny"
    save_result_set(folder, replace(alone, claims=results.claims[:0], differences=results.differences[:0]))
    page = project.write(tmp_path / "one.html", folder=folder).read_text()
    assert "measures no claim of the paper" in page.split("<section")[1]


def test_the_best_of_a_column_is_marked_per_protocol(made, results):
    _, section = made(results)
    marks = [(row[0].text, row[1].mark) for row in section.scores.rows]
    assert marks == [("block1", ""), ("block_k", "best"), ("lorun", "second"), ("linear_mmse", "")] * 2


def test_the_difference_from_block_k_stands_in_the_scores(made, results):
    _, section = made(results)
    at = section.scores.columns.index("PSNR - block_k (dB)")
    texts = [row[at].text for row in section.scores.rows[:3]]
    assert texts == ["-3.75 [-3.75, -3.75]", "–", "-2.12 [-2.12, -2.12]"]


@pytest.mark.parametrize(
    ("twin", "shown", "note"),
    [(2.05, True, "all methods in turns"), (2.2, False, "differ by more than 5 %"), (None, False, "has not timed")],
)
def test_a_latency_is_shown_only_if_twins_agree(project, tmp_path, twin, shown, note):
    folder = shutil.copytree(project.folder, tmp_path / "results" / "tiny")
    if twin is not None:
        table = LATENCIES.reindex(columns=list(COLUMNS)).assign(median_ms=[2.0, twin])
        place = {"profile": "tiny", "image": 24, "repeats": 3, "commit": "a" * 40}
        write_table(tmp_path / "results/bench/latency.csv", table.assign(**place))
    page = project.write(tmp_path / "page.html", folder=folder).read_text()
    assert note in page
    numbers = json.loads(re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page)[1])
    latency = {point["method"]: point["latency"] for point in numbers["sections"][0]["points"]}
    assert (latency["lorun"] is not None) == shown
    assert latency["block_k"] is None


def test_every_table_says_whether_it_is_fresh(page_file):
    page = page_file.read_text()
    shown = re.findall(r'<table id="([a-z]+)', page)
    others = ("degradations", "licences")
    assert page.count('<p class="freshness">') == len([name for name in shown if name not in others])
    assert 'badge stale">stale</span> runs: all 4 stale; counts: all 4 stale' in page


def test_outside_of_a_project_nothing_is_known(project, results, tmp_path):
    found = Freshness(project.profile, results, runs=project.runs, root=tmp_path).of()
    assert found.state == "unknown"
    assert "start from the project's root" in found.text
