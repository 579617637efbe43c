"""Store of trained adapters and the frozen bases that they belong to.

    bases/IDENTITY.safetensors      a frozen base, stored once for all sets that were trained on it
    sets/NAME/adapters/stage_k/     the adapter of stage k, in peft's format
    sets/NAME/operator.safetensors  Phi and the initial reconstruction, which belong to the setting
    sets/NAME/manifest.json         the experiment, step sizes, ranks and provenance of the set, the sha256 of its files
    active                          name of the active set

A network is base + adapters + step sizes. Sets with the same base, ranks and number of stages can be swapped on a
loaded network, which changes its adapters and step sizes. The operator is an argument of the network, not a part of it.
"""

import hashlib
import re
import timeit
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from tabulate import tabulate
from torch import Tensor

from lorun.errors import LorunError, one_of
from lorun.files import locked, replace_folder, sha256_of, write_text
from lorun.methods import Experiment
from lorun.system import System, build_system
from lorun.training.outcome import ADAPTERS, WEIGHTS, Outcome, check_files, read_outcome
from lorun.training.weights import load_state, load_weights, read_about, save_weights
from lorun.unfolding import UnfoldingNetwork

ACTIVE = "active"
"""Can be given instead of a name: the active set."""

OPERATOR = "operator.safetensors"


def identity(weights: Mapping[str, Tensor]) -> str:
    """The sha256 of weights: names, types, shapes and values, whatever the file or memory format."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def short(base: str) -> str:
    """The first digits of an identity, for messages."""
    return base[:12]


class Manifest(BaseModel):
    """What a set is: `base` is the base's identity, `ranks` are by layer, `step_sizes` are rho_1 .. rho_K, `bytes` are
    those of the tensors of base, adapters, step_sizes and operator, `files` are the sha256 of the set's files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base: str
    stages: int
    ranks: dict[str, int]
    step_sizes: list[float]
    bytes: dict[str, int]
    experiment: Experiment
    training: Outcome
    files: dict[str, str]


class AdapterStore:
    """The sets in a folder. The folder is made when the first set is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, run: Path) -> Manifest:
        """Copy the adapters, step sizes, operator and base of a trained run.

        Raises:
            LorunError: the name is invalid or in use; `run` is not the folder of a completed training with adapters.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == ACTIVE:
            raise LorunError(f"{name!r} cannot name a set: use letters, digits, '.', '_' and '-', and not {ACTIVE!r}")
        experiment, outcome, system = _trained(run)
        network: Any = system.network
        denoiser = network.denoisers[0]
        base, operator = denoiser.base_parameters(), system.physics.state_dict()
        tensors = {
            "base": base.values(),
            "adapters": network.parameter_kinds()["adapters"],
            "step_sizes": [network.step_sizes],
            "operator": operator.values(),
        }

        def fill(part: Path) -> None:
            denoiser.save(part / ADAPTERS)
            save_weights(part / OPERATOR, operator, {})
            saved = [path for path in sorted(part.rglob("*")) if path.is_file()]
            manifest = Manifest(
                name=name,
                base=identity(base),
                stages=network.stages,
                ranks=denoiser.ranks,
                step_sizes=network.step_sizes.tolist(),
                bytes={kind: sum(tensor.nbytes for tensor in held) for kind, held in tensors.items()},
                experiment=experiment,
                training=outcome,
                files={path.relative_to(part).as_posix(): sha256_of(path) for path in saved},
            )
            write_text(part / "manifest.json", manifest.model_dump_json(indent=1) + "\n")

        with locked(self.folder, "changing the store"):
            if self._set(name).exists():
                raise LorunError(f"{self._set(name)}: exists; choose another name, or remove the folder")
            if self.active() is None:  # the active set may be a removed one of this name
                (self.folder / ACTIVE).unlink(missing_ok=True)
            save_weights(self._base(identity(base)), base, {})
            replace_folder(self._set(name), fill)
        return self.manifest(name)

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("sets/[!.]*/manifest.json"))

    def manifest(self, name: str) -> Manifest:
        """The manifest of a set, or of the active one if `name` is "active".

        Raises:
            LorunError: no such set; no active set; a damaged manifest.
        """
        known = self.names()
        if not known:
            raise LorunError(f"{self.folder}: no adapters here; `lorun adapters add NAME --from RUN_FOLDER` adds them")
        if name == ACTIVE:
            active = self.active()
            if active is None:
                raise LorunError(f"{self.folder}: no set is active; `lorun adapters activate NAME` activates one")
            name = active
        path = self._set(one_of("set of adapters", name, known)) / "manifest.json"
        try:
            return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise LorunError(f"{path}: damaged, or of another version; remove the folder and add it again") from error

    def active(self) -> str | None:
        """The name of the active set."""
        path = self.folder / ACTIVE
        name = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        return name if name in self.names() else None

    def swap(self, network: UnfoldingNetwork, name: str) -> None:
        """Replace the adapters and step sizes of a loaded network by those of a set. The base is not touched.

        Raises:
            LorunError: the network has no adapters, another base, or other stages or ranks; the set is damaged. The
                network is then unchanged.
        """
        manifest = self.manifest(name)
        if not network.adapted:
            raise LorunError(f"{name}: the network has no adapters to swap (sharing {network.sharing!r})")
        denoiser: Any = network.denoisers[0]
        if network.stages != manifest.stages:
            raise LorunError(f"{name}: made for {manifest.stages} stages, the network has {network.stages}")
        for layer in sorted(denoiser.ranks.keys() | manifest.ranks.keys()):
            made, found = manifest.ranks.get(layer, 0), denoiser.ranks.get(layer, 0)
            if made != found:
                raise LorunError(f"{name}: made with rank {made} at `{layer}`, the network has {found}")
        base = identity(denoiser.base_parameters())
        if base != manifest.base:
            raise LorunError(f"{name}: made for the base {short(manifest.base)}, the network has {short(base)}")
        self._load_adapters(network, manifest)

    def system(self, name: str) -> System:
        """The network of a set and its operator, loaded, on the CPU, ready for inference.

        Raises:
            LorunError: as `manifest`; a file is missing, damaged, or of another version.
        """
        manifest = self.manifest(name)
        system = build_system(manifest.experiment)
        network: Any = system.network
        path = self._base(manifest.base)
        weights = load_weights(path)
        if identity(weights) != manifest.base:
            raise LorunError(f"{path}: damaged: not the base of this name; remove {manifest.name} and add it again")
        network.load_base({f"denoisers.0.{name}": weight for name, weight in weights.items()}, step_size=False)
        self._load_adapters(network, manifest)
        path = self._set(manifest.name) / OPERATOR
        load_state(system.physics, load_weights(path), path)
        return system.eval()

    def activate(self, name: str) -> None:
        """Make a set the active one. Raises as `system` does."""
        self.system(name)  # a set that cannot be loaded must not become active
        with locked(self.folder, "changing the store"):
            write_text(self.folder / ACTIVE, self.manifest(name).name + "\n")

    def time_swap(self, name: str, repeats: int = 5) -> tuple[float, float]:
        """Median seconds on this machine of swapping a set in, and of building and loading all anew."""
        network: Any = self.system(name).network
        swaps = timeit.repeat(lambda: self.swap(network, name), number=1, repeat=repeats)
        reloads = timeit.repeat(lambda: self.system(name), number=1, repeat=repeats)
        return median(swaps), median(reloads)

    def _load_adapters(self, network: Any, manifest: Manifest) -> None:
        folder = self._set(manifest.name)
        for name, digest in manifest.files.items():
            if not (folder / name).is_file() or sha256_of(folder / name) != digest:
                raise LorunError(f"{folder / name}: gone, cut or changed; remove {manifest.name} and add it again")
        network.denoisers[0].load(folder / ADAPTERS)
        with torch.no_grad():
            network.step_sizes.copy_(torch.tensor(manifest.step_sizes))

    def _set(self, name: str) -> Path:
        return self.folder / "sets" / name

    def _base(self, identity: str) -> Path:
        return self.folder / "bases" / f"{identity}.safetensors"


def listing(store: AdapterStore) -> str:
    """A table of the sets, sorted by base; * marks the active one."""
    manifests = sorted(map(store.manifest, store.names()), key=lambda one: (one.base, one.name))
    if not manifests:
        return f"{store.folder}: no adapters; `lorun adapters add NAME --from RUN_FOLDER` adds them"
    active, lines = store.active(), []
    for one in manifests:
        mark, ranks = "*" if one.name == active else "", f"{min(one.ranks.values())}-{max(one.ranks.values())}"
        size = f"{one.bytes['adapters']:,}"
        lines.append([mark, one.name, short(one.base), one.stages, ranks, size, one.experiment.name])
    titles = ["", "name", "base", "stages", "ranks", "bytes", "run"]
    return tabulate(lines, titles, tablefmt="plain", disable_numparse=True)


def _trained(run: Path) -> tuple[Experiment, Outcome, System]:
    """The experiment, outcome and system of the folder of a completed run with adapters."""
    outcome = read_outcome(run)
    if outcome is None:
        raise LorunError(f"{run}: not the folder of a finished run, such as runs/cs/r25/lorun/seed0-KEY")
    if outcome.status != "completed":
        raise LorunError(f"{run}: the training is {outcome.status}: {outcome.message}")
    check_files(run, outcome)
    path = run / WEIGHTS
    try:
        experiment = Experiment.model_validate_json(read_about(path).get("experiment", ""))
    except ValidationError as error:
        raise LorunError(f"{path}: its experiment is not one of this version; train it again") from error
    system = build_system(experiment)
    if not getattr(system.network, "adapted", False):
        raise LorunError(f"{run}: the method {experiment.method!r} has no adapters")
    load_state(system, load_weights(path), path)
    return experiment, outcome, system
