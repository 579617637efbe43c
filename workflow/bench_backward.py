"""Time the two ways to compute gradients of an adapted layer, over widths and ranks.

`python workflow/bench_backward.py` writes `results/bench/backward.csv`. By these measurements,
`lorun.adapters.composed.low_rank_pays` chooses between the two. Run nothing else meanwhile.
"""

import math
from itertools import product
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch
from rich.progress import track

from lorun.adapters import composed
from lorun.bench.rounds import Work, spread
from lorun.bench.variants import where
from lorun.results.store import write_table

WIDTHS = {16: 64, 24: 64, 32: 32, 64: 16, 96: 16, 128: 16, 256: 8}
"""Channels, and the side of the image in pixels: as in a U-Net, with about the same work at each width."""

KERNELS = (3, 1)
GAMMAS = (5, 10, 19, 30, 50)
REPEATS = 15
_BATCH = 16
_CACHE = 24_000_000  # floats, more than any cache holds: in training, the inputs have left the cache by then


def measure(repeats: int) -> pd.DataFrame:
    """A row per kernel, width and rank: seconds of the gradients of A and B, computed in low rank and in full."""
    torch.set_num_threads(1)
    rows = []
    for kernel, channels, gamma in track(list(product(KERNELS, WIDTHS, GAMMAS)), description="backward"):
        rank = math.ceil(channels * gamma / 100)
        geometry = composed.Geometry((1, 1), (kernel // 2, kernel // 2))
        layer, ways = _layer(kernel, channels, rank, geometry)
        seconds = _take_turns(ways, repeats)
        rows.append(
            {
                "kernel": kernel,
                "channels": channels,
                "side": WIDTHS[channels],
                "batch": _BATCH,
                "gamma": gamma,
                "rank": rank,
                "low_rank_seconds": round(seconds.low_rank.median(), 6),
                "full_seconds": round(seconds.full.median(), 6),
                **spread("low_rank_to_full", seconds.low_rank / seconds.full, 3),
                "chosen": "low_rank" if composed.low_rank_pays(layer.weight, rank, geometry) else "full",
                **where(1),
            }
        )
    return pd.DataFrame(rows)


def _layer(
    kernel: int, channels: int, rank: int, geometry: composed.Geometry
) -> tuple[composed.Factors, dict[str, Work]]:
    """An adapted layer, and both ways to compute its gradients."""

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(memory_format=torch.channels_last)

    side = WIDTHS[channels]
    x, g = tensor(_BATCH, channels, side, side), tensor(_BATCH, channels, side, side)
    w, a = tensor(channels, channels, kernel, kernel), tensor(rank, channels, kernel, kernel)
    layer = composed.Factors(w, a, tensor(channels, rank, 1, 1), 1.0)
    return layer, {
        "low_rank": lambda: composed.low_rank_gradients(g, x, layer, geometry),
        "full": lambda: composed.full_gradients(
            composed.weight_gradient(g, x, w, geometry.stride, geometry.padding), layer
        ),
    }


def _take_turns(ways: dict[str, Work], repeats: int) -> pd.DataFrame:
    """Seconds: a column per way, a row per round."""
    cache = torch.zeros(_CACHE)

    def seconds(work: Work) -> float:
        cache.add_(1)
        begin = perf_counter()
        work()
        return perf_counter() - begin

    rounds = [{way: seconds(work) for way, work in ways.items()} for _ in range(repeats + 1)]
    return pd.DataFrame(rounds[1:])  # the first round warms up


if __name__ == "__main__":
    write_table(Path("results/bench/backward.csv"), measure(REPEATS))
