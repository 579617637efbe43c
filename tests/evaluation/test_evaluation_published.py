"""Known rows come out right: released weights on Set11 give what their authors' scripts give."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny import PROJECT

from lorun.evaluation.files import score_files
from lorun.results.comparison import TOLERANCE
from lorun.results.store import read_result_set

SET11 = {
    "ista_net": {1: (17.36, 0.4082), 4: (21.15, 0.5961), 10: (26.26, 0.7961), 25: (31.85, 0.9161)},
    "ista_net_plus": {1: (17.45, 0.4131), 4: (21.56, 0.6240), 10: (26.49, 0.8036), 25: (32.44, 0.9237)},
    "opine_net_plus": {4: (25.52, 0.7879), 25: (34.81, 0.9514)},
}
FILES = {"ista_net": "weights_ista_net/ISTA_Net", "ista_net_plus": "weights_ista_net/ISTA_Net_plus"}
FILES |= {"opine_net_plus": "weights_opine_net/OPINE_Net_plus"}


def data(name: str) -> Path:
    path = PROJECT / "data" / name
    if not path.exists():
        pytest.skip(f"data/{name} is not there: `lorun data fetch {Path(name).parts[0]}`")
    return path


CASES = [(method, ratio) for method, ratios in SET11.items() for ratio in ratios]
WHOLE = ("ista_net", 25)
"""All eleven images are scored again; with other weights two, which take a sixth of the time."""


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    rows = read_result_set(PROJECT / "results" / "published").rows
    return rows[rows.protocol == "cs_float_y"]


def committed_scores(committed: pd.DataFrame, method: str, ratio: int) -> pd.DataFrame:
    """Image x metric."""
    setting = f"r{ratio}_learned" if method == "opine_net_plus" else f"r{ratio}"
    rows = committed[(committed.method == method) & (committed.setting == setting)]
    return rows.pivot(index="image", columns="metric", values="value")


@pytest.mark.parametrize(("method", "ratio"), CASES)
def test_committed_scores_are_the_published_ones(committed, method, ratio):
    scores = committed_scores(committed, method, ratio)
    psnr, ssim = SET11[method][ratio]
    assert len(scores) == 11
    assert scores.psnr.mean() == pytest.approx(psnr, abs=TOLERANCE["psnr"])
    assert scores.ssim.mean() == pytest.approx(ssim, abs=TOLERANCE["ssim"])


@pytest.mark.parametrize(("method", "ratio"), CASES)
def test_released_weights_give_the_committed_scores_of_set11(committed, tmp_path, method, ratio):
    images = data("set11")
    if (method, ratio) != WHOLE:
        for name in ("Monarch.tif", "house.tif"):
            (tmp_path / name).symlink_to(images / name)
        images = tmp_path
    fixed = method != "opine_net_plus"
    rows = score_files(
        method,
        images,
        weights=data(f"{FILES[method]}_ratio_{ratio}.pkl"),
        matrix=data(f"cs_sampling_33/phi_0_{ratio}_1089.mat") if fixed else None,
        initial=str(data(f"cs_sampling_33/Initialization_Matrix_{ratio}.mat")) if fixed else None,
        padding="always",
        protocols=["cs_float_y"],
        device=torch.device("cpu"),
    ).rows
    scores = pd.DataFrame(rows).pivot(index="image", columns="metric", values="value")
    expected = committed_scores(committed, method, ratio)
    assert set(scores.index) == (set(expected.index) if (method, ratio) == WHOLE else {"Monarch", "house"})
    difference = (scores - expected.loc[scores.index]).abs().max()
    assert difference.psnr < 1e-3
    assert difference.ssim < 5e-5
