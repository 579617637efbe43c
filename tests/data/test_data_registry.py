"""The committed registry, manifests and DVC's files agree; entries that are wrong are refused."""

import re
from pathlib import Path

import pytest
import yaml

from lorun.data.checksums import (
    dataset_identity,
    folder_hash,
    md5_of_bytes,
    read_manifest,
    split_files,
    verify_dataset,
    write_manifest,
)
from lorun.data.registry import Dataset, read_registry, split_of
from lorun.errors import LorunError, UnknownName

PROJECT = Path(__file__).parents[2]
DATA = PROJECT / "data"
REGISTRY = read_registry(DATA)
MADE = [name for name, entry in REGISTRY.items() if entry.manual is None]
LOCK = yaml.safe_load((PROJECT / "dvc.lock").read_text())["stages"]

ENTRY = """\
set11:
  role: test
  tasks: [cs]
  what: photographs
  licence: none stated
  redistribution: not stated
  citation: somebody
  upstream:
    - {repository: "https://github.com/a/b", commit: "0123456789012345678901234567890123456789", path: "x/{file}"}
"""


def read(folder: Path, text: str) -> Dataset:
    (folder / "registry.yaml").write_text(text)
    return next(iter(read_registry(folder).values()))


@pytest.mark.parametrize("name", MADE)
def test_registry_manifest_and_dvc_lock_agree(name: str) -> None:
    manifest = read_manifest(DATA, name)
    (out,) = LOCK[f"dataset@{name}"]["outs"]
    assert folder_hash(DATA, name) == out["md5"]
    assert out["nfiles"] == len(manifest)
    assert LOCK[f"dataset@{name}"]["deps"][0]["md5"] == md5_of_bytes((DATA / f"{name}.md5").read_bytes())


def test_there_is_a_locked_stage_for_every_dataset() -> None:
    stage = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]["dataset"]
    assert stage["foreach"] == MADE
    assert {f"dataset@{name}" for name in MADE} == LOCK.keys()
    for name in MADE:
        assert LOCK[f"dataset@{name}"]["cmd"] == stage["do"]["cmd"].replace("${item}", name)


@pytest.mark.parametrize("name", [name for name in MADE if REGISTRY[name].upstream])
def test_every_file_has_one_upstream(name: str) -> None:
    for file in read_manifest(DATA, name):
        urls = [url for one in REGISTRY[name].upstream if (url := one.url(file))]
        assert len(urls) == 1
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/[^{}]+", urls[0])


@pytest.mark.parametrize("name", MADE)
def test_every_image_of_an_image_set_is_in_a_split(name: str) -> None:
    entry = REGISTRY[name]
    if "splits" not in entry.model_fields_set or entry.measurements is not None:  # which lie beside their operator
        return
    files = read_manifest(DATA, name)
    kind = "gray" if entry.cubes is None else "cube"
    assert all(split_of(entry.splits, file, kind) in entry.splits for file in files)
    assert sum(len(split_files(DATA, name, split, kind)) for split in entry.splits) == len(files) - len(entry.excluded)


def test_a_test_set_is_never_trained_on() -> None:
    for entry in REGISTRY.values():
        if "splits" in entry.model_fields_set:
            assert (entry.role == "test") == (set(entry.splits) == {"test"})


def test_validation_images_are_not_trained_on() -> None:
    validation = split_files(DATA, "bsds500", "validation", "gray")
    training = split_files(DATA, "bsds500", "train", "gray")
    assert (len(validation), len(training)) == (12, 387)
    assert not set(validation) & set(training)


@pytest.fixture
def excluding(tmp_path: Path) -> Path:
    """A data root with a dataset of three images, of which the registry excludes one."""
    (tmp_path / "set11").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "set11" / f"{name}.tif").write_text(name)
    (tmp_path / "registry.yaml").write_text(ENTRY + "  splits: {test: ['*.tif']}\n  excluded: {b.tif: a copy of a}\n")
    write_manifest(tmp_path, "set11")
    return tmp_path


def test_an_excluded_image_is_in_no_split_and_not_part_of_the_identity(excluding: Path) -> None:
    assert [*split_files(excluding, "set11", "test", "gray")] == ["a.tif", "c.tif"]
    verify_dataset(excluding, "set11")  # it may lie there
    identity, folder = dataset_identity(excluding, "set11"), folder_hash(excluding, "set11")
    (excluding / "registry.yaml").write_text(ENTRY)
    assert dataset_identity(excluding, "set11") == folder_hash(excluding, "set11") == folder != identity
    (excluding / "set11" / "b.tif").unlink()
    write_manifest(excluding, "set11")
    assert dataset_identity(excluding, "set11") == identity


def test_an_excluded_image_that_does_not_exist_is_an_error(excluding: Path) -> None:
    path = excluding / "registry.yaml"
    path.write_text(path.read_text().replace("b.tif:", "d.tif:"))
    with pytest.raises(LorunError, match="excludes d.tif from 'set11', which has no such file"):
        split_files(excluding, "set11", "test", "gray")


@pytest.mark.parametrize("name", MADE)
def test_what_is_there_is_intact(name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"data/{name} is not there: `lorun data fetch {name}`")
    verify_dataset(DATA, name)


def test_an_unknown_split_lists_the_choices() -> None:
    with pytest.raises(UnknownName, match="unknown split of bsds500 'tests'.*Choices: validation, train"):
        split_files(DATA, "bsds500", "tests", "gray")


def test_an_entry_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text("mine: {role: test}\nmine: {role: train}\n")
    with pytest.raises(LorunError, match=r"registry\.yaml: cannot be read as YAML: the key `mine` twice"):
        read_registry(tmp_path)


def test_an_entry_of_a_file(tmp_path: Path) -> None:
    assert read(tmp_path, ENTRY).upstream[0].url("a.tif") == (
        "https://raw.githubusercontent.com/a/b/0123456789012345678901234567890123456789/x/a.tif"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  licence: none stated\n", "", "`set11.licence` is missing"),
        ("  licence: none stated\n", "  licence: ' '\n", r"`set11.licence` \(=' '\): String should have at least 1 "),
        ("role: test", "role: tests", "`set11.role` .*Did you mean 'test'"),
        ("0123456789012345678901234567890123456789", "main", "`set11.upstream.0.commit`"),
        ('path: "x/{file}"', "files: {}", "give one of `path`, `files`, `address`"),
        ("  citation: somebody", "  citation: somebody\n  built_by: lorun.data.photos", "give one of `built_by`"),
        (
            "  citation: somebody",
            "  citation: somebody\n  cubes: {divide: 0, wavelengths: cave}",
            "`set11.cubes.divide`",
        ),
        ("  citation: somebody", "  citation: somebody\n  cubes: {wavelength: cave}", "Did you mean `wavelengths`"),
        ("set11:", "set11: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ENTRY
    with pytest.raises(LorunError, match=message):
        read(tmp_path, ENTRY.replace(old, new))
