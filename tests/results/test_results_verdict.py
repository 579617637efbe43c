"""The verdict table is generated from result sets, and the README has the one that is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import results_of
from tiny import PROJECT

from lorun.errors import LorunError
from lorun.results.store import make_table, read_result_set, save_result_set
from lorun.results.summary import PARAMETERS, STEP_MEMORY
from lorun.results.verdict import update_verdict, verdict_table

PLACE = {"dataset": "set11", "setting": "r25", "protocol": "cs_float_y"}


METHODS = ("lorun", "block_k")


def write_set(folder: Path, differences: dict[str, list[float]], simulated: bool = False, **changes: Any) -> None:
    """A result set in which LoRun has 30 dB plus these differences, a seed each; a task without any is not trained.

    Args:
        changes: `methods` other than those, the number of `steps` and the `flops` of each, `datasets`, the methods
            that are `tuned`, and the `policy` of their checkpoints.
    """
    rows, summary, claims, tuning = [], [], [], []
    methods = changes.get("methods", METHODS)
    steps, flops = (changes.get(name) or dict.fromkeys(methods) for name in ("steps", "flops"))
    for task, values in differences.items():
        for dataset in changes.get("datasets", ["set11"]):
            place = {**PLACE, "task": task, "dataset": dataset, "simulated": simulated}
            for method in methods:
                summary.append(
                    {**place, "method": method, "stages": 9, "checkpoint_policy": changes.get("policy", "last")}
                )
                rows += [
                    {**place, "method": method, "seed": seed, "image": image, "degradation": None, "metric": "psnr"}
                    | {"value": 30 + offset + (difference if method == "lorun" else 0), "status": "completed"}
                    | {"steps": steps[method] or 800, "training_flops": flops[method]}
                    | {"checkpoint_policy": changes.get("policy", "last")}
                    for seed, difference in enumerate(values)
                    for image, offset in (("a", 0.0), ("b", 3.0))
                ]
            claims += [{**place, "claim": PARAMETERS, "ours": 0.25}, {**place, "claim": STEP_MEMORY, "ours": 0.97}]
        trial = {"task": task, "setting": "r25", "parameter": "learning_rate", "value": 0.1, "run": "a", "steps": 4}
        trial |= {"status": "completed", "validation_psnr": 20.0, "training_flops": 1, "chosen": True}
        tuning += [{**trial, "method": method} for method in changes.get("tuned", ())]
    tables = {"summary": summary, "claims": claims, "tuning": tuning}
    made = {name: make_table(name, lines) for name, lines in tables.items()}
    save_result_set(folder, replace(results_of(rows), **made))


def table(results: Path) -> list[list[str]]:
    lines = [line for line in verdict_table(results).splitlines() if line.startswith("|") and "|:--" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_says_what_each_set_measured(tmp_path: Path) -> None:
    write_set(tmp_path / "desk", {"cs": [-2.0], "sr": []})
    write_set(tmp_path / "quick", {"cs": [-1.0, -0.5]}, simulated=True)
    heading, parameters, memory, *scores = table(tmp_path)
    assert heading == ["Claim of the paper", "Paper", "Measured here", "Where"]
    assert parameters[1:3] == ["0.33 (CS), 0.37 (SR)", "0.25"]
    assert memory[1:3] == ["0.30", "0.97"]
    # two seeds: 12.706 times a standard error of 0.25 dB; least 16.33 times it
    assert [row[2] for row in scores] == [
        "worse: -2.00 dB [-2.00, -2.00], least 0.00 dB (images: 2, seeds: 1)",
        "no difference shown: -0.75 dB [-3.93, +2.43], least 4.08 dB (images: 2, seeds: 2)",
        "not trained yet",
    ]
    assert [row[3].split("(")[0] for row in scores] == ["[desk]", "[quick]", "[desk]"]
    assert scores[1][3] == "[quick](results/quick/summary.md): K = 9, set11 (simulated) r25"
    assert all(row[1] == "≥ 0 dB" for row in scores)


def test_the_rival_has_a_row_where_it_is_trained(tmp_path: Path) -> None:
    write_set(tmp_path / "quick", {"cs": [0.25, 0.25], "sr": []}, methods=(*METHODS, "shared_sigma"))
    scores = table(tmp_path)[3:]
    assert [row[0] for row in scores] == [
        "CS: PSNR, LoRun - Block-K (on par or above)",
        "CS: PSNR, LoRun - shared_sigma",
        "SR: PSNR, LoRun - Block-K (on par or above)",
    ]
    assert scores[0][2] == scores[1][2]
    assert scores[1][1:3] == ["–", "better: +0.25 dB [+0.25, +0.25], least 0.00 dB (images: 2, seeds: 2)"]


def test_several_test_sets_are_one_row(tmp_path: Path) -> None:
    write_set(tmp_path / "quick", {"cs": [-1.0, -0.5]}, datasets=["set11", "bsd68"])
    (row,) = table(tmp_path)[3:]
    assert row[2].startswith("no difference shown on 2 of 2: -0.75 dB [-3.93, +2.43], least 4.08 dB")
    assert row[3].endswith("set11 r25, bsd68 r25")


def test_models_that_are_scored_and_not_trained_are_left_out(tmp_path: Path) -> None:
    write_set(tmp_path / "desk", {"cs": [-1.0, -0.5]})
    write_set(tmp_path / "quick", {"cs": [-1.0, -0.5]}, policy="released")
    (row,) = table(tmp_path)[3:]
    assert row[3].startswith("[desk]")
    assert "`quick`" not in verdict_table(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "equal steps, learning rates not tuned. Not a verdict on the method."),
        ({"tuned": METHODS}, "equal steps, learning rates tuned. Not a verdict on the method."),
        ({"tuned": ["lorun"]}, "equal steps, learning rates tuned for lorun only. Not a verdict on the method."),
        (
            {"steps": {"lorun": 900, "block_k": 400}},
            "neither equal cost nor equal steps, learning rates not tuned. Not a verdict on the method.",
        ),
        (
            {"flops": {"lorun": 1000, "block_k": 1008}, "steps": {"lorun": 900, "block_k": 400}, "tuned": METHODS},
            "equal cost, learning rates tuned.",
        ),
        (
            {"flops": {"lorun": 1000, "block_k": 1012}, "tuned": METHODS},
            "equal steps, learning rates tuned. Not a verdict on the method.",
        ),
    ],
)
def test_the_line_below_says_what_the_set_compared(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    write_set(tmp_path / "quick", {"cs": [0.0]}, **changes)
    assert verdict_table(tmp_path).splitlines()[-1] == f"`quick`: {expected}"


def test_tasks_that_were_compared_differently_are_told_apart(tmp_path: Path) -> None:
    write_set(tmp_path / "desk", {"cs": [], "sr": []})
    write_set(tmp_path / "quick", {"cs": [0.0], "sr": [0.0]}, tuned=METHODS)
    quick = read_result_set(tmp_path / "quick")
    save_result_set(tmp_path / "quick", replace(quick, tuning=quick.tuning[quick.tuning.task == "cs"]))
    below = verdict_table(tmp_path).split("\n\n")[2:]
    assert [line.strip() for line in below] == [
        "`quick`: equal steps, learning rates tuned (CS); equal steps, learning rates not tuned (SR). "
        "Not a verdict on the method."
    ]


def test_only_the_known_result_sets_count(tmp_path: Path) -> None:
    write_set(tmp_path / "other", {"cs": [0.0]})
    with pytest.raises(LorunError, match="none of the result sets paper, desk, ablation, quick is here"):
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
    assert 6 <= len(table(PROJECT / "results")) <= 15


def test_the_readme_is_in_sync() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert verdict_table(PROJECT / "results") in text, "write it anew: lorun verdict README.md"
