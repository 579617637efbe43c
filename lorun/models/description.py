"""`config.json` of a model: the experiment, how it was trained, how its weights are stored, and its scores."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from lorun.code import ROOT
from lorun.config.section import Section, explain
from lorun.data.registry import read_registry
from lorun.errors import LorunError
from lorun.methods import Experiment, Plugin, Released
from lorun.methods.experiment import dataset_of
from lorun.methods.shipped import CONFIG, read_config
from lorun.physics import OperatorConfig
from lorun.training.outcome import Outcome

_COMPUTED = {
    "mask_file": ({"mask": "random"}, "mask"),
    "matrix_file": ({"matrix": "gaussian"}, "phi"),
    "kernels_file": ({"kernels": "drawn"}, "kernel_"),
}
"""By the option of an operator that names a file: what builds it without one, and what names of the tensors that the
file would fill begin with."""


class Score(Section):
    """The mean of one metric over the images of a test set, and over its degradations."""

    dataset: str
    protocol: str
    metric: str
    value: float
    images: int

    @property
    def place(self) -> tuple[str, str, str]:
        """What was measured where."""
        return self.dataset, self.protocol, self.metric


class Check(Section):
    """What half precision cost: the change of the first metric on a test set, dB."""

    dataset: str
    protocol: str
    metric: str
    full: float = Field(description="of the weights in single precision")
    half: float = Field(description="of the weights as they are stored")


class Description(Section):
    """Everything about a model but its tensors."""

    format: Literal[1] = 1
    run: str = Field(description="key of the run whose weights these are")
    experiment: Experiment = Field(description="method, operator and training; paths of files are relative")
    training: Outcome = Field(description="how the training ended, and what it ran on")
    precision: Literal["float32", "float16"] = Field(
        "float32", description="of the network's matrices and kernels as stored; all else is float32"
    )
    rebuilt: list[str] = Field(
        default_factory=list, description="tensors of the operator that follow from its section, and are not stored"
    )
    scores: list[Score] = Field(default_factory=list, description="of the run, as committed")
    check: Check | None = Field(None, description="of half precision")
    sha256: str = Field("", description="of model.safetensors")


def read_description(folder: Path) -> Description:
    """`config.json` of a model. Raises LorunError where it is missing, damaged, foreign, or of another version."""
    path, content = folder / CONFIG, read_config(folder)
    try:
        description = Description.model_validate(content)
    except ValidationError as error:
        raise LorunError(
            f"{path}: damaged, or of another version: {explain(error, Description.model_fields)}"
        ) from error
    except LorunError as error:
        raise LorunError(f"{path}: {error}") from error
    check_code(description.experiment, str(path))
    return description


def described(experiment: Experiment, outcome: Outcome) -> Description:
    """The description of a finished run, without scores.

    Raises:
        LorunError: the weights are others' (`weights` in the profile), the code of the network is no installed package,
            or the operator reads a file that a model cannot or may not hold.
    """
    if isinstance(experiment.spec, Released):
        raise LorunError(f"{experiment.name}: these weights were released by its authors; get them there")
    check_code(experiment, experiment.name)
    without_files(experiment)  # raises
    if "phi" in withheld_tensors(experiment.physics):  # a computed one would not fit the rest
        files = ", ".join(map(str, withheld_files(experiment.physics)))
        raise LorunError(f"{experiment.name}: a model would hold {files}, whose licence does not allow to pass it on")
    return Description(
        run=experiment.key,
        experiment=Experiment.model_validate(_relative(experiment.model_dump(mode="json"))),
        training=outcome.model_copy(update={"curve": [], "code": None}),
    )


def check_code(experiment: Experiment, source: str) -> None:
    """Raise LorunError where the network's code is named by a path, which would be run: names are the suite's own
    baselines, and those of packages that the user has installed."""
    spec = experiment.spec
    if isinstance(spec, Plugin) and not spec.reference.isidentifier():
        raise LorunError(
            f"{source}: the code of its network is the folder {spec.reference!r}; a model can only use a baseline of "
            "this suite or of an installed package (docs/baselines.md says how to make one)"
        )
    for other in (getattr(spec, "base", None), experiment.trained_as):
        if other is not None:
            check_code(other, source)


def without_files(experiment: Experiment) -> Experiment:
    """The experiment with an operator that needs no files: built from it, the operator has tensors of the same names.
    Their values, and the shapes of those that come from files, are to be replaced.

    Raises:
        LorunError: there is no such operator.
    """
    options: dict[str, Any] = {}
    for name, value in experiment.physics:
        if isinstance(value, Path):
            if name not in _COMPUTED:
                raise LorunError(f"a model cannot hold the operator's `{name}` (={value})")
            options |= {name: None, **_COMPUTED[name][0]}
    changes: dict[str, Any] = {"physics": experiment.physics.model_copy(update=options)}
    base: Experiment | None = getattr(experiment.spec, "base", None)
    if isinstance(experiment.spec, Plugin) and base is not None:  # it builds the network of its base
        changes["spec"] = experiment.spec.model_copy(update={"base": without_files(base)})
    return experiment.model_copy(update=changes)


def withheld_files(physics: OperatorConfig) -> list[Path]:
    """The files of an operator that a model does not hold: those of registered datasets that may not be passed on, or
    whose licence does not say so."""
    allowed = {name: entry.redistribution == "yes" for name, entry in read_registry(ROOT / "data").items()}
    return [path for path in physics.files if not allowed.get(str(dataset_of(path)), True)]


def withheld_tensors(physics: OperatorConfig) -> tuple[str, ...]:
    """What the names of the operator's tensors begin with that such files fill. A model has computed ones instead."""
    files = withheld_files(physics)
    return tuple(start for name, (_, start) in _COMPUTED.items() if getattr(physics, name, None) in files)


def _relative(value: Any) -> Any:
    """JSON with relative paths: from the top of the repository, or the name of a file elsewhere."""
    if isinstance(value, dict):
        return {key: _relative(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_relative(one) for one in value]
    if isinstance(value, str) and Path(value).is_absolute():
        path = Path(value)
        return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    return value
