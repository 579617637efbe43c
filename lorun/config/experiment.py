"""One training and everything measured on it, and the hashes that name it."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from lorun.config.evaluation import AccountingConfig, EvaluationConfig
from lorun.config.methods import ADAPTED, DEEP_PLUG_AND_PLAY, PRETRAIN, PRETRAINED
from lorun.config.network import LoraConfig, SplittingConfig, UnfoldingConfig
from lorun.config.section import Section
from lorun.config.training import DataConfig, TrainingConfig
from lorun.denoisers import DenoiserConfig
from lorun.physics import PhysicsConfig

# Of a training: what decides the bytes of a step, beside its sizes.
_SHAPE_A_STEP = {"optimizer", "weight_decay", "clip_norm", "ema", "loss", "precision", "recompute", "memory_budget"}

_KEY_LENGTH = 10  # hex digits of a run's key: 40 bits, ample for the runs of one suite


_IF_ANOTHER_TASK: Any = Field(None, exclude_if=lambda said: said is None)  # absent, so that hashes stay


class BaseConfig(Section):
    """The setting that a base was pretrained in; of another task, all that may differ there and shapes the base."""

    setting: str
    physics: PhysicsConfig
    task: str | None = _IF_ANOTHER_TASK
    data: DataConfig | None = _IF_ANOTHER_TASK
    unfolding: UnfoldingConfig | None = _IF_ANOTHER_TASK
    training: TrainingConfig | None = _IF_ANOTHER_TASK


class OutsideCode(Section):
    """Where a baseline is that is not of this repository, and which code that is."""

    reference: str = Field(description="as a profile says it: the path of a folder, or the name of an entry point")
    package: str | None = Field(description="name and version of the installed package that it is of, if it is")
    digest: str = Field(description="hash of the code, see `lorun.plugins.places.Place.digest`")


def outside_code(reference: str) -> OutsideCode | None:
    """That of a baseline; None for one of the suite's own. Raises as `lorun.plugins.places.find`."""
    from lorun.plugins.places import find  # baselines are built on the configuration

    place = find(reference)
    return OutsideCode(reference=reference, package=place.package, digest=place.digest) if place.outside else None


# What a run's folder is named by is the code, wherever it lies.
_PLACE = {"outside": {"reference", "package"}}


class Experiment(Section):
    """One training and everything measured on it: a (task, setting, method, seed), fully resolved."""

    task: str
    setting: str
    method: str
    seed: int
    data: DataConfig
    physics: PhysicsConfig
    denoiser: DenoiserConfig
    unfolding: UnfoldingConfig
    lora: LoraConfig
    training: TrainingConfig
    weights: Path | None = Field(None, description="released weights that take the place of a training")
    evaluation: EvaluationConfig
    accounting: AccountingConfig
    base: BaseConfig | None = Field(
        None,
        exclude_if=lambda base: base is None,  # absent, so that hashes are those of before there was such a thing
        description="where the base of lorun_transfer, frozen or deep_plug_and_play comes from; None where it is of "
        "the same setting",
    )
    splitting: SplittingConfig | None = Field(
        None,
        exclude_if=lambda splitting: splitting is None,  # absent, as above
        description="constants of deep_plug_and_play; None for all other methods",
    )
    outside: OutsideCode | None = Field(
        None,
        exclude_if=lambda outside: outside is None,  # as for `base`
        description="the code of a baseline that is not of this repository; None for all others",
    )

    @property
    def key(self) -> str:
        """Hash of all that can change the trained weights; the same for the same run in any profile."""
        return _digest(self._shapes_weights())[:_KEY_LENGTH]

    def _shapes_weights(self) -> dict[str, Any]:
        left_out: dict[str, Any] = {**dict.fromkeys(("task", "setting", "evaluation", "accounting"), True), **_PLACE}
        # What is not set is left out too: an option that a later version adds does not change the keys of today.
        said = self.model_dump(mode="json", exclude=left_out, exclude_none=True)
        if self.weights is not None:
            return {part: said[part] for part in ("method", "physics", "weights", "outside") if part in said}
        said["data"].pop("test")
        if self.base is not None:
            del said["base"]["setting"]  # a name
            if self.base.task is not None:
                said["base"] = self.pretraining._shapes_weights()
        if self.method not in ADAPTED:
            del said["lora"]
        if self.method == DEEP_PLUG_AND_PLAY:  # nothing is trained here, and there are no stages
            del said["training"], said["unfolding"]
            return said
        if self.method not in (*PRETRAINED, PRETRAIN):
            del said["training"]["phase1_steps"]
        if self.method == PRETRAIN:
            del said["training"]["steps"]
        if self.method in ("block1", PRETRAIN):
            del said["unfolding"]["stages"]
        if self.method != "shared_sigma":
            del said["unfolding"]["noise_level"]
        for resolved_or_irrelevant in ("learning_rates", "checkpoint_every", "recompute", "memory_budget"):
            said["training"].pop(resolved_or_irrelevant, None)
        return said

    @property
    def trained_on(self) -> list[str]:
        """The datasets that shape a training, those of its operator, its released weights and its base included."""
        files = [*self.physics.files, *([] if self.weights is None else [self.weights])]
        files += [] if self.base is None else self.base.physics.files
        found = {name for path in files if (name := dataset_of(path)) is not None}
        if self.base is not None and self.base.data is not None:
            found |= {self.base.data.train, self.base.data.validation}
        if self.weights is None:
            found |= {self.data.train, self.data.validation}
        elif self.physics.fitted:
            found.add(self.data.train)
        return sorted(found)

    @property
    def datasets(self) -> list[str]:
        """All datasets, those that are scored on too."""
        return sorted({*self.trained_on, *self.data.test})

    @property
    def labels(self) -> dict[str, Any]:
        """What tells the experiment from others in a table: task, setting, method, seed."""
        return {"task": self.task, "setting": self.setting, "method": self.method, "seed": self.seed}

    @property
    def config_hash(self) -> str:
        """Hash of the whole experiment, measures included; options that came later show only where they are used."""
        said = self.model_dump(mode="json", exclude=_PLACE)
        for option in ("recompute", "memory_budget"):
            if said["training"][option] == TrainingConfig.model_fields[option].default:
                del said["training"][option]
        return _digest(said)[:_KEY_LENGTH]

    @property
    def account_key(self) -> str:
        """Hash of what can change an account: the sizes and how a step is made, whatever the data, seed and budget."""
        left_out = dict.fromkeys(("seed", "training", "weights", "evaluation", "data", "base"), True)
        sizes = self.model_dump(mode="json", exclude={**left_out, **_PLACE})
        step = self.training.model_dump(mode="json", include=_SHAPE_A_STEP)
        return _digest({**sizes, "channels": self.data.channels, "step": step})[:_KEY_LENGTH]

    @property
    def baseline(self) -> str:
        """What finds the method where it is a baseline (see `lorun.plugins.places`)."""
        return self.method if self.outside is None else self.outside.reference

    @property
    def name(self) -> str:
        return f"{self.task}/{self.setting}/{self.method} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run lies below the folder of all runs."""
        return Path(self.task, self.setting, self.method, f"seed{self.seed}-{self.key}")

    @property
    def pretraining(self) -> Self:
        """What an experiment of one of the `PRETRAINED` starts from, in the task and setting of its base: phase 1, or
        where nothing is trained on top of it, a training of all steps."""
        method = "block1" if self.method == DEEP_PLUG_AND_PLAY else PRETRAIN
        where = {} if self.base is None else {part: said for part, said in self.base if said is not None}
        return self.model_copy(update={"method": method, "base": None, "splitting": None, **where})

    @property
    def stages(self) -> int:
        if self.splitting is not None:
            return self.splitting.iterations
        return 1 if self.method in ("block1", PRETRAIN) else self.unfolding.stages

    @property
    def first_step(self) -> int:
        """Position in the patch stream at which this run starts: LoRun's phase 2 goes on where phase 1 ended.

        On the base of another task it is where its own phase 1 would have ended, so that adapters have the same steps
        on any base.
        """
        return self.training.phase1_steps if self.method in PRETRAINED else 0

    @property
    def last_step(self) -> int:
        return self.training.phase1_steps if self.method == PRETRAIN else self.training.steps


def dataset_of(path: Path) -> str | None:
    """The dataset that a file of a profile belongs to: data/NAME/..., or None for a file from elsewhere."""
    parts = path.parts
    return parts[1] if len(parts) > 2 and parts[0] == "data" else None


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
