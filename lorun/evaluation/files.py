"""Score a baseline with files of one's own, without a profile: weights, a sampling matrix, a folder of images."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import baselines
from lorun.config import (
    AccountingConfig,
    BlockCSConfig,
    DataConfig,
    EvaluationConfig,
    Experiment,
    LoraConfig,
    TrainingConfig,
    UNetConfig,
    UnfoldingConfig,
)
from lorun.data.checksums import md5_of_bytes, read_bytes
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import folder_rows
from lorun.methods import build_system
from lorun.physics import read_matrix
from lorun.physics.block_cs import Padding
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
        weights: released weights; None for a baseline without parameters.
        matrix: Phi, m x n with n the pixels of a block (.npy, or .mat with `phi`); None where the weights hold it.
        initial: the initial estimate: "adjoint", "pseudo_inverse", or a file with an n x m matrix (.npy, or .mat with
            `Qinit`); None where the weights hold Phi, whose adjoint it then is.
        padding: see `BlockCS`.

    Raises:
        UnknownName: no such baseline or protocol.
        LorunError: a file is missing, damaged or does not fit; the network needs weights.
    """
    baselines.card(method)
    for protocol in protocols:
        get_protocol(protocol)
    physics = _physics(method, weights, matrix, initial, padding)
    experiment = Experiment(
        task="cs",
        setting=f"{physics.ratio:.4g}%",
        method=method,
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
    kind: Any = "file"
    if matrix is not None:
        if initial is None:
            raise LorunError(f"name the initial estimate with --initial: a file (Qinit), or {', '.join(COMPUTED)}")
        m, n = read_matrix(matrix).shape
    else:
        kind, (m, n) = _learned(method, weights)
        initial = initial or "adjoint"
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


def _learned(method: str, weights: Path | None) -> tuple[str, tuple[int, int]]:
    """The kind and the shape of the sampling matrix that a file of weights holds."""
    held = {} if weights is None else {our_name(method, key): value for key, value in read_released(weights).items()}
    for name, kind in (("physics.latent", "learned_binary"), ("physics.phi", "learned")):
        if name in held and held[name].ndim == 2:
            m, n = held[name].shape
            return kind, (m, n)
    raise LorunError(f"{weights or method}: there is no sampling matrix in the weights: name its file with --matrix")
