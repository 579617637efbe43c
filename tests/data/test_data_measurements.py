"""Measurements without a truth: read, scaled, and refused where they are something else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.io import loadmat, savemat
from tiny import CAPTURES, PROJECT

from lorun.data.checksums import write_manifest
from lorun.data.images import load_dataset
from lorun.data.measurements import holds_measurements, load_measurements
from lorun.data.registry import read_registry
from lorun.errors import LorunError, UnknownName

VALUES = np.array([[0.0, 0.5, 1.0], [2.5, 0.25, 1.5]])


@pytest.fixture
def root_of(tmp_path: Path) -> Callable[..., Path]:
    """A data root with the dataset `captures`, of which `checks.mat` holds these variables."""

    def root_of(registry: str = CAPTURES, **variables: object) -> Path:
        root = tmp_path / "data"
        (root / "captures").mkdir(parents=True)
        (root / "registry.yaml").write_text(registry)
        savemat(root / "captures" / "checks.mat", variables)
        write_manifest(root, "captures")
        return root

    return root_of


def test_every_capture_is_brought_to_the_scale_of_its_dataset(spectral_data: Path) -> None:
    found = load_measurements(spectral_data, "captures", "test")
    assert list(found) == ["blobs", "checks"]  # neither the mask nor another order
    for name, values in found.items():
        raw = loadmat(spectral_data / "captures" / f"{name}.mat")["meas_real"]
        assert (values.shape, values.dtype) == ((1, 20, 22 + 54), np.float32)
        assert np.array_equal(values[0], (raw / raw.max() * 0.8).astype(np.float32))
    assert holds_measurements(spectral_data, "captures")
    assert not holds_measurements(spectral_data, "cubes")


def test_the_first_accepted_name_is_taken(root_of: Callable[..., Path]) -> None:
    root = root_of(meas=VALUES, meas_real=-VALUES)
    (values,) = load_measurements(root, "captures", "test").values()
    assert values == pytest.approx(VALUES[None] / 2.5 * 0.8, abs=1e-7)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_any_real_numbers_will_do(root_of: Callable[..., Path], dtype: type) -> None:
    (values,) = load_measurements(root_of(meas=(100 * VALUES).astype(dtype)), "captures", "test").values()
    assert values == pytest.approx(VALUES[None] / 2.5 * 0.8, abs=1e-6)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"y": VALUES}, "holds no variable `meas` or `meas_real`, but `y`"),
        ({"meas": VALUES[None]}, r"variable `meas` has shape \(1, 2, 3\), expected height x width"),
        ({"meas": 1j * VALUES}, "variable `meas` is not an array of real numbers"),
        ({"meas": np.where(VALUES > 2, np.nan, VALUES)}, "variable `meas` has 1 values that are not finite"),
        ({"meas": -VALUES}, "variable `meas` has no positive value: nothing was measured"),
        ({"meas": VALUES[:0]}, "variable `meas` is empty"),
    ],
)
def test_what_is_no_measurement_is_refused(
    root_of: Callable[..., Path], variables: dict[str, object], message: str
) -> None:
    with pytest.raises(LorunError, match=f"checks.mat: {message}") as caught:
        load_measurements(root_of(**variables), "captures", "test")
    assert "\n" not in str(caught.value)


def test_a_changed_file_is_refused(root_of: Callable[..., Path]) -> None:
    root = root_of(meas=VALUES)
    savemat(root / "captures" / "checks.mat", {"meas": 2 * VALUES})
    with pytest.raises(LorunError, match="does not have the checksum of its manifest"):
        load_measurements(root, "captures", "test")


def test_measurements_are_no_images_and_images_no_measurements(spectral_data: Path) -> None:
    for channels, kind in ((1, "gray images"), (3, "rgb images"), (28, "cubes")):
        with pytest.raises(LorunError, match=f"dataset 'captures' has no {kind} in its split test"):
            load_dataset(spectral_data, "captures", "test", channels)
    with pytest.raises(LorunError, match="dataset 'cubes' has no measurements in its split test"):
        load_measurements(spectral_data, "cubes", "test")
    with pytest.raises(UnknownName, match="unknown split of captures 'train'"):
        load_measurements(spectral_data, "captures", "train")


def test_an_entry_is_of_one_kind(root_of: Callable[..., Path]) -> None:
    registry = yaml.safe_load(CAPTURES)
    registry["captures"]["cubes"] = {"wavelengths": "kaist"}
    with pytest.raises(LorunError, match="give `cubes` or `measurements`, or neither"):
        read_registry(root_of(yaml.safe_dump(registry), meas=VALUES))


def test_the_real_captures_are_read_beside_their_mask() -> None:
    root = PROJECT / "data"
    if not (root / "cassi_real").is_dir():
        pytest.skip("data/cassi_real is not there: `lorun data fetch cassi_real`")
    found = load_measurements(root, "cassi_real", "test")
    assert list(found) == [f"scene{number}" for number in range(1, 6)]
    for values in found.values():
        assert values.shape == (1, 660, 714)
        assert values.min() >= 0
        assert values.max() == np.float32(0.8)
