"""Deep unfolding: K proximal-gradient stages, and the ways in which the stages may share one denoiser.

Stage k = 1..K:  z = x - rho_k A^T(A x - y);  x = D(z; theta_k). An operator may put its own way back from a residual
in the place of A^T, as CASSI does: A^T (A A^T)^-1.

| sharing          | theta_k                                    | trained                          |
|------------------|--------------------------------------------|----------------------------------|
| `block1`         | K = 1                                      | everything                       |
| `block_k`       | own weights per stage (Block-K)            | everything                       |
| `shared`         | one set                                    | everything                       |
| `shared_sigma`   | one set, noise level sigma_k as input map  | everything, sigma_k too          |
| `lorun`          | frozen pretrained base + adapter k         | adapters, rho_k                  |
| `lorun_transfer` | the same, base of another setting or task  | adapters, rho_k                  |
| `lorun_random`   | frozen random base + adapter k             | adapters, rho_k                  |
| `frozen`         | the pretrained base of either, as it is    | rho_k                            |
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lorun.config import ADAPTED, FROZEN, Experiment, Strategy
from lorun.errors import LorunError


class UnfoldingNetwork(nn.Module):
    """model(y, physics) -> estimate of x, by `stages` proximal-gradient steps.

    Args:
        make_denoiser: called with noise_map=True or False, returns a fresh denoiser D(z[, sigma]).
        sharing: how the stages share denoisers; see the table of this module.
        stages: K; must be 1 for `block1`.
        step_size: initial rho_k.
        noise_level: initial sigma_k of `shared_sigma`, in image units.
        gamma: rank of the adapters in percent of a layer's size (`lorun` and its kin).
        composed: adapters act in weight space (see `lorun.adapters`).
        noise_map: the denoisers are told the noise level of each measurement (`Operator.noise_level`).

    Attributes:
        recompute: keep only the stages' inputs for the backward pass, which then computes each stage once more before
            it needs its activations: one stage's activations at a time for about a third more arithmetic, the same
            gradients. The last stage, whose turn comes first, is kept.
    """

    def __init__(
        self,
        make_denoiser: Callable[[bool], nn.Module],
        sharing: Strategy,
        stages: int,
        *,
        step_size: float = 1.0,
        noise_level: float = 0.1,
        gamma: float = 10.0,
        composed: bool = True,
        noise_map: bool = False,
    ) -> None:
        super().__init__()
        if sharing == "block1" and stages != 1:
            raise LorunError(f"`block1` has one stage, not {stages}")
        learned_levels = sharing == "shared_sigma"
        if learned_levels and noise_map:
            raise LorunError("`shared_sigma` learns the noise levels that it tells its denoiser: it takes no others")
        self.sharing = sharing
        self.stages = stages
        self.gamma = gamma
        self.composed = composed
        self.recompute = False
        self.step_sizes = nn.Parameter(torch.full((stages,), step_size))
        self.noise_map = noise_map
        self.noise_levels = nn.Parameter(torch.full((stages,), noise_level)) if learned_levels else None
        copies = stages if sharing == "block_k" else 1
        self.denoisers = nn.ModuleList(make_denoiser(noise_map or learned_levels) for _ in range(copies))
        self.adapted = sharing in ADAPTED
        if self.adapted:
            from lorun.adapters import AdaptedDenoiser  # peft takes seconds to import

            self.denoisers[0] = AdaptedDenoiser(self.denoisers[0], stages, gamma, composed)
        if sharing == FROZEN:
            self.denoisers.requires_grad_(False)

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        x = initial_reconstruction(y, physics)  # (B, C, H, W)
        for stage in range(self.stages):
            if self.recompute and torch.is_grad_enabled() and stage < self.stages - 1:
                x = checkpoint(self.step, x, y, physics, stage, use_reentrant=False)
            else:
                x = self.step(x, y, physics, stage)
        return x

    def step(self, x: Tensor, y: Tensor, physics: LinearPhysics, stage: int) -> Tensor:
        """Stage `stage` (from 0): the gradient step, then the proximal step, with the adapter of that stage."""
        return self.proximal_step(
            self.gradient_step(x, y, physics, stage), stage, self.noise_level_input(y, physics, stage)
        )

    def noise_level_input(self, y: Tensor, physics: LinearPhysics, stage: int) -> Tensor | None:
        """The noise level that the denoiser of a stage is told, if any: of each measurement, or as it was learned."""
        if self.noise_levels is not None:
            return self.noise_levels[stage]
        level: Tensor | None = physics.noise_level(y) if self.noise_map else None
        return level

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the denoisers (arguments as of `torch.compile`), once for all stages: weights are inputs."""
        for denoiser in self.denoisers:
            inner: Any = denoiser.base if self.adapted else denoiser
            inner.compile(*args, **kwargs)

    def gradient_step(self, x: Tensor, y: Tensor, physics: LinearPhysics, stage: int) -> Tensor:
        """z = x - rho_k A^T(A x - y), never in half precision: the data term is where its digits matter."""
        with torch.autocast(y.device.type, enabled=False):
            x = x.to(y.dtype)
            return x - self.step_sizes[stage] * back_project(physics.A(x) - y, physics)

    def proximal_step(self, z: Tensor, stage: int, sigma: Tensor | None = None) -> Tensor:
        """x = D(z[, sigma]; theta_k)."""
        denoiser: Any = self.denoisers[stage if self.sharing == "block_k" else 0]
        if self.adapted:
            denoiser.activate(stage)
        x: Tensor = denoiser(z) if sigma is None else denoiser(z, sigma)
        return x

    def load_base(self, pretrained: Mapping[str, Tensor], step_size: bool = True) -> None:
        """Start every stage from a trained `block1` network, given as its state dict: denoiser, and step size if asked.

        Raises:
            LorunError: a weight is missing, or of another shape.
        """
        denoiser: Any = self.denoisers[0]
        load_denoiser(denoiser.base_parameters() if self.adapted else dict(denoiser.named_parameters()), pretrained)
        if step_size:
            with torch.no_grad():
                self.step_sizes.fill_(pretrained["step_sizes"].item())

    def parameter_kinds(self) -> dict[str, list[nn.Parameter]]:
        """All parameters by what they are: base, adapters, step_sizes, other (noise levels)."""
        kinds: dict[str, list[nn.Parameter]] = {"base": [], "adapters": [], "step_sizes": [], "other": []}
        for name, parameter in self.named_parameters():
            if "lora_" in name:
                kinds["adapters"].append(parameter)
            elif name.startswith("denoisers."):
                kinds["base"].append(parameter)
            else:
                kinds["step_sizes" if name == "step_sizes" else "other"].append(parameter)
        return kinds


def initial_reconstruction(y: Tensor, physics: LinearPhysics) -> Tensor:
    """The physics' own `initial_reconstruction` where it has one (as ours do), else A^T y (any deepinv operator)."""
    own: Callable[[Tensor], Tensor] | None = getattr(physics, "initial_reconstruction", None)
    with torch.autocast(y.device.type, enabled=False):
        return physics.A_adjoint(y) if own is None else own(y)


def back_project(residual: Tensor, physics: LinearPhysics) -> Tensor:
    """The physics' own `back_project` where it has one (as ours do), else A^T r (any deepinv operator)."""
    own: Callable[[Tensor], Tensor] | None = getattr(physics, "back_project", None)
    return physics.A_adjoint(residual) if own is None else own(residual)


@torch.no_grad()
def load_denoiser(own: Mapping[str, Tensor], pretrained: Mapping[str, Tensor]) -> None:
    """Copy the denoiser of a `block1` network, given as its state dict, into the parameters of one of its shape.

    Raises:
        LorunError: a weight is missing, or of another shape.
    """
    for name, parameter in own.items():
        found = pretrained.get(f"denoisers.0.{name}")
        shape = None if found is None else tuple(found.shape)
        if found is None or shape != tuple(parameter.shape):
            raise LorunError(f"the base does not fit at `{name}`: shape {shape} instead of {tuple(parameter.shape)}")
        parameter.copy_(found)


def build_unfolding(experiment: Experiment) -> UnfoldingNetwork:
    """The freshly initialised network of an experiment whose method is a strategy, or LoRun's pretraining."""
    sharing: Any = "block1" if experiment.method == "pretrain" else experiment.method
    return UnfoldingNetwork(
        lambda noise_map: experiment.denoiser.build(experiment.data.channels, noise_map),
        sharing,
        experiment.stages,
        step_size=experiment.unfolding.step_size,
        noise_level=experiment.unfolding.noise_level,
        gamma=experiment.lora.gamma,
        composed=experiment.lora.forward == "composed",
        noise_map=experiment.physics.noise_level_input,
    )
