"""A library of trained adapters, and the bases that they belong to: what is swapped on a network that stays loaded.

    bases/IDENTITY.safetensors      a frozen base, once for all sets that were trained on it
    sets/NAME/adapters/stage_k/     a folder per stage, as peft saves it
    sets/NAME/operator.safetensors  Phi and the initial estimate, which belong to the setting
    sets/NAME/manifest.json         what the set is, its step sizes, and where it comes from
    active.json                     names of the sets in use, one at most of those that can take each other's place

A network is base + adapters + step sizes; a swap changes the latter two. The operator, which a network is called with,
comes beside it.
"""

import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from lorun.adapters.denoiser import AdaptedDenoiser
from lorun.config import ADAPTED, Experiment
from lorun.errors import LorunError, UnknownName
from lorun.evaluation.reconstruct import folder_rows
from lorun.files import replace_folder, write_text
from lorun.system import System, build_system
from lorun.training.loop import ADAPTERS, WEIGHTS
from lorun.training.outcome import Outcome, read_outcome
from lorun.training.weights import load_state, load_weights, read_about, save_weights
from lorun.unfolding import UnfoldingNetwork, build_unfolding

ACTIVE = "active"
"""Stands for the set in use wherever a set is named."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MANIFEST = "manifest.json"
_OPERATOR = "operator.safetensors"


def identity(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of weights: names, types, shapes and values, whatever file or memory format they are in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def short(base: str) -> str:
    """An identity as people read it."""
    return base[:12]


class Sizes(BaseModel):
    """Bytes of the tensors of a set, and of the base that it needs."""

    base: int
    adapters: int
    step_sizes: int
    operator: int


class Manifest(BaseModel):
    """What a set is: the experiment says task, setting, method, seed and gamma; `training` how it was trained, with
    the code, data and packages. `ranks` are by layer; `step_sizes` are rho_1 .. rho_K; `base` is the base's identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base: str
    stages: int
    ranks: dict[str, int]
    step_sizes: list[float]
    bytes: Sizes
    experiment: Experiment
    training: Outcome

    def fits(self, other: "Manifest") -> bool:
        """Whether one can take the place of the other on a loaded network."""
        return (self.base, self.stages, self.ranks) == (other.base, other.stages, other.ranks)


class Activation(NamedTuple):
    """What making a set the active one took: bytes of files, and seconds, medians over `repeats` on this machine."""

    before: str | None
    swap_seconds: float
    swap_read: int
    reload_seconds: float
    reload_read: int
    repeats: int


class AdapterLibrary:
    """The sets of one folder, which is made when the first is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, run: Path) -> Manifest:
        """Take the adapters, step sizes and operator of a trained run, and its base.

        Raises:
            LorunError: not a name, or taken; `run` is not the folder of a completed training with adapters.
        """
        if not re.fullmatch(_NAME, name) or name == ACTIVE:
            raise LorunError(f"{name!r} cannot name a set: letters, digits, '.', '_' and '-', and not {ACTIVE!r}")
        experiment, outcome, system = _trained(run)
        network: Any = system.network
        denoiser: AdaptedDenoiser = network.denoisers[0]
        base, operator = denoiser.base_parameters(), system.physics.state_dict()
        manifest = Manifest(
            name=name,
            base=identity(base),
            stages=network.stages,
            ranks=denoiser.ranks,
            step_sizes=network.step_sizes.tolist(),
            bytes=Sizes(
                base=_bytes(base.values()),
                adapters=_bytes(network.parameter_kinds()["adapters"]),
                step_sizes=_bytes([network.step_sizes]),
                operator=_bytes(operator.values()),
            ),
            experiment=experiment,
            training=outcome,
        )

        def fill(part: Path) -> None:
            denoiser.save(part / ADAPTERS)
            save_weights(part / _OPERATOR, operator, {})
            write_text(part / _MANIFEST, manifest.model_dump_json(indent=1) + "\n")

        with self._locked():
            if self._set(name).exists():
                raise LorunError(f"{self._set(name)}: there is such a set; choose another name, or remove the folder")
            self._record(self.active())  # which forgets a set of this name that was removed
            save_weights(self._base(manifest), base, {})
            replace_folder(self._set(name), fill)
        return manifest

    def names(self) -> list[str]:
        """The sets there are."""
        return sorted(path.parent.name for path in self.folder.glob(f"sets/[!.]*/{_MANIFEST}"))

    def manifest(self, name: str) -> Manifest:
        """What the set `name` is; that of the active one for "active".

        Raises:
            LorunError: there is no such set; its manifest is damaged; no set is active, or several on different bases.
        """
        if name == ACTIVE:
            return self._only_active()
        names = self.names()
        if not names:
            raise LorunError(f"{self.folder}: no adapters here; `lorun adapters add NAME --from RUN_FOLDER` takes them")
        if name not in names:
            raise UnknownName("set of adapters", name, names)
        path = self._set(name) / _MANIFEST
        try:
            return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise LorunError(f"{path}: damaged, or of another version; remove the folder and add it again") from error

    def manifests(self) -> list[Manifest]:
        """All sets, by base, those that fit together side by side."""
        found = [self.manifest(name) for name in self.names()]
        return sorted(found, key=lambda one: (one.base, one.stages, sorted(one.ranks.items()), one.name))

    def active(self) -> list[Manifest]:
        """The sets in use. Raises LorunError when the record is damaged."""
        path = self.folder / "active.json"
        try:
            recorded = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise LorunError(f"{path}: damaged; remove it and activate again") from error
        names = self.names()
        return [self.manifest(name) for name in recorded if name in names]

    def swap(self, network: UnfoldingNetwork, name: str) -> None:
        """Put the adapters and step sizes of a set in the place of those of a loaded network; its base is not touched.

        Raises:
            LorunError: the network has no adapters, another base, or other stages or ranks; the set is damaged. The
                network then is as it was.
        """
        manifest = self.manifest(name)
        if not network.adapted:
            raise LorunError(f"{name}: the network has no adapters to swap (sharing {network.sharing!r})")
        denoiser: Any = network.denoisers[0]
        if network.stages != manifest.stages:
            raise LorunError(f"{name}: made for {manifest.stages} stages, the network has {network.stages}")
        if denoiser.ranks != manifest.ranks:
            raise LorunError(f"{name}: {_other_rank(manifest.ranks, denoiser.ranks)}")
        base = identity(denoiser.base_parameters())
        if base != manifest.base:
            raise LorunError(f"{name}: made for the base {short(manifest.base)}, the network has {short(base)}")
        self._put(network, manifest)

    def system(self, name: str) -> System:
        """The network of a set and its operator, built and loaded, on the CPU, ready for inference.

        Raises:
            LorunError: as `manifest`; a file is missing, damaged, or of another version.
        """
        manifest = self.manifest(name)
        system = build_system(manifest.experiment)
        self._load(system.network, manifest)
        path = self._set(manifest.name) / _OPERATOR
        load_state(system.physics, load_weights(path), path)
        return system.eval()

    def network(self, name: str) -> UnfoldingNetwork:
        """The network alone, built and loaded, on the CPU, ready for inference. Raises as `system` does."""
        manifest = self.manifest(name)
        with torch.random.fork_rng():
            network = build_unfolding(manifest.experiment)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._load(network, manifest)
        return network.eval()

    def activate(self, name: str, repeats: int = 5) -> Activation:
        """Make a set the active one of those that fit together, by swapping it in for the one that was.

        A network is loaded with the set that was active (with `name` where none was), then `name` and that one are
        swapped `repeats` times. Reloading is to build the network anew and read base, adapters and step sizes.

        Raises:
            LorunError: as `system`.
        """
        manifest = self.manifest(name)
        with self._locked():
            others = [one for one in self.active() if not one.fits(manifest)]
            before = next((one.name for one in self.active() if one.fits(manifest)), None)
            swaps, reloads = [], []
            network = self.network(before or name)
            for _ in range(repeats):
                swaps.append(_seconds(lambda: self.swap(network, name)))
                self.swap(network, before or name)
                reloads.append(_seconds(lambda: self.network(name)))
            self._record([*others, manifest])
        adapters = self._set(manifest.name) / ADAPTERS
        read = sum(path.stat().st_size for path in adapters.glob("*/*.safetensors"))
        read += (self._set(manifest.name) / _MANIFEST).stat().st_size
        whole = read + self._base(manifest).stat().st_size
        return Activation(before, median(swaps), read, median(reloads), whole, repeats)

    def _put(self, network: UnfoldingNetwork, manifest: Manifest) -> None:
        denoiser: Any = network.denoisers[0]
        denoiser.load(self._set(manifest.name) / ADAPTERS)
        with torch.no_grad():
            network.step_sizes.copy_(torch.tensor(manifest.step_sizes))

    def _load(self, network: Any, manifest: Manifest) -> None:
        """Load base, adapters and step sizes into a network that was built for them."""
        path = self._base(manifest)
        weights = load_weights(path)
        if identity(weights) != manifest.base:
            raise LorunError(f"{path}: damaged: not the base of its name; remove {manifest.name} and add it again")
        own = network.denoisers[0].base_parameters()
        if {name: w.shape for name, w in weights.items()} != {name: p.shape for name, p in own.items()}:
            raise LorunError(f"{path}: the denoiser {manifest.experiment.denoiser.name} is another one in this version")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])
        self._put(network, manifest)

    def _only_active(self) -> Manifest:
        active = self.active()
        if not active:
            raise LorunError(f"{self.folder}: no set is active; `lorun adapters activate NAME` makes it so")
        if len(active) > 1:
            names = ", ".join(one.name for one in active)
            raise LorunError(f"{self.folder}: several sets are active, on networks of their own: name one of {names}")
        return active[0]

    def _record(self, active: Iterable[Manifest]) -> None:
        write_text(self.folder / "active.json", json.dumps([one.name for one in active]) + "\n")

    def _set(self, name: str) -> Path:
        return self.folder / "sets" / name

    def _base(self, manifest: Manifest) -> Path:
        return self.folder / "bases" / f"{manifest.base}.safetensors"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Have the library to oneself, after whoever else has it; what a killed one left half-written is removed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise LorunError(f"cannot write to {self.folder}: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for part in [*self.folder.glob(".*.part"), *self.folder.glob("*/.*.part")]:
                part.unlink() if part.is_file() else shutil.rmtree(part)
            yield


def evaluate_adapters(folder: Path, name: str, images: Path, device: torch.device) -> list[dict[str, Any]]:
    """Rows of a set of the library `folder` on the images of any folder, as `evaluate_folder` gives of its run.

    Raises:
        LorunError: as `AdapterLibrary.system`; an image is unreadable or too small.
    """
    library = AdapterLibrary(folder)
    manifest = library.manifest(name)
    return folder_rows(manifest.experiment, manifest.training, library.system(manifest.name), images, {}, device)


def _trained(run: Path) -> tuple[Experiment, Outcome, System]:
    """What the folder of a completed run with adapters holds."""
    outcome = read_outcome(run)
    if outcome is None:
        raise LorunError(f"{run}: not the folder of a finished run, such as runs/cs/r25/lorun/seed0-KEY")
    if outcome.status != "completed":
        raise LorunError(f"{run}: the training is {outcome.status}: {outcome.message}")
    path = run / WEIGHTS
    try:
        experiment = Experiment.model_validate_json(read_about(path).get("experiment", ""))
    except ValidationError as error:
        raise LorunError(f"{path}: does not say its experiment as this version does; train it again") from error
    if experiment.method not in ADAPTED:
        raise LorunError(f"{run}: the method {experiment.method!r} has no adapters. Choices: {', '.join(ADAPTED)}")
    system = build_system(experiment)
    load_state(system, load_weights(path), path)
    return experiment, outcome, system


def _other_rank(said: Mapping[str, int], found: Mapping[str, int]) -> str:
    """The first layer at which the ranks of a set and of a network differ."""
    only = sorted(said.keys() ^ found.keys())
    if only:
        return f"made for another denoiser: only one of the two has the layer `{only[0]}`"
    layer = next(name for name in sorted(said) if said[name] != found[name])
    return f"made with rank {said[layer]} at `{layer}`, the network has {found[layer]}"


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _seconds(action: Any) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start
