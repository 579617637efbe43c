"""What profiles and runs need of a saved model, see `lorun.models`: its experiment, training and checksum."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from lorun.errors import LorunError
from lorun.methods.experiment import Experiment

MODEL_CONFIG, MODEL_WEIGHTS = "config.json", "model.safetensors"


class Shipped(NamedTuple):
    """`training` is the outcome of the training as JSON; `sha256` that of the weights."""

    experiment: Experiment
    training: dict[str, Any]
    sha256: str


def read_shipped(folder: Path) -> Shipped:
    """Read `config.json` of a model. Raises LorunError where it is missing or damaged."""
    path = folder / MODEL_CONFIG
    try:
        content = json.loads(path.read_bytes())
        return Shipped(Experiment.model_validate(content["experiment"]), content["training"], content["sha256"])
    except FileNotFoundError:
        raise LorunError(f"{folder}: no model here: {MODEL_CONFIG} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LorunError(f"{path}: not the configuration of a model of this suite: {reason}") from error
