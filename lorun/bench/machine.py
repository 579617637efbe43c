"""Where a benchmark ran: the columns that end each of its tables."""

from typing import Any

from lorun.accounting.latency import hardware_name
from lorun.devices import pick_device
from lorun.provenance import revision, versions

_PACKAGES = ("torch", "peft", "deepinv")


def where(threads: int | None, device: str) -> dict[str, Any]:
    """Device, threads, code and packages."""
    commit, dirty = revision()
    return {
        "device": hardware_name(pick_device(device)),
        "threads": threads,
        "commit": commit,
        "dirty": dirty,
        "versions": versions(_PACKAGES),
    }
