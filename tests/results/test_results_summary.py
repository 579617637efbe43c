"""Means, spreads, claims and their Markdown, from made-up rows, by hand."""

import math
import re
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from made_up import results_of

from lorun.evaluation.metrics import METRICS
from lorun.profiles import load_profile
from lorun.results.markdown import DIFFERENCE, leading_differences, pages, render, render_latex
from lorun.results.result_set import computed
from lorun.results.summary import claims, summarise
from lorun.results.tasks import tasks

FIRST, SECOND = "cs_float_y", "cs_round_y"


@pytest.fixture
def make_profile(tiny_profile_file):
    """The tiny profile with `parts` of its task replaced, and two seeds."""

    def make(seeds=(0, 1), **parts):
        labels = yaml.safe_load(tiny_profile_file.read_text())
        labels["seeds"] = list(seeds)
        labels["tasks"]["cs"].update(strategies=["block_k", "lorun"], baselines=["linear_mmse"])
        labels["tasks"]["cs"].update(parts)
        tiny_profile_file.write_text(yaml.safe_dump(labels))
        return load_profile(tiny_profile_file)

    return make


def rows_of(method, seed, psnr=(), ssim=(), status="completed", protocol=FIRST, dataset="tiny"):
    """One row per image and metric; where nothing came out, one row per metric without a value."""
    labels = {"task": "cs", "setting": "r25", "dataset": dataset, "method": method, "seed": seed, "protocol": protocol}
    labels |= {"status": status, "steps": 8, "checkpoint_policy": "last"}
    scores = {"psnr": psnr or [None], "ssim": ssim or [None]}
    return [
        {**labels, "metric": metric, "image": f"image{place}" if value is not None else None, "value": value}
        for metric, values in scores.items()
        for place, value in enumerate(values)
    ]


def summarised(profile, rows, accounts=()):
    return summarise(profile, results_of(rows, accounts))


def test_a_variant_has_no_published_parameters(make_profile):
    variants = {"lorun_wide": {"strategy": "lorun", "lora": {"gamma": 40}}}
    profile = make_profile(seeds=[0], variants=variants, strategies=["block_k", "lorun", "lorun_wide"])
    summary = summarised(profile, rows_of("lorun_wide", 0, psnr=[30.0], ssim=[0.9]))
    assert line(summary, "lorun_wide")["psnr"] == 30.0
    assert line(summary, "lorun_wide")["parameters_published"] is None or math.isnan(
        line(summary, "lorun_wide")["parameters_published"]
    )


def line(summary, method, protocol=FIRST):
    (found,) = summary[(summary.method == method) & (summary.protocol == protocol)].to_dict("records")
    return found


def account(method, **numbers):
    return {"task": "cs", "setting": "r25", "method": method, **numbers}


def test_mean_over_seeds_of_the_mean_over_images_and_the_spread_over_seeds(make_profile):
    rows = rows_of("lorun", 0, [30, 32], [0.5, 0.7]) + rows_of("lorun", 1, [33, 35], [0.8, 0.8])
    found = line(summarised(make_profile(), rows), "lorun")
    assert found["psnr"] == (31 + 34) / 2
    assert found["psnr_sd"] == pytest.approx(3 / math.sqrt(2), abs=1e-6)  # of 31 and 34, not of the four images
    assert found["ssim"] == pytest.approx((0.6 + 0.8) / 2)
    assert found["ssim_sd"] == pytest.approx(0.2 / math.sqrt(2), abs=1e-6)
    assert (found["status"], found["seeds"], found["seeds_planned"], found["images"]) == ("completed", 2, 2, 2)
    assert (found["steps"], found["checkpoint_policy"]) == (8, "last")


def test_protocols_do_not_mix(make_profile):
    rows = rows_of("lorun", 0, [30], [0.5]) + rows_of("lorun", 0, [20], [0.4], protocol=SECOND)
    summary = summarised(make_profile([0]), rows)
    assert line(summary, "lorun")["psnr"] == 30
    assert line(summary, "lorun", SECOND)["psnr"] == 20


RESIDUAL = "measurement_residual"


def residuals_of(method, seed, values):
    row = {**rows_of(method, seed, protocol=RESIDUAL)[0], "metric": "residual"}
    return [{**row, "image": f"image{place}", "value": value} for place, value in enumerate(values)]


def test_a_protocol_has_its_own_metrics_and_columns(make_profile):
    profile = make_profile(evaluation={"protocols": [FIRST, RESIDUAL]})
    rows = rows_of("lorun", 0, [30, 32], [0.5, 0.7]) + rows_of("lorun", 1, [33, 35], [0.8, 0.8])
    rows += residuals_of("lorun", 0, [0.01, 0.03]) + residuals_of("lorun", 1, [0.02, 0.06])
    summary = summarised(profile, rows)
    assert set(METRICS) & set(summary.columns) == {"psnr", "ssim", "residual"}
    scored, measured = line(summary, "lorun"), line(summary, "lorun", RESIDUAL)
    assert all(pd.isna(scored[name]) for name in ("residual", "residual_sd"))
    assert (measured["residual"], measured["residual_sd"]) == (0.03, pytest.approx(0.02 / math.sqrt(2), abs=1e-6))
    assert all(pd.isna(measured[name]) for name in ("psnr", "psnr_sd", "ssim", "ssim_sd"))
    page = page_of(profile, rows)
    scores, _, other, *_ = tables(page)
    assert other[0] == ["method", "residual (ratio)", "status"]
    assert scores[0][1:4] == ["PSNR (dB)", "SSIM", "status"]
    assert other[3][:2] == ["lorun", "0.0300 ± 0.0141"]
    assert "* PSNR, SSIM, residual: mean over seeds" in page
    assert "; lower is better for residual.\n" in page
    assert "residual" not in page_of(make_profile(evaluation={"protocols": [FIRST]}), rows[:8])


def test_claims_are_in_the_leading_metric(make_profile):
    profile = make_profile([0], evaluation={"protocols": [RESIDUAL]})
    rows = residuals_of("lorun", 0, [0.03]) + residuals_of("block_k", 0, [0.05])
    found = claims(profile, summarised(profile, rows)).set_index("claim")
    one = found.loc["residual, LoRun - Block-K (on par or below)"]
    assert (one.ours, one.unit) == (-0.02, "ratio")
    assert pd.isna(one.published)  # the paper says nothing of it


def test_one_seed_has_no_spread(make_profile):
    found = line(summarised(make_profile([0]), rows_of("lorun", 0, [30, 32], [0.5, 0.7])), "lorun")
    assert found["psnr"] == 31
    assert pd.isna(found["psnr_sd"])
    assert pd.isna(found["ssim_sd"])


@pytest.mark.parametrize("status", ["diverged", "out_of_memory", "failed", "not_run"])
def test_a_seed_without_result_is_counted_and_left_out_of_the_mean(make_profile, status):
    rows = rows_of("lorun", 0, [30, 32], [0.5, 0.7]) + rows_of("lorun", 1, status=status)
    found = line(summarised(make_profile(), rows), "lorun")
    assert (found["status"], found["seeds"], found["seeds_planned"]) == (status, 1, 2)
    assert found["psnr"] == 31
    assert pd.isna(found["psnr_sd"])


def test_the_status_is_the_worst_of_all_seeds(make_profile):
    order = ["failed", "not_run", "diverged", "out_of_memory"]
    for place, worst in enumerate(order):
        rows = [row for seed, status in enumerate(order[place:]) for row in rows_of("lorun", seed, status=status)]
        assert line(summarised(make_profile(), rows[::-1]), "lorun")["status"] == worst


def test_a_method_without_rows_or_account_still_has_its_line(make_profile):
    summary = summarised(make_profile(), rows_of("lorun", 0, [30], [0.5]))
    assert summary.method.tolist() == ["block_k", "lorun", "linear_mmse"] * 2
    found = line(summary, "block_k")
    assert (found["status"], found["seeds"]) == ("not_run", 0)
    assert all(pd.isna(found[name]) for name in ("psnr", "ssim", "steps", "parameters_network", "step_total"))


def test_the_account_is_repeated(make_profile):
    counts = {"parameters_network": 7, "step_total": 1_000, "step_phase": "backward", "flops": 5}
    found = line(summarised(make_profile(), [], [account("lorun", **counts)]), "lorun")
    assert {name: found[name] for name in counts} == counts


@pytest.mark.parametrize(
    ("method", "stages", "published"),
    [("lorun", 9, 5_230_000), ("block_k", 9, 15_960_000), ("lorun", 3, None), ("block_k", 3, None)],
)
def test_the_papers_sizes_stand_beside_networks_of_its_nine_stages(make_profile, method, stages, published):
    found = line(summarised(make_profile(), [], [account(method, stages=stages)]), method)
    assert found["parameters_published"] == published or (published is None and pd.isna(found["parameters_published"]))


ACCOUNTS = (
    account("lorun", stages=3, parameters_network=100, step_total=30, inference_total=10),
    account("block_k", stages=3, parameters_network=400, step_total=40, inference_total=25),
)
SCORES = [
    *rows_of("lorun", 0, [31.0], [0.9]),
    *rows_of("block_k", 0, [31.5], [0.9]),
    *rows_of("lorun", 0, [1.0], [0.1], protocol=SECOND),
    *rows_of("block_k", 0, [2.0], [0.1], protocol=SECOND),
]


def test_claims_are_ratios_of_ours_beside_the_papers(make_profile):
    profile = make_profile([0])
    found = claims(profile, summarised(profile, SCORES, ACCOUNTS)).set_index("claim")
    assert len(found) == 4  # of the first protocol alone
    parameters = found.loc["parameters, LoRun / Block-K"]
    assert parameters.ours == 100 / 400
    assert parameters.published == pytest.approx(5.23 / 15.96)
    assert parameters.delta == pytest.approx(0.25 - 5.23 / 15.96, abs=1e-6)
    step = found.loc["peak memory of a training step, LoRun / Block-K"]
    assert (step.ours, step.published, step.delta) == (30 / 40, 0.30, pytest.approx(0.45))
    inference = found.loc["peak memory of inference, LoRun / Block-K"]
    assert inference.ours == 10 / 25
    assert pd.isna(inference.published)
    assert pd.isna(inference.delta)
    quality = found.loc["PSNR, LoRun - Block-K (on par or above)"]
    assert (quality.ours, quality.published, quality.delta, quality.unit) == (-0.5, 0.0, -0.5, "dB")
    assert set(found.stages) == {3}


def test_what_the_base_of_another_setting_costs_is_listed_with_the_claims(make_profile):
    settings = {"r10": {"ratio": 10}, "r25": {"ratio": 25}}
    strategies = ["block_k", "lorun", "lorun_transfer"]
    profile = make_profile([0], strategies=strategies, settings=settings, base={"lorun_transfer": {"setting": "r10"}})
    rows = [*SCORES, *rows_of("lorun_transfer", 0, [30.75], [0.9])]
    found = claims(profile, summarised(profile, rows, ACCOUNTS))
    assert (found.setting == "r25").sum() == 5
    cost = found[(found.setting == "r25") & (found.claim == "PSNR, LoRun on another setting's base - LoRun")].iloc[0]
    assert (cost.ours, cost.unit) == (-0.25, "dB")
    assert pd.isna(cost.published)


def test_a_claim_about_a_run_without_result_is_null(make_profile):
    profile = make_profile([0])
    rows = rows_of("lorun", 0, [31.0], [0.9]) + rows_of("block_k", 0, status="diverged")
    found = claims(profile, summarised(profile, rows, ACCOUNTS[:1]))
    assert len(found) == 4
    assert found.ours.isna().all()
    assert found.delta.isna().all()


def test_without_block_k_there_is_nothing_to_claim(make_profile):
    profile = make_profile([0], strategies=["lorun"])
    found = claims(profile, summarised(profile, SCORES[:2], ACCOUNTS))
    assert found.empty
    assert "claim" in found.columns


# What tasks cost that share a base


@pytest.fixture
def shared(tasks_profile):
    """Summary of two settings on the base of another task; in `gray` nothing but the adapters came out."""
    counted = {"parameters_base": 1000, "parameters_adapters": 300, "parameters_step_sizes": 4}
    accounts, rows = [], []
    for setting in ("r25", "gray"):
        accounts += [
            {**account("lorun_transfer", **counted, parameters_network=1304), "setting": setting},
            {**account("block_k", parameters_network=4004), "setting": setting},
        ]
        rows += [{**row, "setting": setting} for row in rows_of("lorun_transfer", 0, [30.0, 31.0], [0.8, 0.9])]
    rows += rows_of("frozen", 0, [29.0], [0.7]) + rows_of("frozen", 1, [30.0], [0.7])
    rows += rows_of("block_k", 0, [32.0], [0.9])
    return summarised(tasks_profile, rows, accounts)


def test_what_a_task_adds_to_the_base_of_another_one(tasks_profile, shared):
    table = tasks(tasks_profile, shared)
    assert list(zip(table.task, table.setting, table.base, strict=True)) == [
        ("cs", "r25", "denoise/gray"),
        ("cs", "gray", "denoise/gray"),
    ]
    one, other = (row for _, row in table.iterrows())
    parts = ("base", "adapters", "step_sizes", "added", "full")
    assert [one[f"parameters_{part}"] for part in parts] == [1000, 300, 4, 304, 4004]
    assert [one[f"bytes_{part}"] for part in parts] == [4000, 1200, 16, 1216, 16016]
    assert (one.metric, one.protocol) == ("psnr", FIRST)
    assert (one.frozen, one.lorun_transfer, one.block_k) == (29.5, 30.5, 32.0)
    assert one.frozen_sd == pytest.approx(0.707107)
    assert other.lorun_transfer == 30.5
    assert pd.isna(other.frozen)
    assert pd.isna(other.block_k)


def test_the_page_says_what_tasks_cost_that_share_a_base(tasks_profile, shared):
    page = render(tasks_profile, replace(results_of([]), summary=shared, tasks=tasks(tasks_profile, shared)))
    section = page.split("## One base for several tasks\n")[1].split("\n## ")[0]
    (table,) = tables(section)
    one, other = (dict(zip(table[0], cells, strict=True)) for cells in table[2:])
    assert (one["frozen"], one["lorun_transfer"], one["block_k"]) == ("29.50 ± 0.71", "30.50", "32.00")
    assert (one["bytes of the base"], one["added by adapters"], one["full network"]) == ("4 000", "1 216", "16 016")
    assert (other["frozen"], other["block_k"]) == ("–", "–")
    assert "what 2 settings add to it take 6 432 bytes (float32); as many networks of their own take 32 032" in section


def test_without_an_account_the_bytes_are_unknown_not_nothing(tasks_profile):
    rows = rows_of("lorun_transfer", 0, [30.0], [0.8])
    table = tasks(tasks_profile, summarised(tasks_profile, rows))
    assert table.bytes_added.isna().all()
    summary = summarised(tasks_profile, rows)
    page = render(tasks_profile, replace(results_of([]), summary=summary, tasks=table))
    assert re.search(
        r"what \d settings? add to it take – bytes \(float32\); as many networks of their own take –\.", page
    )


def test_where_no_task_shares_a_base_there_is_no_such_table(make_profile):
    profile = make_profile([0])
    assert tasks(profile, summarised(profile, SCORES)).empty
    assert "One base for several tasks" not in page_of(profile, SCORES)


def tables(page):
    """The Markdown tables of a page, as lists of rows of cells."""
    found = [[]]
    for text in page.splitlines():
        if text.startswith("|"):
            assert text.endswith("|")
            found[-1].append([cell.strip() for cell in text.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def page_of(profile, rows, accounts=()):
    """Both pages of a result set."""
    return text_of(profile, computed(profile, results_of(rows, accounts)))


def text_of(profile, results):
    return "".join(reversed(pages(profile, results).values()))


@pytest.mark.parametrize("accounts", [ACCOUNTS, ()], ids=["accounted", "not accounted"])
def test_every_line_of_a_markdown_table_has_the_same_cells(make_profile, accounts):
    page = page_of(make_profile([0]), SCORES, accounts)
    scores, paired, claimed, other_protocol, parameters, by_kind = tables(page)
    for table in (scores, paired, claimed, other_protocol, parameters, by_kind):
        assert len({len(cells) for cells in table}) == 1
        assert all(re.fullmatch(":?-{2,}:?", cell) for cell in table[1])
        assert all(cell for cells in table for cell in cells)  # null is a dash, not a void
    assert [cells[0] for cells in scores[2:]] == ["block_k", "lorun", "linear_mmse"]
    assert not re.search(r"\b(nan|None|NaN|<NA>|NA)\b", page)


def test_the_markdown_shows_the_rounded_figures_and_dashes(make_profile):
    rows = rows_of("lorun", 0, [30, 32], [0.5, 0.7]) + rows_of("lorun", 1, [33, 35], [0.8, 0.8])
    rows += rows_of("block_k", 0, [31.005], [0.5]) + rows_of("block_k", 1, status="diverged")
    scores, *_ = tables(
        page_of(make_profile(), rows, [account("lorun", parameters_network=12345, step_total=2_340_000)])
    )
    block_k, lorun, linear = (dict(zip(scores[0], cells, strict=True)) for cells in scores[2:])
    scores = ("**32.50 ± 2.12**", "**0.7000 ± 0.1414**", "completed 2/2")
    assert (lorun["PSNR (dB)"], lorun["SSIM"], lorun["status"]) == scores
    assert (lorun["network"], lorun["step (MB)"], lorun["inference (MB)"]) == ("12 345", "2.3", "–")
    assert "published" not in lorun  # there is no published value
    assert (block_k["status"], block_k["network"]) == ("diverged 1/2", "–")
    assert block_k["PSNR (dB)"] == "<ins>31.00</ins>"
    assert (lorun[DIFFERENCE], block_k[DIFFERENCE]) == ("-1.00", "–")  # of the one image and seed that both have
    assert (linear["PSNR (dB)"], linear["SSIM"], linear["status"]) == ("–", "–", "not_run 0/0")


def test_what_methods_share_is_shown_even_if_the_first_one_failed(make_profile):
    rows = rows_of("block_k", 0, status="failed") + rows_of("lorun", 0, [30, 31], [0.5, 0.5])
    rows[0]["checkpoint_policy"] = rows[1]["checkpoint_policy"] = None
    page = page_of(make_profile([0]), rows, [account("lorun", m=16, step_batch=2, step_patch=16, image=24)])
    assert "m = 16 per block" in page
    assert "2 test images" in page
    assert "checkpoint policy `last`" in page
    assert "a training step on 2 patches of 16 pixels; inference and GFLOPs of one image of 24 pixels" in page


def test_the_operator_is_named_and_its_count_of_measurements_where_it_has_one(make_profile):
    profile = make_profile([0])
    assert set(summarised(profile, SCORES).operator) == {"fixed_gaussian_8"}
    heading = "Ratio 25 %, Phi fixed_gaussian_8, "
    assert f"{heading}m = 16 per block, 1 test images" in page_of(profile, SCORES, [account("lorun", m=16)])
    assert f"{heading}1 test images" in page_of(profile, SCORES, [account("lorun", m=None)])


def test_simulated_data_are_called_so_in_every_table(make_profile):
    profile = make_profile([0])
    for names in ([], ["tiny"]):
        results = computed(profile, results_of(SCORES), names)
        assert (results.summary.simulated == bool(names)).all()
        text = text_of(profile, results)
        lines = len(results.claims) + len(leading_differences(results))
        assert ("## cs, tiny (simulated), r25\n" in text) == bool(names)
        assert text.count("tiny (simulated)") == (2 + lines if names else 0)


def test_different_checkpoint_policies_are_listed_with_their_methods(make_profile):
    rows = rows_of("block_k", 0, [30, 31], [0.5, 0.5]) + rows_of("lorun", 0, [30, 31], [0.5, 0.5])
    for row in rows:
        row["checkpoint_policy"] = "released" if row["method"] == "block_k" else "last"
    page = page_of(make_profile([0]), rows, [])
    assert "checkpoint policy `released` (block_k), `last` (lorun).\n" in page


def test_the_oracle_is_shown_but_not_ranked_and_the_page_says_so(make_profile):
    profile = make_profile([0], strategies=["block_k", "lorun", "block_k_base", "oracle"])
    scored = (("block_k", 30), ("lorun", 31), ("oracle", 35))
    rows = [row for method, psnr in scored for row in rows_of(method, 0, [psnr])]
    page = render(profile, computed(profile, results_of(rows)))
    scores, *_ = tables(page)
    psnr = {cells[0]: cells[1] for cells in scores[2:]}
    marked = {"block_k": "<ins>30.00</ins>", "lorun": "**31.00**", "block_k_base": "–", "oracle": "35.00"}
    assert psnr == {**marked, "linear_mmse": "–"}
    assert "`oracle` is not ranked" in page
    assert "not ranked" not in page_of(make_profile([0]), SCORES)


def test_the_tables_for_latex_have_captions_and_escaped_names(make_profile):
    profile = make_profile([0])
    text = render_latex(computed(profile, results_of(SCORES)))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3  # scores, differences, claims
    assert r"\caption{made\_up, cs, tiny, r25: scores under cs\_float\_y}" in text
    assert r"\label{tab:made-up-cs-tiny-r25-scores-under-cs-float-y}" in text
    assert re.search(r"(?m)^linear\\_mmse & ", text)
    assert r"\textbf{" in text
    assert not re.search(r"(?<!\\)_", re.sub(r"\\label.*", "", text))
