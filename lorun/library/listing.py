"""The library of adapters as a table for people."""

from itertools import groupby

from lorun.library import AdapterLibrary, Manifest, short


def listing(library: AdapterLibrary) -> str:
    """A heading for each network, one line a set below it: those that fit together on one loaded base."""
    active = {one.name for one in library.active()}
    groups = groupby(library.manifests(), key=lambda one: (one.base, one.stages, sorted(one.ranks.items())))
    parts = [_group(list(sets), active) for _, sets in groups]
    return "\n".join(parts) if parts else f"{library.folder}: no adapters; `lorun adapters add NAME --from RUN_FOLDER`"


def _group(sets: list[Manifest], active: set[str]) -> str:
    one = sets[0]
    ranks = sorted(set(one.ranks.values()))
    heading = (
        f"base {short(one.base)} ({one.experiment.denoiser.name}, {one.bytes.base:,} bytes), {one.stages} stages, "
        f"ranks {ranks[0]} to {ranks[-1]}"
    )
    lines = [["", "name", "setting", "method", "seed", "gamma", "bytes of adapters", "run"]]
    for of in sets:
        said = of.experiment
        where = [f"{said.task}/{said.setting}", said.method, str(said.seed), f"{said.lora.gamma:g}"]
        mark = "*" if of.name in active else ""
        lines.append([mark, of.name, *where, f"{of.bytes.adapters:,}", said.key])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join([heading, *("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)])
