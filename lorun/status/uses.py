"""What of the project a row uses: where its training, its scores and its account begin, and what is not for it."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import yaml

from lorun.config import ADAPTED, DEEP_PLUG_AND_PLAY, PRETRAIN, STRATEGIES, Experiment
from lorun.denoisers import DENOISERS
from lorun.physics import OPERATORS
from lorun.plugins.places import find
from lorun.revisions import Files
from lorun.status.reach import Place, Use
from lorun.status.source import Module, digest, modules_of

FOLDERS = ("lorun", "baselines", "data", "config")
"""Where everything that shapes a row lies, but for the lock file of the packages."""

LOCK = "requirements.lock"
REGISTRY = "data/registry.yaml"

_KINDS = [*OPERATORS, *DENOISERS]

_READING = ("cubes", "measurements", "splits")
"""Keys of a dataset's entry of the registry that decide what is read from its files."""


def shapes_rows(path: str) -> bool:
    """Whether a file of the project may shape a row: code, cards, registry, manifests, profiles, locked packages."""
    folder, _, rest = path.partition("/")
    if folder in ("lorun", "baselines"):
        return path.endswith((".py", "/card.yaml"))
    if folder == "data":
        return "/" not in rest and path.endswith((".yaml", ".md5"))
    return path == LOCK or (folder == "config" and "/" not in rest and path.endswith(".yaml"))


def training(experiment: Experiment) -> Use:
    """The code that shapes the weights of a row."""
    begins = "train" if experiment.weights is None else "_import"
    begin = [Place("lorun.training.loop", begins), Place("lorun.devices", "pick_device")]
    if experiment.method == DEEP_PLUG_AND_PLAY:  # all that it has of a training is its base's, a network of stages
        begin.append(Place("lorun.unfolding", "build_unfolding"))
    return _use(experiment, begin)


def evaluation(experiment: Experiment) -> Use:
    """The code that shapes the scores of a row, given its weights."""
    begin = [("lorun.evaluation.reconstruct", "evaluate"), ("lorun.devices", "pick_device")]
    begin += [("lorun.results.rows", name) for name in ("to_frame", "write_table")]
    return _use(experiment, [Place(*one) for one in begin])


def account(experiment: Experiment) -> Use:
    """The code that shapes what is counted of a method."""
    return _use(experiment, [Place("lorun.accounting.account", "account")])


def _use(experiment: Experiment, begin: list[Place]) -> Use:
    base = experiment.base
    physics = {type(one.physics).__name__ for one in (experiment, base) if one is not None}
    used = physics | {type(experiment.denoiser).__name__}
    channels = {one.data.channels for one in (experiment, base) if one is not None and one.data is not None}
    is_strategy = experiment.method in (*STRATEGIES, PRETRAIN)
    is_splitting = experiment.method == DEEP_PLUG_AND_PLAY
    truths = {
        ("build_system", "experiment.method in (*STRATEGIES, PRETRAIN)", is_strategy),
        ("build_system", "experiment.method == DEEP_PLUG_AND_PLAY", is_splitting),
        ("_train", "experiment.weights is not None", experiment.weights is not None),
    }
    if experiment.method not in ADAPTED:  # where one is, its base has none
        truths.add(("UnfoldingNetwork", "self.adapted", False))
    if len(physics) == 1:
        truths |= {("build_physics", f"isinstance(config, {name})", True) for name in physics}
    if len(channels) == 1:
        truths.add(("load_dataset", "kind == 'cube'", channels == {28}))
    outside: tuple[tuple[str, Module], ...] = ()
    if experiment.outside is not None:
        baseline, outside = _outside(experiment.outside.reference, experiment.outside.digest)
        begin = [*begin, baseline]
    elif not (is_strategy or is_splitting):
        begin = [*begin, Place(f"baselines.{experiment.method}.baseline", "Baseline")]
    # Nobody makes an experiment there: it is handed over.
    begin = [*begin, Place("lorun.config", "Experiment")]
    return Use(
        roots=tuple(begin),
        absent=frozenset(one.__name__ for one in _KINDS) - used,
        truths=frozenset(truths),
        protocols=frozenset(experiment.evaluation.protocols),
        outside=outside,
    )


@lru_cache(maxsize=256)
def _outside(reference: str, digest: str) -> tuple[Place, tuple[tuple[str, Module], ...]]:
    """A baseline from outside the repository, whose code has that digest: where it begins, and its modules.

    The key of a run has the digest, so that this is the code of then, too; what it uses of the repository may differ.
    """
    place = find(reference)
    name = place.module or f"_outside_{place.name}"
    package = name.partition(".")[0]
    code = place.code
    paths = [path.relative_to(code) for path in sorted(code.rglob("*.py"))]
    paths = [path for path in paths if not any(part.startswith(".") for part in path.parts)]  # as for the digest
    files = {f"{package}/{path.as_posix()}": (code / path).read_bytes() for path in paths}
    return Place(f"{name}.baseline", "Baseline"), tuple(modules_of(files).items())


def read_as(files: Files, datasets: Iterable[str]) -> dict[str, str]:
    """A hash of how each dataset is read, as the registry among the files says."""
    registry = _yaml(files, REGISTRY)
    entries = {name: registry.get(name) or {} for name in datasets}
    return {name: digest(str([(key, entry.get(key)) for key in _READING])) for name, entry in entries.items()}


def named_as(files: Files, method: str) -> str:
    """A hash of what the card of a baseline makes of the names in its released weights."""
    return digest(str(_yaml(files, f"baselines/{method}/card.yaml").get("released_names")))


def _yaml(files: Files, path: str) -> Mapping[str, Any]:
    return _parsed(files.get(path, b""))


@lru_cache(maxsize=256)
def _parsed(content: bytes) -> Mapping[str, Any]:
    try:
        said = yaml.safe_load(content)
    except yaml.YAMLError:
        return {"unreadable": digest(content.decode(errors="replace"))}
    return said if isinstance(said, dict) else {}
