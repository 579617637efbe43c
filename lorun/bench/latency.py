"""Milliseconds of a reconstruction by every method of a profile, measured in turns, and whether they can be believed.

Load, heat and other programs change a machine's speed within minutes. Here every method is called once per round, each
in a process of its own, so that all see the same machine. Methods with the same network, and one that is timed twice,
show what is left: their medians must agree within `AGREE`, or the numbers say nothing.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lorun.accounting.building import inference_build
from lorun.accounting.fake import fake_tensors
from lorun.bench.rounds import Work, spread, take_turns
from lorun.bench.variants import reconstruction, where
from lorun.devices import pick_device
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.results.store import read_table
from lorun.system import build_system

AGREE = 1.05
"""The largest ratio of the medians of two methods with the same network."""

AGAIN = " (again)"
"""Ends the name of the method that is timed twice."""

COLUMNS = (
    *("profile", "task", "setting", "method", "same_network", "image", "median_ms", "q25_ms", "q75_ms", "repeats"),
    *("device", "threads", "commit", "dirty", "versions"),
)


def measure(config: Path, *, repeats: int, threads: int) -> pd.DataFrame:
    """A row per task, setting and method of a profile (`COLUMNS`), and one for the method that is timed twice.

    `same_network` is the first method with the same network, of which this is a twin; null for others.

    Raises:
        LorunError: a method failed.
    """
    profile = load_profile(config)
    rows = [
        {"profile": profile.profile, "task": task, "setting": setting, **row, **where(threads, "auto")}
        for (task, setting), experiments in groupby(profile.accounted(), lambda one: (one.task, one.setting))
        for row in _measured(config, list(experiments), repeats, threads)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def agreed(latencies: pd.DataFrame) -> bool:
    """Whether twins were timed in this setting, and all of them agree."""
    median = latencies.set_index("method").median_ms
    twins = latencies.dropna(subset="same_network")
    ratios = [median[one] / median[other] for one, other in zip(twins.method, twins.same_network, strict=True)]
    return bool(ratios) and all(1 / AGREE <= ratio <= AGREE for ratio in ratios)


def read_latencies(path: Path, profile: str) -> pd.DataFrame:
    """The rows of a profile in the table of `lorun latency`; none if there is no table.

    Raises:
        LorunError: the table cannot be read.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        table = read_table(path)[list(COLUMNS)]
    except (ValueError, KeyError) as error:
        raise LorunError(f"{path}: not a table of `lorun latency` ({error})") from error
    return table[table.profile == profile]


def _measured(config: Path, experiments: list[Experiment], repeats: int, threads: int) -> Iterator[Mapping[str, Any]]:
    """The rows of a setting."""
    first = experiments[0]
    networks = {experiment.method: _network(experiment) for experiment in experiments}
    twice = "lorun" if "lorun" in networks else max(networks, key=lambda method: len(networks[method][1]))
    networks[twice + AGAIN] = networks[twice]
    place = first.task, first.setting
    jobs = {method: partial(_prepare, config, *place, method.removesuffix(AGAIN), threads) for method in networks}
    times = 1e3 * take_turns(jobs, repeats, "/".join(place))
    seen: dict[Any, str] = {}
    for method, network in networks.items():
        same = seen.setdefault(network, method) if network[1] or method == twice + AGAIN else method
        yield {
            "method": method,
            "same_network": None if same == method else same,
            "image": first.accounting.image,
            **{f"{name}_ms": value for name, value in spread("median", times[method], 3).items()},
            "repeats": repeats,
        }


def _network(experiment: Experiment) -> tuple[str, tuple[Any, ...]]:
    """What two methods have in common if they have the same network: its class, and names and shapes of parameters."""
    with fake_tensors():
        network = build_system(experiment).network
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in network.named_parameters())
    return type(network).__qualname__, shapes


def _prepare(config: Path, task: str, setting: str, method: str, threads: int) -> Work:
    """The reconstruction of one random image by a method, without the measurement, for the process that repeats it."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    profile = load_profile(config)
    experiment = profile.experiment(task, setting, method, profile.seeds[0])
    return reconstruction(*inference_build(experiment)(), experiment, pick_device("auto"))
