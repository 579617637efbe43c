"""A small result set with kept reconstructions, and a browser that looks at its page."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import PROFILE

from lorun.cli.doctor import BROWSERS
from lorun.data.images import load_dataset
from lorun.data.png import encode_png
from lorun.evaluation.kept import image_path
from lorun.evaluation.protocols import get_protocol
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.provenance import provenance
from lorun.report import write_report
from lorun.results.paths import EVALUATION, account_path
from lorun.results.result_set import write_result_set
from lorun.results.store import write_evaluation
from lorun.training.outcome import CurvePoint, Outcome, write_outcome

# PSNR and parameters. Sorted by score, the methods have another order; parameters would sort differently as text.
METHODS = {
    "block1": (25.5, 9_000),
    "block_k": (29.25, 128_132),
    "lorun": (27.125, 50_380),
    "linear_mmse": (24.75, 0),
}
OFFSET = 7  # error of block_k in grey levels
MISSING = "linear_mmse"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PATIENCE = 120_000  # milliseconds: a busy machine is slow to read five megabytes of scripts


@dataclass(frozen=True)
class Project:
    """A result set, its runs and its data."""

    config: Path
    profile: Profile
    folder: Path
    runs: Path
    data: Path

    def write(self, out: Path, **places: Path) -> Path:
        places = {"folder": self.folder, "runs": self.runs, "data": self.data, **places}
        write_report(self.profile, self.config, out=out, **places)
        return out


def _evaluate(experiment: Experiment, folder: Path) -> None:
    score, _ = METHODS[experiment.method]
    code = {"lorun.step": "0123456789ab"}
    run = {**experiment.labels, **provenance(experiment, {"tiny": "d" * 32 + ".dir"}, torch.device("cpu"))}
    run |= {"commit": COMMIT, "dirty": False, "status": "completed", "steps": 8, "scored_step": 8, "code": code}
    run |= {"checkpoint_policy": "last", "trained_commit": COMMIT, "trained_dirty": False, "trained_device": "cpu"}
    rows = []
    for number, image in enumerate(("blobs", "checks")):
        for protocol in experiment.evaluation.protocols:
            value = score + number - 0.1 * (protocol == "cs_round_y")
            row = {**experiment.labels, "dataset": "tiny", "image": image, "protocol": protocol}
            for metric in get_protocol(protocol).metrics:
                rows.append({**row, "metric": metric, "value": value if metric == "psnr" else value / 40})
    write_evaluation(folder / EVALUATION, run, rows)


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
        "code": {"lorun.step": "0123456789ab"},
    }


@pytest.fixture(scope="session")
def project(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three trained methods and one without training and without a kept image. `lorun` reconstructs exactly, `block_k`
    has the same error everywhere. Do not change it."""
    root = tmp_path_factory.mktemp("report")
    task = {**PROFILE["tasks"]["cs"], "strategies": ["block1", "block_k", "lorun"]}
    config = root / "tiny.yaml"
    config.write_text(yaml.safe_dump({**PROFILE, "tasks": {"cs": task}}))
    profile, runs, folder = load_profile(config), root / "runs", root / "results" / "tiny"
    truth = load_dataset(tiny_data, "tiny", "test", 1)["checks"]
    for experiment in profile.experiments():
        run = runs / experiment.folder
        _evaluate(experiment, run)
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
    """Headless Chromium with a temporary profile."""
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
class Problems:
    """What a page must not do: errors on the console, and requests for anything but its own file."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def _watch(page: Any) -> Problems:
    found = Problems()
    page.on("console", lambda entry: found.errors.append(entry.text) if entry.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on(
        "request", lambda sent: None if sent.url.startswith(("file:", "data:")) else found.requests.append(sent.url)
    )
    return found


@pytest.fixture
def watch() -> Callable[[Any], Problems]:
    return _watch


@contextmanager
def _opened(browser: Any, file: Path, width: int = 1280) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    problems = _watch(page)
    page.goto(file.as_uri())
    page.wait_for_selector("#scores .dt-column-order")
    page.wait_for_selector("#costs-plot .main-svg", state="attached")
    yield page
    context.close()
    assert problems == Problems()


@pytest.fixture
def visit(browser: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Open the page, or another file, in a window of its own: visit(width=390)."""
    with ExitStack() as stack:
        yield lambda file=page_file, **options: stack.enter_context(_opened(browser, file, **options))


@pytest.fixture(scope="session")
def _shared_page(browser: Any, page_file: Path) -> Iterator[Any]:
    with _opened(browser, page_file) as page:
        yield page


@pytest.fixture
def page(_shared_page: Any) -> Any:
    """The page in a window that all tests share, with everything but the order of rows set back. After the session, it
    must have made no error and no request."""
    _shared_page.emulate_media(color_scheme="light")
    _shared_page.set_viewport_size({"width": 1280, "height": 900})
    _shared_page.mouse.move(0, 0)
    _shared_page.evaluate(
        """() => {
            document.getElementById("line").close();
            const set = (selector, value, event) => document.querySelectorAll(selector).forEach((control) => {
                control.value = value ?? control.options[0].value;
                control.dispatchEvent(new Event(event));
            });
            set("input[type=search]", "", "input");
            set(".protocol", null, "change");
            set("#gain", 5, "input");
            document.querySelector("input[name=show][value=image]").click();
            set("#section", null, "change");
            scrollTo(0, 0);
        }"""
    )
    _shared_page.wait_for_selector("#panels canvas")
    return _shared_page
