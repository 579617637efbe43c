"""A small result set with kept reconstructions, and a browser that looks at its page."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lorun.evaluation.planned import planned_rows
from lorun.results.rows import to_frame, write_table
from tiny import PROFILE

from lorun.data.images import load_dataset
from lorun.data.png import encode_png
from lorun.evaluation.kept import image_path
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.provenance import provenance
from lorun.report import write_report
from lorun.results.paths import ROWS, account_path
from lorun.results.result_set import write_result_set
from lorun.training.outcome import CurvePoint, Outcome, write_outcome

# Scores in another order than the methods', parameters that as texts would sort otherwise.
METHODS = {
    "block1": (25.5, 9_000),
    "block_k": (29.25, 128_132),
    "lorun": (27.125, 50_380),
    "linear_mmse": (24.75, 0),
}
OFFSET = 7  # grey levels by which the reconstruction of block_k is off
MISSING = "linear_mmse"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PATIENCE = 120_000  # milliseconds: a machine that does much else takes long to read five megabytes of script
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Project:
    """Where the parts of a result set lie, and how to write its page."""

    config: Path
    profile: Profile
    folder: Path
    runs: Path
    data: Path

    def write(self, out: Path, **places: Path) -> Path:
        places = {"runs": self.runs, "data": self.data, **places}
        write_report(self.profile, self.config, self.folder, out=out, **places)
        return out


def _rows(experiment: Experiment) -> Iterator[dict[str, Any]]:
    score, _ = METHODS[experiment.method]
    said = provenance(experiment, {"tiny": "d" * 32 + ".dir"}, torch.device("cpu"))
    said |= {"commit": COMMIT, "dirty": False, "status": "completed", "steps": 8, "scored_step": 8}
    said |= {"checkpoint_policy": "last", "trained_commit": COMMIT, "trained_dirty": False, "trained_device": "cpu"}
    for number, image in enumerate(("blobs", "checks")):
        for row in planned_rows(experiment):
            value = score + number - 0.1 * (row["protocol"] == "cs_round_y")
            yield {**row, **said, "image": image, "value": value if row["metric"] == "psnr" else value / 40}


def _account(experiment: Experiment) -> dict[str, Any]:
    _, parameters = METHODS[experiment.method]
    return {
        "task": experiment.task,
        "setting": experiment.setting,
        "method": experiment.method,
        "stages": 3,
        "m": 16,
        **{f"parameters_{kind}": 0 for kind in ("operator", "adapters", "step_sizes", "other")},
        **{f"parameters_{kind}": parameters for kind in ("base", "network", "total", "trainable")},
        "step_batch": 2,
        "step_patch": 16,
        "step_total": 1_000_000 + 10 * parameters if parameters else None,
        "image": 24,
        "inference_total": 500_000 + parameters,
        "flops": 3_000_000_000,
        "latency_median_ms": 2.0,
        "latency_min_ms": 1.0,
        "latency_max_ms": 3.0,
        "latency_device": "cpu",
        "latency_threads": 1,
        "run": experiment.key,
        "config_hash": experiment.config_hash,
        "commit": COMMIT,
        "dirty": False,
    }


@pytest.fixture(scope="session")
def project(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three trained methods and one that is not, whose image is missing: `lorun` reconstructs exactly, `block_k` is
    off by the same everywhere. Not to be changed."""
    root = tmp_path_factory.mktemp("report")
    task = {**PROFILE["tasks"]["cs"], "strategies": ["block1", "block_k", "lorun"]}
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump({**PROFILE, "tasks": {"cs": task}}))
    profile, runs, folder = load_profile(config), root / "runs", root / "results" / "tiny"
    truth = load_dataset(tiny_data, "tiny", "test", 1)["checks"]
    for experiment in profile.experiments():
        run = runs / experiment.folder
        write_table(run / ROWS, to_frame(_rows(experiment)))
        account_path(runs, experiment).write_text(json.dumps(_account(experiment)))
        curve = [CurvePoint(step=step, loss=1 / step, validation_psnr=20 + step, learning_rate=0.1) for step in (4, 8)]
        outcome = Outcome(
            status="completed",
            steps=8,
            total_steps=8,
            scored_step=8,
            checkpoint_policy="last",
            seconds=3,
            cuda_peak_bytes=None,
            provenance={"device": "cpu", "threads": 1},
            curve=curve if experiment.method != "linear_mmse" else [],
        )
        write_outcome(run, outcome)
        if experiment.method != MISSING:
            pixels = {"lorun": truth, "block_k": np.where(truth < 128, truth + OFFSET, truth - OFFSET)}
            estimate = pixels.get(experiment.method, 255 - truth).astype(np.uint8)
            path = image_path(run, "tiny", "checks")
            path.parent.mkdir(parents=True)
            path.write_bytes(encode_png(estimate))
    write_result_set(profile, runs, folder, data=tiny_data)
    return Project(config, profile, folder, runs, tiny_data)


@pytest.fixture(scope="session")
def page_file(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.write(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, with a profile of its own that it leaves behind nowhere."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is on PATH")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@dataclass
class Noticed:
    """What a page should not do."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def _watch(page: Any) -> Noticed:
    noticed = Noticed()
    page.on("console", lambda said: noticed.errors.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: noticed.errors.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "data:")) else noticed.requests.append(asked.url),
    )
    return noticed


@pytest.fixture
def watch() -> Callable[[Any], Noticed]:
    """Watch a page: errors on the console or uncaught, and whatever is asked of anything but the file itself."""
    return _watch


@pytest.fixture
def visit(browser: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Open the page, or another file, at a size: visit(width=390, color_scheme="dark"). Whatever a test does with it,
    it must make no error and no request."""
    opened = []

    def open_one(file: Path = page_file, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        opened.append((context, _watch(page)))
        page.goto(file.as_uri())
        page.wait_for_selector("#scores .dt-column-order")
        page.wait_for_selector("#costs-plot .main-svg", state="attached")
        return page

    yield open_one
    for context, noticed in opened:
        context.close()
        assert noticed == Noticed()
