"""The variables of MATLAB files of version 5 to 7.

scipy reads these files too, but ends the process on some damaged ones: it takes the type of an element for an index
without a look at it.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _OPAQUE = 1, 17
_NUMBERS = range(6, 16)
_OTHERS = {
    2: "objects (a cell array, or a structure)",
    3: "objects (a cell array, or a structure)",
    4: "text",
    5: "a sparse matrix (use `full`)",
}
_COMPLEX = 0x800
_HEADER = 128  # bytes

Element = tuple[int, memoryview]


class NotNumbers(ValueError):
    """A variable, or a cell of one, holds something other than numbers."""


class Variable(NamedTuple):
    """A variable of a file, or a cell in it: `kind` is its class as MATLAB numbers them, `parts` are its values."""

    name: str
    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    parts: list[Element]
    order: str

    def read(self) -> np.ndarray:
        """The numbers in their stored type, or the cells as objects.

        Raises:
            NotNumbers: it is neither.
            ValueError, struct.error: it is damaged.
        """
        if self.kind == _CELL:
            cells = np.empty(len(self.parts), object)
            for number, (kind, content) in enumerate(self.parts):
                cells[number] = _variable(kind, content, self.order).read() if content else np.empty((0, 0))
            return cells.reshape(self.shape, order="F")
        if self.kind not in _NUMBERS:
            what = f"variable `{self.name}`" if self.name else "a cell"
            raise NotNumbers(f"{what} holds {_OTHERS.get(self.kind, f'something of class {self.kind}')}")
        if len(self.parts) != 1 + self.is_complex:
            raise ValueError(f"{len(self.parts)} parts of an array")
        arrays = [_numbers(part, self.order).reshape(self.shape, order="F") for part in self.parts]
        return arrays[0] + 1j * arrays[1] if self.is_complex else arrays[0].copy(order="F")


def is_version_5(start: bytes) -> bool:
    """Whether a file that begins so is of version 5 to 7."""
    return start[126:_HEADER] in (b"IM", b"MI")


def variables(content: bytes) -> dict[str, Variable]:
    """The variables of a file by name, not read yet. Damage is a ValueError, struct.error or zlib.error."""
    order = "<" if content[126:_HEADER] == b"IM" else ">"
    found = {}
    for kind, part in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            ((kind, part),) = _elements(memoryview(zlib.decompress(part)), order)
        variable = _variable(kind, part, order)
        found[variable.name] = variable
    return found


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    """The elements that follow each other in some bytes: their types and contents."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # a short one, within its header
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end = start + size
        if end > len(content):
            raise ValueError("an element is longer than what holds it")
        yield kind, content[start:end]
        at = end if kind == _COMPRESSED else end + (at - end) % 8


def _variable(kind: int, content: memoryview, order: str) -> Variable:
    if kind != _MATRIX:
        raise ValueError(f"an element of type {kind} instead of a variable")
    (_, flags), *parts = _elements(content, order)
    flag = struct.unpack_from(f"{order}I", flags)[0]
    if flag & 0xFF == _OPAQUE:  # has no shape
        return Variable(bytes(parts[0][1]).decode("latin-1"), _OPAQUE, False, (), [], order)
    (_, shape), (_, name), *values = parts
    sizes = tuple(map(int, np.frombuffer(shape, f"{order}u4")))
    return Variable(bytes(name).decode("latin-1"), flag & 0xFF, bool(flag & _COMPLEX), sizes, values, order)


def _numbers(element: Element, order: str) -> np.ndarray:
    kind, content = element
    if kind not in _TYPES:
        raise ValueError(f"an element of type {kind} instead of numbers")
    stored = np.dtype(order + _TYPES[kind])
    return np.frombuffer(content, stored).astype(stored.newbyteorder("="), copy=False)
