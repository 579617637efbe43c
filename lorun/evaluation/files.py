"""Score a baseline with files of one's own, without a profile: weights, a sampling matrix, a folder of images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorun import plugins
from lorun.config import (
    AccountingConfig,
    DataConfig,
    EvaluationConfig,
    Experiment,
    LoraConfig,
    TrainingConfig,
    UnfoldingConfig,
)
from lorun.config.experiment import outside_code
from lorun.data.checksums import md5_of_bytes, read_bytes
from lorun.denoisers.unet import UNetConfig
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import folder_rows
from lorun.physics import read_matrix
from lorun.physics.block_cs import BlockCSConfig, Padding
from lorun.plugins.places import name_of
from lorun.system import build_system
from lorun.training.released import load_released, our_name, read_released, released_outcome

COMPUTED = ("adjoint", "pseudo_inverse")
"""Initial estimates that need no file."""


def evaluate_files(
    method: str,
    images: Path,
    *,
    weights: Path | None,
    matrix: Path | None,
    initial: str | None,
    padding: Padding,
    protocols: Sequence[str],
    device: torch.device,
) -> list[dict[str, Any]]:
    """Rows of a baseline on a folder of images, one per image, protocol and metric.

    Args:
        method: what finds the baseline: its name, or the path of its folder (see `lorun.plugins.places`).
        weights: released weights; None for a baseline without parameters.
        matrix: Phi, m x n with n the pixels of a block (.npy, or .mat with `phi`); None where the weights hold it.
        initial: the initial estimate: "adjoint", "pseudo_inverse", or a file with an n x m matrix (.npy, or .mat with
            `Qinit`); None where the weights hold Phi, whose adjoint it then is.
        padding: see `BlockCS`.

    Raises:
        UnknownName: no such baseline or protocol.
        LorunError: a file is missing, damaged or does not fit; the network needs weights; Phi is given twice.
    """
    plugins.card(method)
    for protocol in protocols:
        get_protocol(protocol)
    physics = _physics(method, weights, matrix, initial, padding)
    experiment = Experiment(
        task="cs",
        setting=f"{physics.ratio:.4g}%",
        method=name_of(method),
        seed=0,
        physics=physics,
        weights=weights,
        data=DataConfig(train="none", validation="none", test=[images.resolve().name]),
        evaluation=EvaluationConfig(protocols=list(protocols)),
        training=TrainingConfig(steps=2, phase1_steps=1),
        denoiser=UNetConfig(),
        unfolding=UnfoldingConfig(),
        lora=LoraConfig(),
        accounting=AccountingConfig(),
        outside=outside_code(method),
    )
    system = build_system(experiment)
    if weights is not None:
        load_released(system, method, weights)
    elif any(parameter.requires_grad for parameter in system.parameters()):
        raise LorunError(f"{method} has parameters: name a file of its weights with --weights")
    files = [*physics.files, *([] if weights is None else [weights])]
    md5s = {path.name: md5_of_bytes(read_bytes(path)) for path in files}
    outcome = released_outcome(experiment, md5s)
    return folder_rows(experiment, outcome, system.eval(), images, md5s, device)


def _physics(
    method: str, weights: Path | None, matrix: Path | None, initial: str | None, padding: Padding
) -> BlockCSConfig:
    """The operator that the files describe."""
    if initial is not None and initial not in COMPUTED and not Path(initial).is_file():
        raise LorunError(f"no file {initial} for --initial: name a file (Qinit), or {', '.join(COMPUTED)}")
    state = {} if weights is None else read_released(weights)
    held, kind = _held_matrix(method, state), "file"
    if matrix is None:
        if held is None:
            _refuse_other_networks(method, state, weights)
            raise LorunError(f"{weights or method}: there is no sampling matrix in the weights: name it with --matrix")
        kind, (m, n) = held
        initial = initial or "adjoint"
    elif held is not None and held[0] == "learned_binary":  # while a Phi of real numbers may stand in both
        raise LorunError(f"{weights}: these weights of {method} hold their sampling matrix: leave out --matrix")
    elif initial is None:
        raise LorunError(f"name the initial estimate with --initial: a file (Qinit), or {', '.join(COMPUTED)}")
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
        initial=initial if initial in COMPUTED else "given",
        initial_file=None if initial in COMPUTED else Path(initial),
    )


def _held_matrix(method: str, state: Mapping[str, Tensor]) -> tuple[Any, tuple[int, int]] | None:
    """The kind and the shape of the sampling matrix that released weights hold, or None."""
    held = {our_name(method, key): value for key, value in state.items()}
    for name, kind in (("physics.latent", "learned_binary"), ("physics.phi", "learned")):
        if name in held and held[name].ndim == 2:
            m, n = held[name].shape
            return kind, (m, n)
    return None


def _refuse_other_networks(method: str, state: Mapping[str, Tensor], weights: Path | None) -> None:
    """Raise LorunError where a key, or the lack of one, tells that released weights are of another network."""
    if weights is None:
        return
    for key in state:
        if not our_name(method, key).startswith(("network.", "physics.")):
            raise LorunError(f"{weights}: key `{key}` has no place in {method}: weights of another network?")
    for name in plugins.card(method).released_names.values():
        if name.startswith("physics."):
            raise LorunError(f"{weights}: has nothing for `{name}` of {method}: weights of another network?")
