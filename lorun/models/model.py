"""A trained network with its operator: load it from a folder, by its name or from the Hugging Face Hub, and save it."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from pydantic import ValidationError
from tabulate import tabulate
from torch import Tensor, nn

from lorun.code import shipped
from lorun.config.section import explain
from lorun.errors import LorunError, UnknownName, one_line
from lorun.evaluation.metrics import METRICS
from lorun.files import replace_folder, sha256_of, write_text
from lorun.methods import Experiment, Strategy
from lorun.methods.experiment import dataset_of
from lorun.methods.shipped import CONFIG, WEIGHTS, check_weights
from lorun.models.card import card
from lorun.models.description import Description, read_description, withheld_tensors, without_files
from lorun.physics import Operator
from lorun.system import System, build_system
from lorun.training.weights import load_state, load_weights, save_weights

PLACES = (Path("models"), shipped("models"))
"""Folders of models that are found by name: that of the working directory, and the committed ones."""

ADAPTERS = "adapters"
CARD = "README.md"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


class Model(nn.Module, ModelHubMixin):
    """`model(y, physics)` estimates the images x (B, C, H, W) in [0, 1] from measurements y.

    Attributes:
        network: the network.
        physics: the operator that it was trained for, fitted; `physics.at(height, width)` binds it to a size. Where
            its files may not be passed on, a loaded model has computed kernels, or a computed mask, instead.
        description: the experiment, training and scores.
    """

    def __init__(self, system: System, description: Description) -> None:
        super().__init__()
        self.network = system.network
        self.physics: Operator = system.physics
        self.description = description

    def forward(self, y: Tensor, physics: Operator) -> Tensor:
        estimate: Tensor = self.network(y, physics)
        return estimate

    @property
    def experiment(self) -> Experiment:
        """What was trained."""
        return self.description.experiment

    @property
    def replaced(self) -> list[str]:
        """The tensors of a loaded model's operator that are computed in place of those from files, see `physics`."""
        return self.description.rebuilt if self.experiment.physics.files else []

    @property
    def system(self) -> System:
        """Network and operator as what trains and scores them takes them; they are shared."""
        return System(self.network, self.physics)

    def operator(self, **options: Any) -> Operator:
        """The operator with other options of its section, such as `operator(scale=3)` where the network can be used at
        several scales; what it was fitted on, or read from files, stays.

        Raises:
            LorunError: there is no such option, its value is not possible, or tensors of other shapes would be needed.
        """
        section = type(self.experiment.physics)
        fields = {**self.experiment.physics.model_dump(), **options}
        try:
            physics = section.model_validate(fields)
        except ValidationError as error:
            raise LorunError(f"operator {fields['name']!r}: {explain(error, section.model_fields)}") from error
        experiment = self.experiment.model_copy(update={"physics": physics})
        other, fresh = _built(experiment, self.state_dict()).physics, {}
        if not self.experiment.physics.files:
            _, rebuilt = self._stored_state()
            fresh = {name: tensor for name, tensor in other.state_dict().items() if f"physics.{name}" in rebuilt}
        load_state(other, {**self.physics.state_dict(), **fresh}, Path(self.description.run))
        return other

    def trained_operator(self) -> Operator:
        """The operator that it was trained for. Raises LorunError where one of its files is needed and not here."""
        if not self.replaced:
            return self.physics
        for path in self.experiment.physics.files:
            if not path.exists():
                raise LorunError(f"{path} is not here: `lorun data fetch {dataset_of(path)}` gets it")
        operator = self.experiment.physics.build()
        held = {name: one for name, one in self.physics.state_dict().items() if f"physics.{name}" not in self.replaced}
        load_state(operator, {**operator.state_dict(), **held}, Path(self.description.run))
        return operator.eval()

    def base_denoiser(self) -> nn.Module:
        """The denoiser of an adapted method without its adapters, which plain peft loads from `adapters/stage_k`.

        Raises:
            LorunError: the method has no adapters.
        """
        spec, network = self.experiment.spec, self.network
        if not isinstance(spec, Strategy) or not getattr(network, "adapted", False):
            raise LorunError(f"the method {self.experiment.method!r} has no adapters")
        inner: Any = network.denoisers[0]  # type: ignore[index]
        told = spec.noise_level is not None or self.experiment.physics.noise_level_input
        denoiser = spec.denoiser.build(self.experiment.channels, told)
        denoiser.load_state_dict(inner.base_parameters(), strict=False)  # buffers are constants
        return denoiser.eval()

    def rounded(self) -> Self:
        """This model with the weights of its network rounded to half precision, in which it is saved then."""
        rounded = copy.deepcopy(self)
        rounded.description = self.description.model_copy(update={"precision": "float16"})
        rounded.load_state_dict(_stored(self.state_dict(), "float16"))
        return rounded

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **options: Any
    ) -> "Model":
        """As the function `from_pretrained`."""
        return from_pretrained(pretrained_model_name_or_path, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.write(save_directory, save_directory.name)

    def write(self, folder: Path, name: str) -> None:
        """Write the files of this model, which is called `name`, into a folder."""
        state, rebuilt = self._stored_state()
        save_weights(folder / WEIGHTS, state, {"run": self.description.run})
        changes = {"rebuilt": rebuilt, "sha256": sha256_of(folder / WEIGHTS)}
        denoiser = self._peft_denoiser()
        if denoiser is not None:
            denoiser.save(folder / ADAPTERS)
        write_text(folder / CARD, card(self, name, with_adapters=denoiser is not None))
        write_text(folder / CONFIG, self.description.model_copy(update=changes).model_dump_json(indent=1) + "\n")

    def _stored_state(self) -> tuple[dict[str, Tensor], list[str]]:
        """The tensors that are stored, and the names of those of the operator that its section gives again, or that a
        computed one replaces."""
        own, physics = self.state_dict(), self.experiment.physics
        withheld = tuple(f"physics.{start}" for start in withheld_tensors(physics))
        rebuilt = [name for name in own if name.startswith(withheld) or name in self.replaced]
        if not physics.files:
            fresh = _built(self.experiment, own).physics.state_dict(prefix="physics.")
            rebuilt = [name for name, tensor in fresh.items() if torch.equal(own[name].cpu(), tensor)]
        kept = {name: tensor for name, tensor in own.items() if name not in rebuilt}
        return _stored(kept, self.description.precision), rebuilt

    def _peft_denoiser(self) -> Any:
        """A copy of the adapted denoiser to write in peft's format; None where there is none, or where peft's format is
        larger than ours: for loralib's convolutions and for transposed ones."""
        spec = self.experiment.spec
        if not isinstance(spec, Strategy) or spec.adapters is None or spec.adapters.layout != "peft":
            return None
        denoisers: Any = self.network.denoisers
        if not all(layer.in_peft for layer in denoisers[0].named_layers.values()):
            return None
        denoiser = copy.deepcopy(denoisers[0]).cpu()
        return denoiser.half() if self.description.precision == "float16" else denoiser


def from_pretrained(name: str | Path, **options: Any) -> Model:
    """Load a model, ready for inference on the CPU.

    Args:
        name: of a model in `models/` here or of this repository, or a folder, neither of which needs a network; or
            OWNER/NAME on the Hugging Face Hub.
        options: for the Hub: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        UnknownName: no model has this name.
        LorunError: there is no such folder; its files are damaged, foreign or of another version; the Hub cannot be
            reached or has no such model.
    """
    place = locate(name)
    if isinstance(place, Path):
        return load(place)
    try:
        paths = [Path(hf_hub_download(place, file, **options)) for file in (CONFIG, WEIGHTS)]
    except Exception as error:  # no network, no such repository, no permission: a class for each
        reason = one_line(error)
        raise LorunError(f"{place}: cannot be fetched from the Hugging Face Hub: {reason}") from error
    return load(paths[0].parent)


def models_in(*places: Path) -> dict[str, Path]:
    """The folders of the models in some folders, by name; the first of a name counts."""
    found = {path.parent.name: path.parent for place in reversed(places) for path in place.glob(f"[!.]*/{CONFIG}")}
    return dict(sorted(found.items()))


def locate(name: str | Path) -> Path | str:
    """The folder of a model, or its name on the Hub. Raises as `from_pretrained` does."""
    folder, text, known = Path(name), str(name), models_in(*PLACES)
    if isinstance(name, str) and text in known:
        return known[text]
    if folder.is_dir():
        return folder
    if isinstance(name, str) and _HUB_NAME.fullmatch(text) and not folder.parent.exists():
        return text
    if _NAME.fullmatch(text) and known:
        raise UnknownName("model", text, known)
    raise LorunError(f"{text}: no such model: give a name (`lorun models list`), a folder, or OWNER/NAME on the Hub")


def check_name(name: str) -> str:
    """A name that a model can have; raises LorunError for others."""
    if not _NAME.fullmatch(name):
        raise LorunError(f"a model cannot be called {name!r}: use letters, digits, '.', '_', '+' and '-' inside")
    return name


def save(model: Model, folder: Path) -> None:
    """Write a model as a folder, whole or not at all; what was there is replaced."""
    replace_folder(folder, lambda part: model.write(part, folder.name))


def load(folder: Path) -> Model:
    """The model in a folder. Raises LorunError where a file is missing, damaged, foreign or of another version."""
    description = read_description(folder)
    path = folder / WEIGHTS
    state = load_weights(path)
    check_weights(path, description.sha256)
    system = _built(description.experiment, state)
    own = system.state_dict()
    rebuilt = {name: own[name] for name in description.rebuilt if name in own}
    load_state(system, {**rebuilt, **state}, path)
    return Model(system, description).eval()


def _built(experiment: Experiment, state: Mapping[str, Tensor]) -> System:
    """A new system without the files of its operator, whose tensors have the shapes that they have in `state`."""
    system = build_system(without_files(experiment))
    if experiment.physics.files:
        for name, tensor in state.items():
            kind, _, buffer = name.partition(".")
            if kind == "physics" and buffer in dict(system.physics.named_buffers(recurse=False)):
                system.physics.register_buffer(buffer, tensor.detach().clone())
    return system


def _stored(state: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """Tensors in the precision in which they are stored. The operator and vectors stay in full precision."""
    stored = dict(state)
    for name, tensor in state.items():
        if precision == "float16" and name.startswith("network.") and tensor.is_floating_point() and tensor.dim() > 1:
            stored[name] = tensor.half()
    return stored


def listing(*places: Path) -> str:
    """The models in some folders as a table, by name: what each restores, its method, size and first score."""
    lines = []
    for name, folder in models_in(*places).items():
        found = read_description(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shown = [
            f"{METRICS[one.metric].heading} {one.value:.{METRICS[one.metric].digits}f} on {one.dataset}"
            for one in found.scores[:1]
        ]
        operator = found.experiment.physics.heading
        lines.append([name, found.experiment.method, operator, f"{size / 1e6:.2f}", *(shown or [""])])
    if not lines:
        return f"{places[0]}: no models; `lorun models save` makes one of a finished run"
    return tabulate(lines, ["name", "method", "operator", "MB", "score"], "plain", disable_numparse=True)
