"""Refuse what cannot fit into memory before it is begun."""

import psutil

from lorun.errors import LorunError

_SMALL = 2**28  # bytes: not worth asking


def refuse_too_large(what: str, need: int) -> None:
    """Raise LorunError where `what` needs more bytes than are free."""
    free = psutil.virtual_memory().available if need > _SMALL else need
    if need > free:
        raise LorunError(f"{what} needs {need:,} bytes of memory, and {free:,} are free")
