"""One run: a method on an operator with data and a seed, and everything that is measured of it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from lorun import extensions
from lorun.config.evaluation import AccountingConfig, EvaluationConfig
from lorun.config.section import Section, settings
from lorun.config.training import TrainingConfig
from lorun.methods.baselines import Released, Trained, Untrained
from lorun.methods.strategies import Strategy
from lorun.physics import Operator, PhysicsConfig

Spec = Annotated[Strategy | Trained | Untrained | Released, Field(discriminator="kind")]

Channels = Literal[1, 3, 28]

_KEY_LENGTH = 10  # hex digits of a run's key: 40 bits, ample for the runs of one suite


class Experiment(Section):
    """One run, fully resolved: (task, setting, method, seed) and all that they stand for."""

    task: str
    setting: str
    seed: int
    channels: Channels = Field(1, description="gray, RGB, or the 28 bands of a spectral cube")
    physics: PhysicsConfig
    fit_on: str | None = Field(None, description="dataset that the operator's initial reconstruction is fitted on")
    spec: Spec = Field(description="the method")
    test: list[str] = Field(description="datasets whose test split is scored")
    evaluation: EvaluationConfig
    accounting: AccountingConfig = AccountingConfig()
    trained_as: "Experiment | None" = Field(
        None, description="the run of another setting whose weights are scored here; nothing is trained then"
    )

    @property
    def method(self) -> str:
        """What tables call the method."""
        return self.spec.name

    @property
    def training(self) -> TrainingConfig | None:
        """How it is trained; None where nothing is."""
        return getattr(self.spec, "training", None)

    @property
    def base(self) -> "Experiment | None":
        """The run whose weights it starts from, or takes as they are, if any."""
        return self.trained_as or getattr(self.spec, "base", None)

    def build_network(self, physics: Operator) -> nn.Module:
        """A freshly initialised network of the method for its operator."""
        return self.spec.build(physics, self.channels, self.physics.noise_level_input)

    @property
    def stages(self) -> int | None:
        """K where it is a choice."""
        return getattr(self.spec, "stages", None)

    @property
    def key(self) -> str:
        """Hash of all that can change the trained weights; the same for the same run in any profile."""
        return _digest(self._identity())

    @property
    def config_hash(self) -> str:
        """Hash of all that can change the scores."""
        return _digest({**self._identity(), "test": self.test, "evaluation": settings(self.evaluation)})

    @property
    def account_key(self) -> str:
        """Hash of all that can change an account: sizes and the way of a step, whatever the data, seed and budget."""
        sizes: dict[str, Any] = {"channels": self.channels, "physics": settings(self.physics)}
        if code := [*self._installed_sections()]:
            sizes["code"] = code
        return _digest({**sizes, "method": self.spec.step_identity(), "accounting": settings(self.accounting)})

    @property
    def installed_code(self) -> list[str]:
        """What identifies code that is not part of this repository, see `lorun.extensions.code_of`."""
        protocols = (extensions.code_of("protocol", name) for name in self.evaluation.protocols)
        return [*filter(None, [self.spec.installed_code, *self._installed_sections(), *protocols])]

    def _installed_sections(self) -> Iterator[str]:
        """The code of the operator and the denoiser, where it is not part of this repository."""
        denoiser = getattr(self.spec, "denoiser", None)
        for kind, section in (("operator", self.physics), ("denoiser", denoiser)):
            code = None if section is None else extensions.code_of(kind, section.name)
            if code is not None:
                yield code

    def _identity(self) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.trained_as is None else {"trained_as": self.trained_as.key}
        if code := [one.partition("@")[0] for one in self._installed_sections()]:
            found["code"] = code
        return found | {
            "seed": self.seed,
            "channels": self.channels,
            "physics": settings(self.physics),
            "fit_on": self.fit_on,
            "method": self.spec.identity(),
        }

    @property
    def labels(self) -> dict[str, Any]:
        """What tells the run from others in a table: task, setting, method, seed."""
        return {"task": self.task, "setting": self.setting, "method": self.method, "seed": self.seed}

    @property
    def name(self) -> str:
        return f"{self.task}/{self.setting}/{self.method} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run lies below the folder of all runs."""
        return Path(self.task, self.setting, self.method, f"seed{self.seed}-{self.key}")

    @property
    def trained_on(self) -> list[str]:
        """The datasets that shape its weights: training, operator, released weights and base."""
        files = [*self.physics.files, *([self.spec.weights] if isinstance(self.spec, Released) else [])]
        found = {name for path in files if (name := dataset_of(path)) is not None}
        if isinstance(self.spec, Strategy) and self.spec.published:
            found |= {name for path in self.spec.denoiser.files if (name := dataset_of(path)) is not None}
        if isinstance(self.spec, Strategy | Trained) and self.spec.data is not None:
            found |= {self.spec.data.train, self.spec.data.validation}
        if self.fit_on is not None:
            found.add(self.fit_on)
        if self.base is not None:
            found |= {*self.base.trained_on}
        return sorted(found)

    @property
    def datasets(self) -> list[str]:
        """All datasets, those that are scored included."""
        return sorted({*self.trained_on, *self.test})


for _kind in (Strategy, Trained, Untrained):
    _kind.model_rebuild(_types_namespace={"Experiment": Experiment})
Untrained.model_rebuild(_types_namespace={"Experiment": Experiment})
Experiment.model_rebuild()


def dataset_of(path: Path) -> str | None:
    """The dataset that a file of a profile belongs to: data/NAME/...; None for a file elsewhere."""
    parts = path.parts
    return parts[1] if len(parts) > 2 and parts[0] == "data" else None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]
