"""Write files and folders atomically: to a temporary place next to them, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lorun.errors import LorunError


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # peft writes with safetensors
        reason = getattr(error, "strerror", None) or str(error)
        raise LorunError(f"cannot write {path}: {reason}. What was there before is untouched.") from error


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, flush it to disk, and rename it to `path`.

    Raises LorunError, with the path and the system's reason, if the disk is full or the folder read-only. The previous
    content of `path` is then unchanged, and the temporary file is removed.
    """
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.chmod(0o666 & ~_umask())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically (see `write_atomically`)."""
    write_atomically(path, lambda part: part.write_bytes(text.encode()))


def replace_folder(path: Path | str, fill: Callable[[Path], object]) -> None:
    """Let `fill` write into a new folder next to `path`, then replace `path` by it."""
    path = Path(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            fill(part)
            for entry in (part, *part.rglob("*")):  # safetensors makes files that only their owner can read
                entry.chmod((0o777 if entry.is_dir() else 0o666) & ~_umask())
            if path.exists():
                shutil.rmtree(path)
            part.replace(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
