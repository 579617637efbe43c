"""Write files and folders atomically: to a temporary place next to them, then renamed. Checksums of files."""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from lorun.errors import LorunError


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # peft writes with safetensors
        reason = getattr(error, "strerror", None) or str(error)
        raise LorunError(f"cannot write {path}: {reason}. What was there before is untouched.") from error


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the folder of `path`, flush it to disk, and rename it to `path`.

    Raises LorunError, with the path and the system's reason, if the disk is full or the folder read-only. The previous
    content of `path` is then unchanged, and the temporary file is removed. A device or a pipe, such as /dev/null, is
    written to instead.
    """
    path = Path(path)
    with _explained(path):
        if path.is_char_device() or path.is_fifo():
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder) / path.name
                write(part)
                path.write_bytes(part.read_bytes())
            return
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


def replace_files(folder: Path | str, files: Iterable[tuple[str, bytes]]) -> None:
    """Replace a folder by one with exactly these files (path in the folder, content), see `replace_folder`."""

    def fill(part: Path) -> None:
        for name, content in files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)

    replace_folder(folder, fill)


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


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be, and say so if another process does the same `work`.

    The system releases the lock when a process ends in any way; partial files that a killed one left are removed.

    Raises LorunError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(folder / ".lock").acquire(blocking=False)
        except Timeout:
            print(f"{folder}: another process is {work}; waiting for it", file=sys.stderr, flush=True)
            lock = FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise LorunError(f"cannot write to {folder}: {error.strerror}") from error
    with lock:
        for part in [*folder.glob(".*.part"), *folder.glob("*/.*.part")]:
            part.unlink() if part.is_file() else shutil.rmtree(part)
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
