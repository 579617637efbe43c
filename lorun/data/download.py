"""Download a dataset from its upstream: file by file, checked, resumable."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lorun.data.checksums import md5_of_bytes, read_bytes
from lorun.errors import LorunError
from lorun.files import replace_folder

TRIES = 4
"""Of a file, before giving up."""

_CHUNK = 1 << 16  # bytes
_WEB = ("https://", "http://")
_IN_ADDRESSES = "%/:?#[]@!$&'()*+,;=~"  # characters that are not to be quoted
_FOR_NOW = {408, 425, 429}  # statuses below 500 that asking again may change


@dataclass(frozen=True)
class RemoteFile:
    """Where a file is to be had, and what it must be."""

    url: str
    md5: str


class _Failed(Exception):
    """One try did not give the file; `again` says whether another one may."""

    def __init__(self, reason: str, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


def download(
    files: Mapping[str, RemoteFile], folder: Path, name: str, *, timeout: float = 30.0, wait: float = 1.0
) -> None:
    """Leave in `folder` exactly these files (path inside the folder -> origin), each with its checksum.

    What is fetched lies in `begun(folder)`, beside the folder, until all is there, so that a download that was
    interrupted in any way goes on where it stopped: complete files are kept, a file cut off in the middle is continued.

    Args:
        name: of the dataset, for messages.
        timeout: seconds without a byte after which a server counts as stalled.
        wait: seconds before the second try of a file, doubled for each further one.

    Raises:
        LorunError: a path leads out of the folder; a file cannot be had, is another than its checksum says, or cannot
            be written.
    """
    for file, remote in files.items():
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise LorunError(f"dataset {name!r}: the path {file!r} names no file inside its folder")
        if not remote.url.startswith(_WEB):
            raise LorunError(
                f"dataset {name!r}: {file} has the address {remote.url!r}; only http and https are fetched"
            )
    parts = begun(folder)
    with _Progress(name, len(files)) as progress:
        for done, (file, remote) in enumerate(files.items()):
            safe = f"{done} of {len(files)} files are safe, the same command goes on from there"
            try:
                _have(folder / file, parts / file, remote, timeout, wait, progress)
            except _Failed as error:
                raise LorunError(
                    f"dataset {name!r}: cannot download {file} from {remote.url}: {error}; {safe}"
                ) from None
            except OSError as error:
                reason = error.strerror or error
                raise LorunError(f"dataset {name!r}: cannot write {parts / file}: {reason}; {safe}") from error
            progress.file_done()
    replace_folder(folder, lambda part: _copy_files(files, parts, part))
    shutil.rmtree(parts, ignore_errors=True)


def begun(folder: Path) -> Path:
    """Where a download into `folder` keeps what came until all is there."""
    return folder.parent / f".{folder.name}.download"


def _copy_files(files: Iterable[str], source: Path, to: Path) -> None:
    for file in files:
        (to / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, to / file)


def _have(present: Path, part: Path, remote: RemoteFile, timeout: float, wait: float, progress: "_Progress") -> None:
    """Have the right file in `part`: as it is, from where it is present, or from its origin."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.is_file() and md5_of_bytes(read_bytes(part)) == remote.md5:
        return
    if present.is_file() and md5_of_bytes(read_bytes(present)) == remote.md5:
        shutil.copyfile(present, part)
        return
    part.unlink(missing_ok=True)
    incomplete = part.with_name(part.name + ".part")
    wrong = 0
    for attempt in range(1, TRIES + 1):
        try:
            _continue(incomplete, remote.url, timeout, progress)
            if _md5_of(incomplete) != remote.md5:
                incomplete.unlink()  # wrong from the start, or badly continued
                wrong += 1
                raise _Failed("what came has another checksum than the manifest says", again=wrong == 1)
            incomplete.replace(part)
            return
        except _Failed as error:
            if not error.again or attempt == TRIES:
                raise
            progress.say(f"{error}; once more ({attempt + 1} of {TRIES})")
            time.sleep(wait * 2 ** (attempt - 1))


def _continue(incomplete: Path, url: str, timeout: float, progress: "_Progress") -> None:
    """Fetch what is missing of a file; what came stays, whatever happens."""
    have = incomplete.stat().st_size if incomplete.exists() else 0
    try:
        response = _ask(url, have, timeout)
    except HTTPError as error:
        if error.code == 416:  # nothing is left, or the file is another one now
            if have and _total(error) == have:
                return
            incomplete.unlink(missing_ok=True)
            raise _Failed("the server has another file than the one that was begun") from None
        reason = " ".join(str(error.reason).split())  # of a redirection in circles, urllib tells in three lines
        again = error.code >= 500 or error.code in _FOR_NOW
        raise _Failed(f"the server answers {error.code} {reason}", again) from None
    with response:
        if have and not _continues(response, have):
            have = 0  # it starts again
        with incomplete.open("ab" if have else "wb") as stream:
            _copy(response, stream, have, timeout, progress)


def _ask(url: str, have: int, timeout: float) -> HTTPResponse:
    """The answer, from byte `have` on where the server can; HTTPError where it refuses."""
    request = Request(quote(url, safe=_IN_ADDRESSES), headers={"Range": f"bytes={have}-"} if have else {})
    with _connection(timeout):
        return build_opener(_RedirectInTheWeb()).open(request, timeout=timeout)


def _copy(response: HTTPResponse, stream: Any, have: int, timeout: float, progress: "_Progress") -> None:
    length = response.length  # None where the server does not say
    came = 0
    for chunk in _chunks(response, timeout):
        stream.write(chunk)
        came += len(chunk)
        progress.bytes_came(len(chunk))
    if length is not None and came < length:
        raise _Failed(f"the connection ended after {have + came} of {have + length} bytes")


def _chunks(response: HTTPResponse, timeout: float) -> Iterator[bytes]:
    """What comes, as soon as it comes, so that nothing of it is lost when the server stalls."""
    with _connection(timeout):
        while chunk := response.read1(_CHUNK):
            yield chunk


@contextmanager
def _connection(timeout: float) -> Iterator[None]:
    """Tells what fails in a connection; reading only, for an OSError in writing has nothing to do with it."""
    try:
        yield
    except HTTPError:
        raise
    except TimeoutError:
        raise _Failed(f"nothing came for {timeout:g} s") from None
    except URLError as error:
        reason = f"no answer in {timeout:g} s" if isinstance(error.reason, TimeoutError) else str(error.reason)
        raise _Failed(f"no connection ({reason})") from None
    except (InvalidURL, ValueError) as error:
        raise _Failed(f"this or what it redirects to is no address ({error})", again=False) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise _Failed(f"the connection broke ({reason})") from None


class _RedirectInTheWeb(HTTPRedirectHandler):
    """Does not follow to ftp, as urllib does."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if not newurl.startswith(_WEB):
            raise _Failed(f"the server redirects to {newurl}; only http and https are fetched", again=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continues(response: HTTPResponse, have: int) -> bool:
    return response.status == 206 and (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _total(error: HTTPError) -> int | None:
    """The file's size in an answer 416: `Content-Range: bytes */SIZE`."""
    said = (error.headers.get("Content-Range") or "").rpartition("/")[2]
    return int(said) if said.isdigit() else None


def _md5_of(path: Path) -> str:
    digest = md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Progress:
    """A bar on a terminal, else a line at the start and per tenth of the files."""

    def __init__(self, name: str, files: int) -> None:
        self.name, self.files, self.done, self.bytes = name, files, 0, 0
        self.bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[mb]}"),
            )
            self.bar = Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True))
            self.task = self.bar.add_task(name, total=files, mb="")

    def __enter__(self) -> "_Progress":
        if self.bar is not None:
            self.bar.start()
        else:
            self.say(f"0 of {self.files} files")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def bytes_came(self, count: int) -> None:
        self.bytes += count
        if self.bar is not None:
            self.bar.update(self.task, mb=self._megabytes())

    def file_done(self) -> None:
        before = 10 * self.done // self.files
        self.done += 1
        if self.bar is not None:
            self.bar.advance(self.task)
        elif 10 * self.done // self.files > before:
            self.say(f"{self.done} of {self.files} files, {self._megabytes()}")

    def say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(f"{self.name}: {text}", markup=False, highlight=False)
        else:
            print(f"{self.name}: {text}", file=sys.stderr, flush=True)

    def _megabytes(self) -> str:
        return f"{self.bytes / 1e6:.1f} MB"
