"""The two ways back through one adapted layer, over widths and ranks: what `low_rank_pays` is founded on."""

import math
from collections.abc import Callable
from time import perf_counter

import pandas as pd
import torch
from rich.progress import track

from lorun.adapters import composed
from lorun.bench.machine import where
from lorun.bench.rounds import Spread, ratio

WIDTHS = {16: 64, 24: 64, 32: 32, 64: 16, 96: 16, 128: 16, 256: 8}
"""channels -> side of the image, pixels: as in a U-Net, about as much work at each."""

KERNELS = (3, 1)
GAMMAS = (5, 10, 19, 30, 50)
_BATCH = 16
_CACHE = 24_000_000  # floats that no cache holds: in a step, inputs have long left it when the backward pass comes


def measure(repeats: int, threads: int) -> pd.DataFrame:
    """A row per kernel, width and rank: seconds of the gradients of A and B, the low-rank and the full way in turns."""
    torch.set_num_threads(threads)
    cases = [(kernel, channels, gamma) for kernel in KERNELS for channels in WIDTHS for gamma in GAMMAS]
    rows = []
    for kernel, channels, gamma in track(cases, description="backward", transient=True):
        rank = math.ceil(channels * gamma / 100)
        geometry = composed.Geometry((1, 1), (kernel // 2, kernel // 2))
        ways, layer = _ways(kernel, channels, rank, geometry)
        seconds = _take_turns(ways, repeats)
        relative = ratio(seconds["low_rank"], seconds["full"])
        rows.append(
            {
                "kernel": kernel,
                "channels": channels,
                "side": WIDTHS[channels],
                "batch": _BATCH,
                "gamma": gamma,
                "rank": rank,
                "low_rank_seconds": round(Spread.of(seconds["low_rank"]).median, 6),
                "full_seconds": round(Spread.of(seconds["full"]).median, 6),
                "low_rank_to_full": round(relative.median, 3),
                "q25": round(relative.low, 3),
                "q75": round(relative.high, 3),
                "chosen": "low_rank" if composed.low_rank_pays(layer.weight, rank, geometry) else "full",
                **where(threads, "cpu"),
            }
        )
    return pd.DataFrame(rows)


def _ways(
    kernel: int, channels: int, rank: int, geometry: composed.Geometry
) -> tuple[dict[str, Callable[[], object]], composed.Factors]:
    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(memory_format=torch.channels_last)

    side = WIDTHS[channels]
    x, g = tensor(_BATCH, channels, side, side), tensor(_BATCH, channels, side, side)
    w, a = tensor(channels, channels, kernel, kernel), tensor(rank, channels, kernel, kernel)
    layer = composed.Factors(w, a, tensor(channels, rank, 1, 1), 1.0)
    return {
        "low_rank": lambda: composed.low_rank_gradients(g, x, layer, geometry),
        "full": lambda: composed.full_gradients(composed.weight_gradient(g, x, w, *geometry), layer),
    }, layer


def _take_turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    cache = torch.zeros(_CACHE)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, work in ways.items():
            cache.add_(1)
            begin = perf_counter()
            work()
            if turn:  # the first warms up
                seconds[way].append(perf_counter() - begin)
    return seconds
