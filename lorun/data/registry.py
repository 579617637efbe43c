"""The registry of datasets, `data/registry.yaml`: the source, licence and splits of each."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lorun import extensions
from lorun.config.reading import load_yaml
from lorun.config.registry import field_names
from lorun.config.section import Name, Section, explain
from lorun.errors import LorunError, one_line

DATA_ROOT = Path("data")
REGISTRY = "registry.yaml"

_GITHUB = "https://github.com/"
_RAW = "https://raw.githubusercontent.com/"

OWN_LAYOUT: Mapping[str, list[str]] = {split: [f"{split}/{{kind}}/*"] for split in ("train", "validation", "test")}
"""The default layout of a dataset: SPLIT/gray/FILE, SPLIT/rgb/FILE, SPLIT/cube/FILE."""


class _Entry(Section):
    model_config = ConfigDict(str_strip_whitespace=True)


class Upstream(_Entry):
    """Files of a git repository at one commit, or files at a web address."""

    repository: str | None = Field(None, pattern=rf"^{_GITHUB}[^/]+/[^/]+$")
    commit: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    path: str | None = Field(
        None,
        description="path in the repository; `{file}`: path inside the dataset; `{folder}`, `{name}`: its parts",
    )
    files: dict[str, str] = Field(default_factory=dict, description="path inside the dataset -> path in the repository")
    address: str | None = Field(
        None, pattern=r"^https?://.*\{file\}", description="web address of the files, if they are in no repository"
    )

    @model_validator(mode="after")
    def _one_way_of_naming(self) -> Self:
        if (self.repository is None) != (self.commit is None) or (self.repository is None) == (self.address is None):
            raise ValueError("give `repository` and `commit`, or `address`")
        if (self.path is not None) + bool(self.files) + (self.address is not None) != 1:
            raise ValueError("give one of `path`, `files`, `address`")
        try:
            self.url("a")
        except (LookupError, ValueError, AttributeError):
            raise ValueError("in braces are `{file}`, or in `path` also `{folder}` and `{name}`") from None
        return self

    @property
    def source(self) -> str:
        """The source as tables show it."""
        return self.address or f"{self.repository}/tree/{self.commit}"

    def url(self, file: str) -> str | None:
        """The URL of a file of the dataset, or None if it has another upstream."""
        if self.address is not None:
            return self.address.format(file=file)
        parts = {"file": file, "folder": PurePosixPath(file).parent, "name": PurePosixPath(file).name}
        path = self.path.format(**parts) if self.path is not None else self.files.get(file)
        if path is None or self.repository is None:
            return None
        return f"{_RAW}{self.repository.removeprefix(_GITHUB)}/{self.commit}/{path}"


class Expectation(_Entry):
    """The files that `lorun data add` expects; see `lorun.data.manual`."""

    count: int = Field(ge=1, description="number of files")
    pattern: str = Field(description="of the file names, ignoring case: *.bmp")
    names: list[str] | None = Field(None, description="the file names, if known")
    channels: Literal[1, 3] | None = Field(None, description="of the images")
    size: list[int] | None = Field(None, description="height and width of the cubes")


class CubeFormat(_Entry):
    """How the spectral cubes of a dataset are stored; see `lorun.data.cubes`."""

    wavelengths: Literal["kaist", "cave"] = Field(description="of the bands: 28 (KAIST) or 31 (CAVE)")
    variable: list[str] | None = Field(None, description="accepted names of the variable in a .mat file")
    divide: float | None = Field(
        None, gt=0, description="divisor of all values; the default for integers is the largest value of their type"
    )
    bands: bool = Field(False, description="each cube is a folder of gray images, one a band, in the order of names")
    tiles: int | None = Field(None, ge=1, description="side of the squares that test cubes are cut into, pixels")


class MeasurementFormat(_Entry):
    """How measurements without ground truth are stored, in .mat files; see `lorun.data.measurements`."""

    variable: list[str] = Field(min_length=1, description="accepted names of the variable")
    scale: float = Field(1.0, gt=0, description="the largest value of each measurement after scaling")


class Manual(_Entry):
    """A dataset that users obtain themselves."""

    how: str = Field(min_length=1, description="where to get it")
    expected: Expectation


class Dataset(_Entry):
    """One entry of the registry."""

    role: Literal["train", "test", "train+test", "operator", "weights"]
    tasks: list[str] = Field(min_length=1)
    what: str = Field(min_length=1, description="what it contains")
    licence: str = Field(min_length=1)
    redistribution: Literal["yes", "no", "not stated"] = Field(description="whether it may be passed on")
    citation: str = Field(min_length=1)
    built_by: str | None = Field(None, description="module that builds it from installed packages")
    upstream: list[Upstream] = Field(default_factory=list)
    manual: Manual | None = None
    cubes: CubeFormat | None = Field(None, description="format of spectral cubes")
    measurements: MeasurementFormat | None = Field(None, description="format of measurements without ground truth")
    simulated: bool = Field(False, description="whether it is simulated instead of captured; tables show this")
    splits: dict[str, list[str]] = Field(
        default_factory=lambda: dict(OWN_LAYOUT),
        description="split -> patterns of paths; `{kind}` stands for gray, rgb or cube",
    )
    excluded: dict[str, str] = Field(default_factory=dict, description="file that is in no split -> the reason")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.built_by is not None) + bool(self.upstream) + (self.manual is not None) != 1:
            raise ValueError("give one of `built_by`, `upstream`, `manual`")
        if self.cubes is not None and self.measurements is not None:
            raise ValueError("give `cubes` or `measurements`, or neither for photographs")
        try:
            split_of(self.splits, "a", "gray")
        except (LookupError, ValueError, AttributeError):
            raise ValueError("`splits`: in braces is only `{kind}`") from None
        return self

    @property
    def sources(self) -> list[str]:
        """The sources as tables show them."""
        if self.built_by is not None:
            return [f"built by {self.built_by}"]
        return [self.manual.how] if self.manual is not None else sorted({upstream.source for upstream in self.upstream})


_UNREGISTERED = Dataset.model_construct(
    role="train+test",
    tasks=[],
    what="not registered",
    licence="not registered",
    redistribution="not stated",
    citation="",
)


def entry_of(root: Path, name: str) -> Dataset:
    """The entry of a dataset; for one that is not registered, an entry with the default layout and no origin."""
    return read_registry(root).get(name, _UNREGISTERED)


def split_of(splits: Mapping[str, list[str]], file: str, kind: str) -> str | None:
    """The first split with a pattern that matches the path of a file."""
    for split, patterns in splits.items():
        if any(fnmatchcase(file, pattern.format(kind=kind)) for pattern in patterns):
            return split
    return None


def read_registry(root: Path = DATA_ROOT) -> Mapping[str, Dataset]:
    """The registry in `root` in the order of the file, empty if there is no file, then those of installed packages.

    Raises:
        LorunError: a file cannot be read, or an entry is wrong; the keys are named. A package has a dataset with a name
            that is taken.
    """
    found = dict(_read(root / REGISTRY))
    for folder in package_folders():
        for name, entry in _read(folder / REGISTRY).items():
            if name in found:
                raise LorunError(f"{folder / REGISTRY}: there is another dataset called {name!r}")
            found[name] = entry
    return found


def package_folders() -> list[Path]:
    """The folders of installed packages that have datasets."""
    return list(dict.fromkeys(map(extensions.package_folder, extensions.declared("dataset"))))


def _read(path: Path) -> Mapping[str, Dataset]:
    try:
        return _parsed(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise LorunError(f"{path}: cannot be read: {error}") from error


@cache
def _parsed(path: Path, text: str) -> Mapping[str, Dataset]:
    try:
        return TypeAdapter(dict[Name, Dataset]).validate_python(load_yaml(text))
    except yaml.YAMLError as error:
        raise LorunError(f"{path}: cannot be read as YAML: {one_line(error)}") from error
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, field_names(Dataset))}") from error
