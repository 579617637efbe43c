"""Download a dataset from its upstream: file by file, with checksums. The files of all datasets are small."""

import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorun.data.checksums import has_md5, md5_of_bytes
from lorun.data.listing import why_no_path
from lorun.data.progress import track
from lorun.errors import LorunError, one_line
from lorun.files import replace_files, write_atomically

if TYPE_CHECKING:
    from rich.console import Console

TRIES = 4
"""For each file."""


class RemoteFile(NamedTuple):
    """The address of a file and its md5."""

    url: str
    md5: str


def download(
    files: Mapping[str, RemoteFile], folder: Path, name: str, *, timeout: float = 30.0, wait: float = 1.0
) -> None:
    """Fill `folder` with exactly these files (path inside the folder -> origin) and check their md5.

    Files are collected in `partial_folder(folder)` until all are there, so an interrupted download keeps what came.

    Args:
        name: of the dataset, for messages.
        timeout: seconds without data after which a try fails.
        wait: seconds before the second try of a file, doubled for each further one.

    Raises:
        LorunError: a path leads out of the folder; a file cannot be downloaded, has another checksum, or cannot be
            written.
    """
    from rich.console import Console

    parts, console = partial_folder(folder), Console(stderr=True)
    for done, (file, remote) in enumerate(track(list(files.items()), name, console)):
        if (reason := why_no_path(file)) is not None:
            raise LorunError(f"dataset {name!r}: {file!r} {reason}")
        if has_md5(parts / file, remote.md5):
            continue
        try:
            there = has_md5(folder / file, remote.md5)
            content = (folder / file).read_bytes() if there else _get(remote, timeout, wait, console)
        except LorunError as error:
            rest = f"{done} of {len(files)} files are complete, the same command continues from there"
            raise LorunError(f"dataset {name!r}: cannot download {file} from {remote.url}: {error}; {rest}") from None
        write_atomically(parts / file, partial(Path.write_bytes, data=content))

    replace_files(folder, ((file, (parts / file).read_bytes()) for file in files))
    shutil.rmtree(parts, ignore_errors=True)


def partial_folder(folder: Path) -> Path:
    """The folder where a download into `folder` collects its files."""
    return folder.parent / f".{folder.name}.download"


def _get(remote: RemoteFile, timeout: float, wait: float, log: "Console") -> bytes:
    """The content of a file, after several tries if need be. Raises LorunError: why the last one failed."""
    for attempt in range(1, TRIES):
        try:
            return _try(remote, timeout)
        except LorunError as error:
            log.print(f"{remote.url}: {error}; once more ({attempt + 1} of {TRIES})", markup=False, highlight=False)
            time.sleep(wait * 2 ** (attempt - 1))
    return _try(remote, timeout)


def _try(remote: RemoteFile, timeout: float) -> bytes:
    import requests

    try:
        response = requests.get(remote.url, timeout=timeout)
    except requests.Timeout:
        raise LorunError(f"no data for {timeout:g} s") from None
    except (requests.RequestException, ValueError) as error:  # no server, a broken connection, no address
        raise LorunError(one_line(error)) from None
    if not response.ok:
        raise LorunError(f"the server answers {response.status_code} {response.reason}")
    if md5_of_bytes(response.content) != remote.md5:
        raise LorunError("the file has another checksum than its manifest says")
    return response.content
