"""Score a baseline on a folder of images without a profile: from files of weights and of a sampling matrix."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorun import plugins
from lorun.config import EvaluationConfig
from lorun.data.checksums import md5_of_bytes
from lorun.data.content import read_bytes
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import Evaluation, score_folder
from lorun.methods import Experiment, Released, Untrained
from lorun.methods.baselines import locate
from lorun.physics import read_matrix
from lorun.physics.block_cs import BlockCSConfig, Padding
from lorun.provenance import provenance
from lorun.system import build_system
from lorun.training.outcome import Outcome
from lorun.training.released import load_released, read_released, rename

_COMPUTED = ("adjoint", "pseudo_inverse")  # initial reconstructions that need no file


def score_files(
    baseline: str,
    images: Path,
    *,
    weights: Path | None,
    matrix: Path | None,
    initial: str | None,
    padding: Padding,
    protocols: Sequence[str],
    device: torch.device,
) -> Evaluation:
    """Score a baseline for compressed sensing on a folder of images.

    Args:
        baseline: its name, or the path of its folder (see `lorun.plugins`).
        weights: released weights; None for a baseline without parameters.
        matrix: Phi, m x n with n the pixels of a block (.npy, or .mat with `phi`); None if the weights hold it.
        initial: "adjoint", "pseudo_inverse", or a file with an n x m matrix (.npy, or .mat with `Qinit`); the default
            is the adjoint if the weights hold Phi.
        padding: see `BlockCS`.

    Raises:
        UnknownName: no such baseline or protocol.
        LorunError: a file is missing, damaged or does not fit; the network needs weights; Phi is given twice.
    """
    card = plugins.card(baseline)
    for protocol in protocols:
        get_protocol(protocol)
    physics = _physics(baseline, weights, matrix, initial, padding)
    if weights is None and card.trained:
        raise LorunError(f"{baseline} has parameters: name a file of its weights with --weights")
    place = locate(baseline).fields
    experiment = Experiment(
        task=physics.task,
        setting=f"{physics.ratio:.4g}%",
        seed=0,
        physics=physics,
        spec=Untrained(**place) if weights is None else Released(**place, weights=weights),
        test=[images.resolve().name],
        evaluation=EvaluationConfig(protocols=list(protocols)),
    )
    system = build_system(experiment)
    if weights is not None:
        load_released(system, baseline, weights)
    files = [*physics.files, *([] if weights is None else [weights])]
    md5s = {path.name: md5_of_bytes(read_bytes(path)) for path in files}
    outcome = Outcome(
        status="completed",
        checkpoint_policy=None if weights is None else "released",
        provenance=provenance(experiment, md5s, torch.device("cpu")),
    )
    return score_folder(experiment, outcome, system.eval(), images, md5s, device)


def _physics(
    baseline: str, weights: Path | None, matrix: Path | None, initial: str | None, padding: Padding
) -> BlockCSConfig:
    """The operator that the files describe."""
    choices = f"a file (Qinit), or {', '.join(_COMPUTED)}"
    if initial is not None and initial not in _COMPUTED and not Path(initial).is_file():
        raise LorunError(f"no file {initial} for --initial: name {choices}")
    names = plugins.card(baseline).released_names
    released = {} if weights is None else read_released(weights)
    state = {rename(names, key): (key, tensor) for key, tensor in released.items()}
    kinds = {"physics.latent": "learned_binary", "physics.phi": "learned"}
    held = next((name for name in kinds if name in state and state[name][1].ndim == 2), None)
    kind: Any = "file" if matrix is not None or held is None else kinds[held]
    if matrix is None:
        if held is None:
            _refuse_other_networks(baseline, state, weights)
            raise LorunError(f"{weights or baseline}: no sampling matrix in the weights: name it with --matrix")
        m, n = state[held][1].shape
        initial = initial or "adjoint"
    elif held == "physics.latent":  # a real Phi may be in both
        raise LorunError(f"{weights}: these weights of {baseline} hold their sampling matrix: leave out --matrix")
    elif initial is None:
        raise LorunError(f"name the initial estimate with --initial: {choices}")
    else:
        m, n = read_matrix(matrix).shape
    block = math.isqrt(n)
    if block**2 != n or not m <= n:
        raise LorunError(f"{matrix or weights}: Phi is {m} x {n}; its columns must be the pixels of a square block")
    return BlockCSConfig(
        ratio=100 * m / n,
        block=block,
        padding=padding,
        matrix=kind,
        matrix_file=matrix,
        initial=initial if initial in _COMPUTED else "given",
        initial_file=None if initial in _COMPUTED else Path(initial),
    )


def _refuse_other_networks(baseline: str, state: Mapping[str, tuple[str, Tensor]], weights: Path | None) -> None:
    """Raise LorunError where a key, or a missing one, shows that released weights belong to another network."""
    for name, (key, _) in state.items():
        if not name.startswith(("network.", "physics.")):
            raise LorunError(f"{weights}: key `{key}` has no place in {baseline}: weights of another network?")
    for name in plugins.card(baseline).released_names.values() if state else ():
        if name.startswith("physics."):
            raise LorunError(f"{weights}: has nothing for `{name}` of {baseline}: weights of another network?")
