"""What the baselines without training have in common: deepinv's proximal algorithms from the suite's first estimate.

`python -m baselines.classical total_variation --values 0.003 0.01 0.03` prints the mean PSNR over validation images, by
which the constants of these baselines were chosen; test images are never read.
"""

import argparse
from importlib import import_module
from pathlib import Path

import torch
from deepinv.optim import L2, PGD, Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.unfolding import initial_estimate

_POWER_ITERATIONS = 30


class ProximalReconstruction(nn.Module):
    """Gradient steps on 1/2 |A x - y|^2, each but the last followed by a proximal step of a prior; nothing is trained.

    The prior's strength falls geometrically from `first` to `last`: measurements are free of noise, so the prior is to
    decide only what they leave open.
    """

    data_dependent = True  # deepinv's algorithms look at values, so that fake tensors cannot take their course

    def __init__(self, first: float, last: float, iterations: int) -> None:
        super().__init__()
        self.strengths = [first * (last / first) ** (step / (iterations - 1)) for step in range(iterations)]
        self.stages = iterations

    @classmethod
    def declines(cls, physics: object, channels: int) -> str | None:
        return None if isinstance(physics, LinearPhysics) else f"{type(physics).__name__} is not linear"

    def prior(self) -> Prior:
        """A fresh one for every image: deepinv's total variation starts from the result of the image before."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            x = initial_estimate(y, physics)
            step_size = 1 / squared_norm(physics, x)
            algorithm = PGD(
                data_fidelity=L2(),
                prior=self.prior(),
                lambda_reg=[strength / step_size for strength in self.strengths],  # whatever the scale of A
                sigma_denoiser=self.strengths,
                stepsize=step_size,
                max_iter=len(self.strengths),
            )
            x = algorithm(y, physics, init=x)
            return x + step_size * physics.A_adjoint(y - physics.A(x))


def squared_norm(physics: LinearPhysics, x: Tensor) -> float:
    """The largest eigenvalue of A^T A, by power iteration from a fixed start; a hundredth above what that finds."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x[:1].shape, generator=generator, dtype=x.dtype).to(x.device)
    norm = 1.0
    for _ in range(_POWER_ITERATIONS):
        v = physics.A_adjoint(physics.A(v))
        norm = float(v.norm())
        v = v / norm
    return 1.01 * norm


def main() -> None:
    from lorun.config import BlockCSConfig
    from lorun.data.images import load_dataset
    from lorun.data.patches import random_blocks
    from lorun.evaluation.metrics import psnr
    from lorun.physics import build_physics

    parser = argparse.ArgumentParser(description="Mean PSNR of a baseline on validation images, by its constant.")
    parser.add_argument("baseline", choices=["total_variation", "plug_and_play"])
    parser.add_argument("--values", type=float, nargs="+", required=True, help="of the constant LAST")
    parser.add_argument("--ratios", type=float, nargs="+", default=[10.0, 25.0], help="measurements, percent")
    parser.add_argument("--images", type=int, default=6, help="of the validation split of bsds500, in order")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of all datasets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training = load_dataset(arguments.data, "bsds500", "train", 1)
    validation = load_dataset(arguments.data, "bsds500", "validation", 1)
    images = [torch.from_numpy(image[:, :256, :256]).float() / 255 for image in validation.values()][: arguments.images]
    module = import_module(f"baselines.{arguments.baseline}.baseline")
    for ratio in arguments.ratios:
        physics = build_physics(BlockCSConfig(ratio=ratio))
        physics.fit(random_blocks(training, physics.block, 20_000, 0))
        for value in [None, *arguments.values]:
            total = 0.0
            for x in images:
                bound = physics.at(*x.shape[1:])
                y = bound(x[None])
                estimate = initial_estimate(y, bound) if value is None else module.Baseline(bound, 1, value)(y, bound)
                total += psnr(estimate[0].clamp(0, 1), x)
            shown = "first estimate" if value is None else f"{value:g}"
            print(f"ratio {ratio:g} %, {shown}: {total / len(images):.3f} dB", flush=True)


if __name__ == "__main__":
    main()
