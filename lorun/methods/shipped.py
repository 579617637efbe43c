"""What profiles and runs need of a saved model, see `lorun.models`: its experiment, training and checksum."""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from lorun.config.reading import load_json
from lorun.config.section import explain
from lorun.errors import LorunError
from lorun.files import sha256_of
from lorun.methods.experiment import Experiment

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FORMAT = 1


class Shipped(NamedTuple):
    """`training` is the outcome of the training as JSON; `sha256` that of the weights."""

    experiment: Experiment
    training: dict[str, Any]
    sha256: str


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model. Raises LorunError where it is missing, damaged, foreign, or of another format."""
    path = folder / CONFIG
    try:
        content = load_json(path.read_bytes())
    except FileNotFoundError:
        raise LorunError(f"{folder}: no model here: {CONFIG} is missing") from None
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise LorunError(
            f"{path}: not the configuration of a model of this suite (`format` is {found!r}, not {FORMAT})"
        )
    return content


def read_shipped(folder: Path) -> Shipped:
    """What a profile needs of a model. Raises as `read_config`."""
    content = read_config(folder)
    try:
        experiment = Experiment.model_validate(content["experiment"])
        return Shipped(experiment, content["training"], content["sha256"])
    except ValidationError as error:
        reason = explain(error, Experiment.model_fields)
    except KeyError as error:
        reason = f"{error} is missing"
    raise LorunError(f"{folder / CONFIG}: damaged, or of another version: {reason}")


def check_weights(path: Path, sha256: str | None) -> None:
    """Raise LorunError where the weights of a model are not those that its `config.json` names."""
    if sha256_of(path) != sha256:
        raise LorunError(f"{path}: damaged: not the weights that {CONFIG} names; fetch the model anew")
