"""What tuning chose, as a table and as a figure."""

import numpy as np
import pytest
import yaml
from made_up import write_runs

from lorun.profiles import load_profile
from lorun.profiles.trials import Trial
from lorun.results.figures import _tuning, write_figures
from lorun.results.result_set import write_result_set
from lorun.results.store import make_table, read_result_set
from lorun.results.summary import choices

RATES = (0.0003, 0.001, 0.003)
SCORES = {
    "block_k": ("learning_rate", RATES, (24.0, 27.0, 26.0), 1),
    "shared": ("learning_rate", RATES, (25.0, 26.5, None), 1),
    "block1": ("learning_rate", RATES, (26.0, 25.0, 8.0), 0),
    "lorun": ("adapter_rate", (1.0, 3.0, 10.0), (25.5, 26.0, 26.25), 2),
}


def trials(task="cs"):
    return [
        Trial(
            task=task,
            setting="r25",
            method=method,
            parameter=parameter,
            value=value,
            whole=False,
            run="0123456789",
            status="diverged" if score is None else "completed",
            validation_psnr=score,
            steps=4,
            training_flops=1_000_000,
            chosen=place == best,
        )
        for method, (parameter, grid, scores, best) in SCORES.items()
        for place, (value, score) in enumerate(zip(grid, scores, strict=True))
    ]


def table(lines):
    return make_table("tuning", [line.model_dump() for line in lines])


@pytest.fixture
def tuned(tiny_profile_file):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["training"]["tuning"] = {}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    profile = load_profile(tiny_profile_file)
    profile.use_trials(trials())
    return profile


def test_each_choice_has_its_grid_and_says_whether_it_is_at_an_edge():
    found = choices(table([*trials()[::-1], *trials("sr")]))
    assert len(found) == 2 * len(SCORES)
    lines = found[found.task == "cs"].set_index("method")
    assert lines["value"].to_dict() == {"block_k": 0.001, "shared": 0.001, "block1": 0.0003, "lorun": 10}
    assert lines.edge.to_dict() == {"block_k": "no", "shared": "no", "block1": "lowest", "lorun": "highest"}
    assert lines.grid.to_dict() == dict.fromkeys(("block_k", "shared", "block1"), "0.0003, 0.001, 0.003") | {
        "lorun": "1, 3, 10"
    }
    assert lines.validation_psnr["lorun"] == 26.25
    assert choices(table([])).empty


def test_the_set_and_its_page_have_the_trials(tuned, tiny_data, tmp_path):
    runs = write_runs(tuned, tmp_path / "runs", "checks", "blobs")
    write_result_set(tuned, runs, tmp_path / "out")
    assert len(read_result_set(tmp_path / "out").tuning) == len(trials())
    section = (tmp_path / "out" / "summary.md").read_text().split("## Tuning\n")[1].split("\n## ")[0]
    (line,) = [line for line in section.splitlines() if line.startswith("| cs") and " lorun " in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["cs", "r25", "lorun", "adapter_rate", "10", "26.25", "highest", "1, 3, 10"]


def test_there_is_a_figure_where_learning_rates_are_tuned_and_nowhere_else(tuned, tiny_profile, tiny_data, tmp_path):
    for profile, names in ((tuned, {"tuning_cs.png"}), (tiny_profile, set())):
        out = tmp_path / str(len(names))
        summary = write_result_set(profile, tmp_path / "none", out, partial=True)
        write_figures(profile, summary, runs=tmp_path / "none", data=tiny_data, folder=out)
        assert {path.name for path in out.glob("tuning_*")} == names


def test_the_figure_has_a_line_per_method_the_choices_and_what_failed():
    rates, multiples = _tuning(table(trials()), "cs").axes
    assert [axes.get_xscale() for axes in (rates, multiples)] == ["log", "log"]
    drawn = {line.get_label(): line for line in rates.lines if not line.get_label().startswith("_")}
    assert list(drawn) == ["block_k", "shared", "block1"]
    np.testing.assert_array_equal(drawn["block_k"].get_xydata(), list(zip(RATES, (24.0, 27.0, 26.0), strict=True)))
    marked = {
        marker: [xy for line in rates.lines if line.get_marker() == marker for xy in line.get_xydata().tolist()]
        for marker in ("o", "x", "v")
    }
    assert marked["o"] == [[0.001, 27.0], [0.001, 26.5], [0.0003, 26.0]]
    assert [value for value, _ in marked["x"]] == [0.003]  # shared diverged
    assert [value for value, _ in marked["v"]] == [0.003]  # block1 fell far behind
    bottom, top = rates.get_ylim()
    assert 8 < bottom < 24
    assert top > 27
    assert multiples.lines[0].get_label() == "lorun"
