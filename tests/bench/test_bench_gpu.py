"""workflow/gpu.py in three steps of tiny networks."""

import subprocess
import sys

import pandas as pd
import pytest
import torch
from tiny import PROJECT

from lorun.profiles import load_profile

pytestmark = pytest.mark.skipif(not (PROJECT / "data/photos").is_dir(), reason="the dataset photos is not built")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, "workflow/gpu.py", str(folder), "--dry-run", "--rounds", "2"]
    subprocess.run(command, cwd=PROJECT, check=True)
    return folder


def test_a_dry_run_trains_three_steps_of_the_loralib_layout_and_scores(out):
    experiment = load_profile(out / "profile.yaml").experiment("cs", "r25", "lorun", 0)
    assert experiment.spec.adapters.layout == "loralib"
    assert experiment.training.precision == "auto"
    assert experiment.training.steps + experiment.base.training.steps == 3
    scores = pd.read_csv(out / "scores.csv")
    assert scores[scores.metric == "psnr"].value.between(10, 40).all()


def test_speed_is_compared_with_peft_and_block_k(out):
    speed = pd.read_csv(out / "speed.csv").set_index("variant")
    assert list(speed.index) == ["lorun", "lorun_by_peft", "block_k"]
    assert (speed.images_per_s_low <= speed.images_per_s_high).all()
    assert speed.share_of_ceiling.between(0, 1, inclusive="neither").all()
    assert speed.peak_counted["lorun"] <= speed.peak_counted["lorun_by_peft"]
    assert speed.peak_measured.isna().all() != torch.cuda.is_available()
