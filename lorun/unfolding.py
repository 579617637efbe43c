"""Deep unfolding: K proximal-gradient stages whose denoisers may share weights.

Stage k = 1..K:  z = x - rho_k A^T(A x - y);  x = D(z; theta_k). An operator may replace A^T by its own back-projection
of a residual; CASSI uses A^T (A A^T)^-1. `lorun.methods.strategies` names the ways of sharing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lorun.config import AdapterConfig, Recompute
from lorun.errors import LorunError

Sharing = Literal["shared", "per_stage"]


class UnfoldingNetwork(nn.Module):
    """model(y, physics) -> estimate of x, by `stages` proximal-gradient steps.

    Args:
        make_denoiser: called with noise_map=True or False, returns a fresh denoiser D(z[, sigma]).
        stages: K.
        sharing: one denoiser for all stages, or one per stage.
        step_size: initial rho_k.
        noise_level: initial sigma_k, in image units, where each stage learns the noise level that its denoiser gets as
            an input map; None where there is no such map.
        gate: with learned gates, x = z + g_k (D(z) - z): 1 at first in the first stage, `gate` in the later ones; None
            for no gates.
        adapters: one LoRA adapter per stage on the denoiser, which is frozen; None for no adapters.
        joint: the denoiser is trained together with its adapters.
        frozen: the denoiser is frozen, so that only step sizes are trained.
        noise_map: the denoisers get the noise level of each measurement (`Operator.noise_level`) as an input map.

    Attributes:
        recompute: "stage" keeps only the stages' inputs for the backward pass, which then computes each stage once more
            before it needs its activations: one stage's activations at a time for about a third more arithmetic, the
            same gradients. The last stage, which comes first in the backward pass, is kept. "half_stage" does the same
            for half of the batch at a time: the same gradients except for rounding.

    Raises:
        LorunError: adapters on more than one denoiser; two sources of the noise level.
    """

    def __init__(
        self,
        make_denoiser: Callable[[bool], nn.Module],
        stages: int,
        *,
        sharing: Sharing = "shared",
        step_size: float = 1.0,
        noise_level: float | None = None,
        gate: float | None = None,
        adapters: AdapterConfig | None = None,
        joint: bool = False,
        frozen: bool = False,
        noise_map: bool = False,
    ) -> None:
        super().__init__()
        if adapters is not None and sharing == "per_stage":
            raise LorunError("adapters need one denoiser that all stages share, not one per stage")
        if noise_level is not None and noise_map:
            raise LorunError("the stages learn their noise levels, and the operator gives one too: choose one of them")
        self.stages = stages
        self.sharing = sharing
        self.recompute: Recompute = "none"
        self.step_sizes = nn.Parameter(torch.full((stages,), step_size))
        self.noise_map = noise_map
        self.noise_levels = None if noise_level is None else nn.Parameter(torch.full((stages,), noise_level))
        self.gates = None if gate is None else nn.Parameter(torch.tensor([1.0] + [gate] * (stages - 1)))
        copies = stages if sharing == "per_stage" else 1
        self.denoisers = nn.ModuleList(make_denoiser(noise_map or noise_level is not None) for _ in range(copies))
        self.adapted = adapters is not None
        if adapters is not None:
            from lorun.adapters import AdaptedDenoiser  # peft takes seconds to import

            self.denoisers[0] = AdaptedDenoiser(
                self.denoisers[0],
                stages,
                adapters.gamma,
                adapters.forward == "composed",
                layout=adapters.layout,
                scaling=adapters.scaling,
                alpha=adapters.alpha,
                layers=adapters.layers,
                frozen=not joint,
            )
        if frozen:
            self.denoisers.requires_grad_(False)

    def forward(self, y: Tensor, physics: LinearPhysics, start: Tensor | None = None) -> Tensor:
        """The estimate of x (B, C, H, W), from `start` instead of the initial reconstruction if it is given."""
        x = initial_reconstruction(y, physics) if start is None else start
        parts = {"none": 0, "stage": 1, "half_stage": 2}[self.recompute] if torch.is_grad_enabled() else 0
        for stage in range(self.stages):
            sigma = self.noise_level_input(y, physics, stage)
            if parts:
                x = self._recomputed_step(x, y, physics, stage, sigma, parts)
            else:
                x = self.step(x, y, physics, stage, sigma)
        return x

    def _recomputed_step(
        self, x: Tensor, y: Tensor, physics: LinearPhysics, stage: int, sigma: Tensor | None, parts: int
    ) -> Tensor:
        """`step` on one part of the batch after the other. All are recomputed, except the one whose backward pass is
        the first of all.
        """
        levels = sigma.chunk(parts) if sigma is not None and sigma.dim() else [sigma] * parts
        batches = list(zip(x.chunk(parts), y.chunk(parts), levels, strict=False))  # one image has no halves
        kept = len(batches) - 1 if stage == self.stages - 1 else None
        done = [
            self.step(x, y, physics, stage, level)
            if part == kept
            else checkpoint(self.step, x, y, physics, stage, level, use_reentrant=False)
            for part, (x, y, level) in enumerate(batches)
        ]
        return torch.cat(done) if len(done) > 1 else done[0]

    def step(self, x: Tensor, y: Tensor, physics: LinearPhysics, stage: int, sigma: Tensor | None = None) -> Tensor:
        """Stage `stage` (from 0): the gradient step, then the proximal step with the adapter of that stage."""
        z = self.gradient_step(x, y, physics, stage)
        x = self.proximal_step(z, stage, sigma)
        return x if self.gates is None else torch.lerp(z, x.to(z.dtype), self.gates[stage])

    def noise_level_input(self, y: Tensor, physics: LinearPhysics, stage: int) -> Tensor | None:
        """The noise level that the denoiser of a stage gets: learned, of each measurement, or None."""
        if self.noise_levels is not None:
            return self.noise_levels[stage]
        level: Tensor | None = physics.noise_level(y) if self.noise_map else None
        return level

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the denoisers (arguments of `torch.compile`), once for all stages: weights are inputs."""
        for denoiser in self.denoisers:
            inner: Any = denoiser.base if self.adapted else denoiser
            inner.compile(*args, **kwargs)

    def gradient_step(self, x: Tensor, y: Tensor, physics: LinearPhysics, stage: int) -> Tensor:
        """z = x - rho_k A^T(A x - y), never in half precision: the data term needs its digits."""
        with torch.autocast(y.device.type, enabled=False):
            x = x.to(y.dtype)
            return x - self.step_sizes[stage] * back_project(physics.A(x) - y, physics)

    def proximal_step(self, z: Tensor, stage: int, sigma: Tensor | None = None) -> Tensor:
        """x = D(z[, sigma]; theta_k)."""
        denoiser: Any = self.denoisers[stage if self.sharing == "per_stage" else 0]
        if self.adapted:
            denoiser.activate(stage)
        x: Tensor = denoiser(z) if sigma is None else denoiser(z, sigma)
        return x

    def load_base(self, pretrained: Mapping[str, Tensor], step_size: bool = True) -> None:
        """Start every stage from a trained network, given as its state dict: denoiser, learned noise levels, and step
        sizes if asked.

        The network has one denoiser, and as many stages as this one or a single one, whose numbers all stages take.

        Raises:
            LorunError: a weight is missing, or has another shape.
        """
        for denoiser in self.denoisers:
            inner: Any = denoiser
            load_denoiser(inner.base_parameters() if self.adapted else dict(inner.named_parameters()), pretrained)
        names = ("step_sizes", "noise_levels") if step_size else ("noise_levels",)
        with torch.no_grad():
            for name in names:
                own, found = getattr(self, name), pretrained.get(name)
                if own is not None and found is not None:
                    if len(found) not in (1, self.stages):
                        raise LorunError(f"the base has {len(found)} stages: it must have one, or {self.stages}")
                    own.copy_(found.expand(self.stages))

    def decompose_base(self, pretrained: Mapping[str, Tensor]) -> None:
        """Start from a network with a denoiser per stage, given as its state dict: the base is the mean of its
        denoisers, an adapter the truncated SVD of a denoiser's difference from it. Step sizes are taken as they are.

        Raises:
            LorunError: a weight is missing, or has another shape; the network has another number of stages.
        """
        denoisers = [
            {
                name.removeprefix(f"denoisers.{stage}."): value
                for name, value in pretrained.items()
                if name.startswith(f"denoisers.{stage}.")
            }
            for stage in range(self.stages)
        ]
        if len(pretrained["step_sizes"]) != self.stages:
            raise LorunError(f"the base has {len(pretrained['step_sizes'])} stages instead of {self.stages}")
        mean = {f"denoisers.0.{name}": torch.stack([one[name] for one in denoisers]).mean(0) for name in denoisers[0]}
        self.load_base({**pretrained, **mean})
        adapted: Any = self.denoisers[0]
        adapted.decompose(denoisers)

    def parameter_kinds(self) -> dict[str, list[nn.Parameter]]:
        """All parameters by kind: base, adapters, step_sizes, other (noise levels, gates)."""
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
    """x_0: the operator's own `initial_reconstruction` where it has one, else A^T y (any deepinv operator)."""
    own: Callable[[Tensor], Tensor] | None = getattr(physics, "initial_reconstruction", None)
    with torch.autocast(y.device.type, enabled=False):
        return physics.A_adjoint(y) if own is None else own(y)


def back_project(residual: Tensor, physics: LinearPhysics) -> Tensor:
    """The operator's own `back_project` where it has one, else A^T r (any deepinv operator)."""
    own: Callable[[Tensor], Tensor] | None = getattr(physics, "back_project", None)
    return physics.A_adjoint(residual) if own is None else own(residual)


@torch.no_grad()
def load_denoiser(own: Mapping[str, Tensor], pretrained: Mapping[str, Tensor]) -> None:
    """Copy the denoiser of a one-stage network, given as its state dict, into parameters of the same shapes.

    Raises:
        LorunError: a weight is missing, or has another shape.
    """
    for name, parameter in own.items():
        found = pretrained.get(f"denoisers.0.{name}")
        shape = None if found is None else tuple(found.shape)
        if found is None or shape != tuple(parameter.shape):
            raise LorunError(f"the base does not fit at `{name}`: shape {shape} instead of {tuple(parameter.shape)}")
        parameter.copy_(found)
