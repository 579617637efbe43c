"""The list of an archive's files, SHA256SUMS, as `sha256sum` writes it: a hash, two spaces and a path on each line."""

import hashlib
import re
from collections.abc import Mapping

from lorun.errors import LorunError, short

MANIFEST = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def manifest(files: Mapping[str, bytes]) -> str:
    """The text of SHA256SUMS for the content of each file by its path."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def read_manifest(content: bytes) -> dict[str, str]:
    """The hash of each file by its path.

    Raises:
        LorunError: not such a list, a path twice, or one that leaves the archive.
    """
    hashes: dict[str, str] = {}
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise LorunError(f"{MANIFEST}: damaged: not UTF-8") from error
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise LorunError(f"{MANIFEST}: damaged: line {number} is not a hash and a path: {short(line)}")
        if check_path(match[2]) in hashes:
            raise LorunError(f"{MANIFEST}: damaged: {match[2]} twice")
        hashes[match[2]] = match[1]
    return hashes


def check_path(path: str) -> str:
    """The path of a file in an archive. Raises LorunError where it could lie outside: absolute, with `..`, a drive or a
    backslash; or where it is not printable."""
    unsafe = not path.isprintable() or "\\" in path or ":" in path
    if unsafe or any(part in ("", ".", "..") for part in path.split("/")):
        raise LorunError(f"unsafe path {short(path)}")
    return path
