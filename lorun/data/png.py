"""A PNG encoder whose bytes depend on the pixels alone.

The bytes that Pillow writes change with its zlib. Here the pixels are stored uncompressed, so that the checksum of a
file is the same on every machine. See the PNG specification (W3C, 2003), RFC 1950 and RFC 1951.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_STORED_BLOCK = 65535  # bytes, the most that deflate allows
_COLOUR_TYPE = {1: 0, 3: 2}  # channels -> gray, RGB


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes of `pixels`, uint8 of shape (1, H, W) for gray or (3, H, W) for RGB, H and W at least 1.

    Raises ValueError for any other shape or type.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) not in _COLOUR_TYPE or not pixels.size:
        raise ValueError(f"need uint8 (1 or 3, H, W), not {pixels.dtype} {pixels.shape}")
    channels, height, width = pixels.shape
    rows = pixels.transpose(1, 2, 0).reshape(height, width * channels)
    lines = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # each line starts with its filter, 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", _store(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _store(data: bytes) -> bytes:
    """A zlib stream of uncompressed blocks."""
    stream = bytearray(b"\x78\x01")
    for start in range(0, len(data), _STORED_BLOCK):
        block = data[start : start + _STORED_BLOCK]
        is_last = start + _STORED_BLOCK >= len(data)
        stream += struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
    return bytes(stream) + struct.pack(">I", zlib.adler32(data))
