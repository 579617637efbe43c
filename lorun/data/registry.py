"""The registry of datasets, `data/registry.yaml`: where each comes from, what it may be used for, how it is split."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lorun.config import explain
from lorun.errors import LorunError

DATA_ROOT = Path("data")

_GITHUB = "https://github.com/"
_RAW = "https://raw.githubusercontent.com/"

OWN_LAYOUT: Mapping[str, list[str]] = {split: [f"{split}/{{kind}}/*"] for split in ("train", "validation", "test")}
"""How the images of a dataset lie that says nothing else: SPLIT/gray/FILE, SPLIT/rgb/FILE, SPLIT/cube/FILE."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Upstream(_Entry):
    """Files of a git repository at one commit, or of any other web address."""

    repository: str | None = Field(None, pattern=rf"^{_GITHUB}[^/]+/[^/]+$")
    commit: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    path: str | None = Field(None, description="of every file, `{file}` standing for its path inside the dataset")
    files: dict[str, str] = Field(default_factory=dict, description="path inside the dataset -> path in the repository")
    address: str | None = Field(
        None, pattern=r"^https?://.*\{file\}", description="of every file, where it is not in a repository"
    )

    @model_validator(mode="after")
    def _one_way_of_naming(self) -> Self:
        if (self.repository is None) != (self.commit is None) or (self.repository is None) == (self.address is None):
            raise ValueError("give `repository` and `commit`, or `address`")
        if (self.path is not None) + bool(self.files) + (self.address is not None) != 1:
            raise ValueError("give one of `path`, `files`, `address`")
        return self

    @property
    def source(self) -> str:
        """For people."""
        return self.address or f"{self.repository}/tree/{self.commit}"

    def url(self, file: str) -> str | None:
        """Where a file of the dataset is to be had, or None where it is not from here."""
        if self.address is not None:
            return self.address.format(file=file)
        path = self.path.format(file=file) if self.path is not None else self.files.get(file)
        if path is None or self.repository is None:
            return None
        return f"{_RAW}{self.repository.removeprefix(_GITHUB)}/{self.commit}/{path}"


class Expectation(_Entry):
    """What the files of a dataset must be that its user obtains; see `lorun.data.manual`."""

    kind: Literal["images", "mat"]
    count: int = Field(ge=1, description="files")
    pattern: str = Field(description="of their names, whatever their case: *.bmp")
    names: list[str] | None = Field(None, description="their names, where known")
    channels: Literal[1, 3] | None = Field(None, description="of the images")
    min_side: int | None = Field(None, description="of the images, pixels")
    variable: list[str] | None = Field(None, description="accepted names of the variable in a .mat file")
    shape: list[int] | None = Field(None, description="of the variable")
    low: float | None = Field(None, description="smallest value allowed in the variable")
    high: float | None = Field(None, description="largest value allowed in the variable")


class CubeFormat(_Entry):
    """How the spectral cubes of a dataset are stored; see `lorun.data.cubes`."""

    wavelengths: Literal["kaist", "cave"] = Field(description="of the bands: 28 as KAIST, 31 as CAVE")
    variable: list[str] | None = Field(None, description="accepted names of the variable in a .mat file")
    divide: float | None = Field(
        None, gt=0, description="what all values are divided by; by default integers by the largest of their type"
    )


class MeasurementFormat(_Entry):
    """How the measurements of a dataset without a truth are stored, in .mat files; see `lorun.data.measurements`."""

    variable: list[str] = Field(min_length=1, description="accepted names of the variable")
    scale: float = Field(1.0, gt=0, description="what the largest value of each is brought to")


class Manual(_Entry):
    """A dataset that its user must obtain."""

    how: str = Field(min_length=1, description="where, in words")
    expected: Expectation


class Dataset(_Entry):
    """One entry of the registry."""

    role: Literal["train", "test", "train+test", "operator", "weights"]
    tasks: list[str] = Field(min_length=1)
    what: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    redistribution: Literal["yes", "no", "not stated"] = Field(description="may it be passed on?")
    citation: str = Field(min_length=1)
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}\.dir$", description="identity of the folder, as DVC has it")
    built_by: str | None = Field(None, description="module that builds it from what is installed")
    upstream: list[Upstream] = Field(default_factory=list)
    manual: Manual | None = None
    cubes: CubeFormat | None = Field(None, description="how its files are read, where they are spectral cubes")
    measurements: MeasurementFormat | None = Field(
        None, description="how its files are read, where they are measurements of which nobody knows the image"
    )
    simulated: bool = Field(False, description="made by a model instead of measured; tables say so")
    splits: dict[str, list[str]] = Field(
        default_factory=lambda: dict(OWN_LAYOUT),
        description="split -> patterns of paths, `{kind}` standing for gray, rgb or cube where several are there",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.built_by is not None) + bool(self.upstream) + (self.manual is not None) != 1:
            raise ValueError("give one of `built_by`, `upstream`, `manual`")
        return self

    @model_validator(mode="after")
    def _one_kind_of_content(self) -> Self:
        if self.cubes is not None and self.measurements is not None:
            raise ValueError("give `cubes` or `measurements`, or neither for photographs")
        return self

    @property
    def sources(self) -> list[str]:
        """Where it comes from, for people."""
        if self.built_by is not None:
            return [f"built by {self.built_by}"]
        if self.manual is not None:
            return [self.manual.how]
        return sorted({one.source for one in self.upstream})


def is_simulated(root: Path, name: str) -> bool:
    """Whether the registry says that a dataset is made by a model instead of measured."""
    entry = read_registry(root).get(name)
    return entry is not None and entry.simulated


def split_of(splits: Mapping[str, list[str]], file: str, kind: str) -> str | None:
    """The split that a file belongs to: the first one with a pattern that its path matches."""
    for split, patterns in splits.items():
        if any(fnmatchcase(file, pattern.format(kind=kind)) for pattern in patterns):
            return split
    return None


def read_registry(root: Path = DATA_ROOT) -> Mapping[str, Dataset]:
    """The registry in `root`, empty where there is none; the order is that of the file.

    Raises:
        LorunError: it cannot be read, or an entry is incomplete; the keys are named.
    """
    path = root / "registry.yaml"
    try:
        return _parsed(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise LorunError(f"{path}: cannot be read: {error}") from error


@cache
def _parsed(path: Path, text: str) -> Mapping[str, Dataset]:
    try:
        return TypeAdapter(dict[str, Dataset]).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        models = (Dataset, Upstream, Manual, Expectation, CubeFormat, MeasurementFormat)
        keys = {name for model in models for name in model.model_fields}
        raise LorunError(f"{path}: {explain(error, keys)}") from error
