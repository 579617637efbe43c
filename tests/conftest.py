"""Fixtures for all tests: synthetic images with a manifest, and a profile that trains on them in seconds."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from scipy.io import savemat
from tiny import CAPTURES, IMAGES, PROFILE, SPECTRAL_PROFILE, SR_PROFILE

from lorun.data.checksums import write_manifest
from lorun.data.png import encode_png
from lorun.physics._kernels import gaussian_kernel
from lorun.physics.cassi import CASSI, random_mask
from lorun.profiles import Profile, load_profile

settings.register_profile("quick", max_examples=30, deadline=None)
settings.register_profile("thorough", max_examples=500, deadline=None)  # pytest --hypothesis-profile thorough
settings.load_profile("quick")


LONGEST = (
    "docs/test_docs_commands.py",
    "workflow/test_workflow_interrupted.py",
    "workflow/test_workflow_launch.py",
    "baselines/test_baselines_contract.py",
    "accounting/test_accounting_prediction.py",
    "data/test_data_overlap.py",
    "workflow/test_workflow_tutorial.py",
    "workflow/test_workflow_verdict.py",
    "training/test_training_distributed.py",
    "docs/test_docs_site.py",
    "evaluation/test_evaluation_published.py",
)
"""Files whose tests take longest. They come first, so that no worker is left with one when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    rank = {tests / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Each worker of pytest-xdist has a core."""
    torch.set_num_threads(1)


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[Counter[str]]:
    """How often something was `refused` or `accepted`; `make fuzz` writes it into a table."""
    counts: Counter[str] = Counter()
    yield counts
    for name, count in counts.items():
        record_property(name, count)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset `tiny`: gray images of 40 x 44 pixels. Read only."""
    root = tmp_path_factory.mktemp("tiny") / "data"
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:44] / 44
    for split, names in IMAGES.items():
        for name in names:
            a, b, c = random.uniform(2, 12, 3)
            pixels = 0.5 + 0.3 * np.sin(a * x + b * y) + 0.15 * np.sign(np.sin(c * x * y * 6))
            path = root / "tiny" / split / "gray" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png((pixels.clip(0, 1) * 255).astype(np.uint8)[None]))
    write_manifest(root, "tiny")
    return root


@pytest.fixture(scope="session")
def spectral_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `cubes`, 28 bands of 20 x 22 pixels, and `captures`, the measurements of the test split by the
    operator of the spectral profile, with its mask. Read only."""
    root = tmp_path_factory.mktemp("spectral") / "data"
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:20, 0:22] / 22
    band = np.linspace(0, 1, 28)[:, None, None]
    physics = CASSI(random_mask(24, 24, 0), dtype=torch.float64)
    (root / "captures").mkdir(parents=True)
    for split, names in IMAGES.items():
        (root / "cubes" / split / "cube").mkdir(parents=True)
        for name in names:
            a, b, c = random.uniform(1, 9, 3)
            cube = 0.5 + 0.3 * np.sin(a * x + b * y + 3 * band) + 0.2 * np.cos(c * band)
            np.save(root / "cubes" / split / "cube" / f"{name}.npy", cube.clip(0, 1).astype(np.float32))
            if split == "test":
                measured = physics(torch.from_numpy(cube.clip(0, 1))[None])[0, 0].numpy()
                savemat(root / "captures" / f"{name}.mat", {"meas_real": measured})
    savemat(root / "captures" / "mask.mat", {"mask": physics.mask.numpy()})
    (root / "registry.yaml").write_text(CAPTURES)
    write_manifest(root, "cubes")
    write_manifest(root, "captures")
    return root


@pytest.fixture(scope="session")
def sr_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SR profile, `sr.yaml`, and its data: RGB images of 43 x 46 pixels, three kernels. Read
    only; its paths are relative to it."""
    root = tmp_path_factory.mktemp("sr")
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:43, 0:46] / 46
    for split, names in IMAGES.items():
        for name in names:
            a, b, c = random.uniform(2, 12, (3, 3, 1, 1))
            pixels = 0.5 + 0.3 * np.sin(a * x + b * y) + 0.15 * np.sign(np.sin(c * x * y * 6))
            path = root / "data" / "colour" / split / "rgb" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png((pixels.clip(0, 1) * 255).astype(np.uint8)))
    (root / "data" / "blurs").mkdir()
    widths = ((0.7, 0.7), (1.6, 0.8), (1.6, 1.6))
    kernels = [gaussian_kernel(9, width, 0.4).numpy() for width in widths]
    np.save(root / "data" / "blurs" / "blurs.npy", np.stack(kernels))
    write_manifest(root / "data", "colour")
    write_manifest(root / "data", "blurs")
    (root / "sr.yaml").write_text(yaml.safe_dump(SR_PROFILE, sort_keys=False))
    return root


@pytest.fixture
def spectral_profile(tmp_path: Path) -> Callable[..., Profile]:
    """The spectral profile, with parts of its sections replaced: spectral_profile(evaluation={"keep": []})."""

    def make(**sections: dict[str, object]) -> Profile:
        path = tmp_path / "spectral.yaml"
        task = {
            name: {**entry, **sections.get(name, {})} if isinstance(entry, dict) else entry
            for name, entry in SPECTRAL_PROFILE["tasks"]["cassi"].items()
        }
        path.write_text(yaml.safe_dump({**SPECTRAL_PROFILE, "tasks": {"cassi": task}}))
        return load_profile(path)

    return make


@pytest.fixture(scope="session")
def tasks_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `tiny` and, for `tasks_profile`, the same images as the dataset `other`. Read only."""
    root = tmp_path_factory.mktemp("tasks") / "data"
    for name in ("tiny", "other"):
        shutil.copytree(tiny_data / "tiny", root / name)
        write_manifest(root, name)
    return root


@pytest.fixture
def tiny_profile_file(tmp_path: Path) -> Path:
    """`tiny.yaml` in a folder of its own; tests edit it as YAML to change the profile."""
    path = tmp_path / "config" / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(PROFILE, sort_keys=False))
    return path


@pytest.fixture
def transfer_profile(tiny_profile_file: Path) -> Profile:
    """The tiny profile with a second setting, r10, where `lorun_transfer` has the base of r25."""
    task = {"settings": {"r10": {"ratio": 10}}, "base": {"lorun_transfer": {"setting": "r25"}}}
    task["strategies"] = ["block_k", "lorun", "lorun_transfer", "lorun_random"]
    path = tiny_profile_file.with_name("transfer.yaml")
    path.write_text(yaml.safe_dump({"extends": "tiny.yaml", "profile": "transfer", "tasks": {"cs": task}}))
    return load_profile(path)


@pytest.fixture
def tasks_profile(tiny_profile_file: Path) -> Profile:
    """The tiny task with the base of a task `denoise`, which has its own dataset `other` and training.

    Its settings are r25 and one with the same name as the setting of the base.
    """
    content = yaml.safe_load(tiny_profile_file.read_text())
    task = content["tasks"]["cs"]
    task["settings"]["gray"] = {"ratio": 10}
    denoise = {
        **task,
        "data": {"train": "other", "validation": "other", "test": ["tiny"]},
        "physics": {"name": "denoising", "noise": 25},
        "settings": {"gray": {"noise_range": [0, 50]}, "known": {"noise_map": True}},
        "training": {**task["training"], "steps": 10, "phase1_steps": 6, "learning_rate": 1e-3},
        "unfolding": {"stages": 2, "step_size": 0.7},
        "strategies": ["block1"],
        "baselines": [],
    }
    base = {"task": "denoise", "setting": "gray"}
    task |= {"base": {"lorun_transfer": base, "frozen": base}, "baselines": []}
    task["strategies"] = ["block_k", "lorun", "lorun_transfer", "frozen"]
    path = tiny_profile_file.with_name("tasks.yaml")
    path.write_text(
        yaml.safe_dump({"profile": "tasks", "seeds": [0], "tasks": {"cs": task, "denoise": denoise}}, sort_keys=False)
    )
    return load_profile(path)


@pytest.fixture
def tiny_profile(tiny_profile_file: Path) -> Profile:
    return load_profile(tiny_profile_file)
