"""Known rows come out right: released weights on Set11 give what their authors' scripts give."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny import PROJECT

from lorun.evaluation.files import score_files
from lorun.results.comparison import TOLERANCE

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


@pytest.mark.parametrize(
    ("method", "ratio", "psnr", "ssim"),
    [(method, ratio, *scores) for method, ratios in SET11.items() for ratio, scores in ratios.items()],
)
def test_released_weights_give_the_published_scores_on_set11(method, ratio, psnr, ssim):
    fixed = method != "opine_net_plus"
    rows = score_files(
        method,
        data("set11"),
        weights=data(f"{FILES[method]}_ratio_{ratio}.pkl"),
        matrix=data(f"cs_sampling_33/phi_0_{ratio}_1089.mat") if fixed else None,
        initial=str(data(f"cs_sampling_33/Initialization_Matrix_{ratio}.mat")) if fixed else None,
        padding="always",
        protocols=["cs_float_y"],
        device=torch.device("cpu"),
    ).rows
    means = pd.DataFrame(rows).groupby("metric")["value"].mean()
    assert len(rows) == 22
    assert means["psnr"] == pytest.approx(psnr, abs=TOLERANCE["psnr"])
    assert means["ssim"] == pytest.approx(ssim, abs=TOLERANCE["ssim"])
