"""A look at MATLAB files of version 5 to 7 before scipy reads them.

scipy takes the type of an element for an index without a look at it, and damaged files end the process.
"""

import struct
import zlib

_MATRIX, _COMPRESSED = 14, 15
_TYPES = {*range(1, 8), 9, 12, 13, _MATRIX, _COMPRESSED, 16, 17, 18}
_EMPTY = (0, 0)  # type and size of an empty cell
_HEADER = 128  # bytes


def check(content: bytes) -> None:
    """Raises ValueError, struct.error or zlib.error where an element has no known type or does not fit; files of other
    versions pass."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is not None:
        _check(memoryview(content)[_HEADER:], order)


def _check(content: memoryview, order: str) -> None:
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # a short one, within its header
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end = start + size
        if (kind not in _TYPES and (kind, size) != _EMPTY) or end > len(content):
            raise ValueError(f"an element of type {kind} and {size} bytes")
        if kind == _COMPRESSED:
            _check(memoryview(zlib.decompress(content[start:end])), order)
        elif kind == _MATRIX:
            _check(content[start:end], order)
        at = end if kind == _COMPRESSED else end + (at - end) % 8
