"""workflow/gpu.py in three steps of tiny networks."""

import sys
from types import SimpleNamespace

import gpu
import pandas as pd
import pytest
import torch
import typer
from processes import SERVER, command, start_processes
from tiny import PROJECT
from typer.testing import CliRunner

from lorun.bench import rounds
from lorun.profiles import load_profile

pytestmark = pytest.mark.skipif(not (PROJECT / "data/photos").is_dir(), reason="the dataset photos is not built")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")

    def run(words, check):
        """In place of `subprocess.run`: a command of `lorun`, in a fork."""
        assert (words[:3], check) == ([sys.executable, "-m", "lorun"], True)
        one = start_processes(folder / "printed" / "-".join([words[3], words[-1]]), 1, command, words[3:])
        assert one.exit_codes() == [0], one.shown()

    script = typer.Typer()
    script.command()(gpu.main)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        patch.setattr(gpu, "subprocess", SimpleNamespace(run=run))
        patch.setattr(rounds, "get_context", lambda _: SERVER)
        done = CliRunner().invoke(script, [str(folder), "--dry-run", "--rounds", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
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
