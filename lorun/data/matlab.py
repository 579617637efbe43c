"""A look at MATLAB files of version 5 to 7 before scipy reads them.

scipy takes the types of elements for indices and trusts sizes: damaged files end the process, or keep it busy for
minutes. Names of types and classes are those of MathWorks' "MAT-File Format".
"""

import math
import struct
import zlib
from collections.abc import Iterator

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15
_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # of a number of each type
_TEXTS = {1, 2, 4, 16, 17, 18}
_NAME = {1, 16}
_INDEX = {5, 6}
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _NUMBERS, _OPAQUE = 1, 2, 3, 4, 5, range(6, 16), 17
_COMPLEX = 0x800

_Element = tuple[int, memoryview]  # type, content


def check(content: bytes, variable: str | None = None) -> None:
    """Check the headers of all variables, and everything inside `variable`; files of other versions pass.

    Raises ValueError, struct.error, zlib.error or RecursionError where the file is not what the format says, or
    where `variable` holds an object of a newer class than a cell array.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        return
    for kind, held in _elements(memoryview(content)[_HEADER:], order, aligned=False):
        if kind == _COMPRESSED:
            kind, held = next(_elements(memoryview(zlib.decompress(held)), order, aligned=False))
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable is expected")
        name, bits, count, inner = _header(held, order)
        if name == variable:
            _check(bits, count, inner, order)


def _elements(content: memoryview, order: str, *, aligned: bool = True) -> Iterator[_Element]:
    """The elements one after another; each begins at a multiple of 8 bytes if `aligned`."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # a short one, within its header
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        end = start + size
        if (start == at + 4 and size > 4) or end > len(content):
            raise ValueError(f"an element of type {kind} and {size} bytes")
        yield kind, content[start:end]
        at = end + (at - end) % 8 if aligned else end


def _take(elements: Iterator[_Element], kinds: set[int]) -> _Element:
    kind, held = next(elements, (0, memoryview(b"")))
    if kind not in kinds:
        raise ValueError(f"an element of type {kind} where {sorted(kinds)} are expected")
    return kind, held


def _header(matrix: memoryview, order: str) -> tuple[str, int, int, Iterator[_Element]]:
    """Name, flags and class, number of values, and the elements that follow."""
    elements = _elements(matrix, order)
    _, flags = _take(elements, {6})
    (bits,) = struct.unpack_from(f"{order}I", flags)
    count = 1
    if bits & 0xFF != _OPAQUE:  # which has no shape
        _, shape = _take(elements, _INDEX)
        sides = struct.unpack(f"{order}{len(shape) // 4}i", shape)
        count = math.prod(sides)
        if len(flags) != 8 or len(sides) < 2 or min(sides) < 0:
            raise ValueError(f"a matrix of shape {sides}")
    return bytes(_take(elements, _NAME)[1]).decode("latin1"), bits, count, elements


def _check(bits: int, count: int, elements: Iterator[_Element], order: str) -> None:
    """Check what follows the header of a matrix."""
    class_, parts = bits & 0xFF, 1 + bool(bits & _COMPLEX)
    if class_ in _NUMBERS:
        for _ in range(parts):
            _numbers(elements, count)
    elif class_ == _SPARSE:
        for _ in range(2 + parts):
            _numbers(elements)
    elif class_ == _CHAR:
        _, text = _take(elements, _TEXTS)
        if text and count > len(text):  # without any, they are blanks
            raise ValueError(f"{count} letters in {len(text)} bytes")
    elif class_ in (_CELL, _STRUCT, _OBJECT):
        if class_ == _OBJECT:
            _take(elements, _NAME)  # of its class
        fields = 1 if class_ == _CELL else _fields(elements, order)
        for _ in range(count * fields):
            _, held = _take(elements, {_MATRIX})
            if held:  # an empty cell may have no header
                _, inner_bits, inner_count, inner = _header(held, order)
                _check(inner_bits, inner_count, inner, order)
    else:
        raise ValueError(f"a matrix of class {class_}")


def _numbers(elements: Iterator[_Element], count: int | None = None) -> None:
    kind, held = _take(elements, set(_BYTES))
    if count is not None and len(held) != count * _BYTES[kind]:
        raise ValueError(f"{len(held)} bytes of type {kind} where {count} numbers are expected")


def _fields(elements: Iterator[_Element], order: str) -> int:
    """The number of fields of a structure."""
    _, length = _take(elements, _INDEX)
    (letters,) = struct.unpack(f"{order}i", length)
    _, names = _take(elements, _NAME)
    if letters < 1 or len(names) % letters:
        raise ValueError(f"{len(names)} bytes of names of {letters} letters")
    return len(names) // letters
