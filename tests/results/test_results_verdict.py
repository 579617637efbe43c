"""The verdict table is generated from result sets, and the README has the one that is."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import results_of
from tiny import PROJECT

from lorun.errors import LorunError
from lorun.results.store import make_table, save_result_set
from lorun.results.summary import PARAMETERS, STEP_MEMORY
from lorun.results.verdict import update_verdict, verdict_table

PLACE = {"dataset": "set11", "setting": "r25", "protocol": "cs_float_y"}


def write_set(folder: Path, differences: dict[str, list[float]], simulated: bool = False) -> None:
    """A result set in which LoRun has 30 dB plus these differences, a seed each; a task without any is not trained."""
    rows, summary, claims = [], [], []
    for task, values in differences.items():
        place = {**PLACE, "task": task, "simulated": simulated}
        for method in ("lorun", "block_k"):
            summary.append({**place, "method": method, "stages": 9})
            rows += [
                {**place, "method": method, "seed": seed, "image": image, "degradation": None, "metric": "psnr"}
                | {"value": 30 + offset + (difference if method == "lorun" else 0), "status": "completed"}
                for seed, difference in enumerate(values)
                for image, offset in (("a", 0.0), ("b", 3.0))
            ]
        claims += [{**place, "claim": PARAMETERS, "ours": 0.25}, {**place, "claim": STEP_MEMORY, "ours": 0.97}]
    tables = {"summary": make_table("summary", summary), "claims": make_table("claims", claims)}
    save_result_set(folder, replace(results_of(rows), **tables))


def table(results: Path) -> list[list[str]]:
    *lines, empty, caveat = verdict_table(results).splitlines()
    assert not empty
    assert "not a verdict on the method" in caveat
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|:")]


def test_the_table_says_what_each_set_measured(tmp_path: Path) -> None:
    write_set(tmp_path / "desk", {"cs": [-2.0], "sr": []})
    write_set(tmp_path / "quick", {"cs": [-1.0, -0.5]}, simulated=True)
    heading, parameters, memory, *scores = table(tmp_path)
    assert heading == ["Claim of the paper", "Paper", "Measured here", "Where"]
    assert parameters[1:3] == ["0.33 (CS), 0.37 (SR)", "0.25"]
    assert memory[1:3] == ["0.30", "0.97"]
    assert [row[2] for row in scores] == ["-2.00 dB (1 seed)", "-0.75 ± 0.35 dB (2 seeds)", "not trained yet"]
    assert [row[3].split("(")[0] for row in scores] == ["[desk]", "[quick]", "[desk]"]
    assert scores[1][3] == "[quick](results/quick/summary.md): K = 9, set11 (simulated) r25"
    assert all(row[1] == "≥ 0 dB" for row in scores)


def test_only_the_known_result_sets_count(tmp_path: Path) -> None:
    write_set(tmp_path / "other", {"cs": [0.0]})
    with pytest.raises(LorunError, match="none of the result sets paper, desk, quick is here"):
        verdict_table(tmp_path)


def test_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    write_set(tmp_path / "quick", {"cs": [0.25]})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- verdict -->\nold\n<!-- /verdict -->\nafter\n")
    assert update_verdict(page, tmp_path)
    assert page.read_text() == f"before\n<!-- verdict -->\n{verdict_table(tmp_path)}<!-- /verdict -->\nafter\n"
    assert "+0.25 dB" in page.read_text()
    assert not update_verdict(page, tmp_path)
    page.write_text("no markers")
    with pytest.raises(LorunError, match=r"page\.md: no <!-- verdict -->"):
        update_verdict(page, tmp_path)


def test_the_committed_sets_give_a_short_table() -> None:
    assert 6 <= len(table(PROJECT / "results")) <= 11


def test_the_readme_is_in_sync() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert verdict_table(PROJECT / "results") in text, "write it anew: lorun verdict README.md"
