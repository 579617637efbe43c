"""Download a dataset from its upstream: file by file, with checksums, and resumable."""

import shutil
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from lorun.data.checksums import has_md5
from lorun.data.progress import track
from lorun.errors import LorunError
from lorun.files import replace_folder

if TYPE_CHECKING:
    from rich.console import Console

TRIES = 4
"""For each file."""

_CHUNK = 1 << 16  # bytes
_WEB = ("https://", "http://")
_UNQUOTED = "%/:?#[]@!$&'()*+,;=~"  # characters of addresses
_TEMPORARY = {408, 425, 429}  # statuses below 500 after which to try again


class RemoteFile(NamedTuple):
    """The address of a file and its md5."""

    url: str
    md5: str


class _Failed(Exception):
    """One try failed; `again` says whether to try once more."""

    def __init__(self, reason: str, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


def download(
    files: Mapping[str, RemoteFile], folder: Path, name: str, *, timeout: float = 30.0, wait: float = 1.0
) -> None:
    """Fill `folder` with exactly these files (path inside the folder -> origin) and check their md5.

    Files are collected in `partial_folder(folder)` until all are complete. An interrupted download continues there:
    complete files are kept, and a partial file is continued.

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
        rest = f"{done} of {len(files)} files are complete, the same command continues from there"
        try:
            _fetch(folder, parts, file, remote, timeout, wait, console)
        except _Failed as error:
            raise LorunError(f"dataset {name!r}: cannot download {file} from {remote.url}: {error}; {rest}") from None
        except OSError as error:
            reason = error.strerror or error
            raise LorunError(f"dataset {name!r}: cannot write {parts / file}: {reason}; {rest}") from error

    def fill(part: Path) -> None:
        for file in files:
            (part / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(parts / file, part / file)

    replace_folder(folder, fill)
    shutil.rmtree(parts, ignore_errors=True)


def partial_folder(folder: Path) -> Path:
    """The folder where a download into `folder` collects its files."""
    return folder.parent / f".{folder.name}.download"


def _fetch(
    folder: Path, parts: Path, file: str, remote: RemoteFile, timeout: float, wait: float, log: "Console"
) -> None:
    """Put the right file in `parts`: keep it, copy it from `folder`, or download it."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise _Failed("the path names no file inside its folder", again=False)
    if not remote.url.startswith(_WEB):
        raise _Failed("only http and https are fetched", again=False)
    part = parts / file
    part.parent.mkdir(parents=True, exist_ok=True)
    if has_md5(part, remote.md5):
        return
    if has_md5(folder / file, remote.md5):
        shutil.copyfile(folder / file, part)
        return
    part.unlink(missing_ok=True)
    incomplete = part.with_name(part.name + ".part")
    wrong = 0
    for attempt in range(1, TRIES + 1):
        try:
            _continue(incomplete, remote.url, timeout)
            if not has_md5(incomplete, remote.md5):
                incomplete.unlink()  # wrong from the start, or wrongly continued
                wrong += 1
                raise _Failed("the file has another checksum than its manifest says", again=wrong == 1)
            incomplete.replace(part)
            return
        except _Failed as error:
            if not error.again or attempt == TRIES:
                raise
            message = f"{part.name}: {error}; once more ({attempt + 1} of {TRIES})"
            log.print(message, markup=False, highlight=False)
            time.sleep(wait * 2 ** (attempt - 1))


def _continue(incomplete: Path, url: str, timeout: float) -> None:
    """Download the missing part of a file. What was received is kept in case of any failure."""
    have = incomplete.stat().st_size if incomplete.exists() else 0
    try:
        request = Request(quote(url, safe=_UNQUOTED), headers={"Range": f"bytes={have}-"} if have else {})
        response = build_opener(_WebRedirect()).open(request, timeout=timeout)
    except HTTPError as error:
        if error.code == 416:  # the file is complete, or has changed
            if have and (error.headers.get("Content-Range") or "") == f"bytes */{have}":
                return
            incomplete.unlink(missing_ok=True)
            raise _Failed("the server has another file than the one that was begun") from None
        reason = " ".join(str(error.reason).split())  # for circular redirections urllib gives three lines
        raise _Failed(
            f"the server answers {error.code} {reason}", error.code >= 500 or error.code in _TEMPORARY
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _failure(error, timeout) from None
    with response:
        content_range = response.headers.get("Content-Range") or ""
        if have and not (response.status == 206 and content_range.startswith(f"bytes {have}-")):
            have = 0  # the server sends the whole file
        with incomplete.open("ab" if have else "wb") as stream:
            length, before = response.length, stream.tell()  # the length is None if the server does not say
            for chunk in _chunks(response, timeout):
                stream.write(chunk)
            received = stream.tell() - before
    if length is not None and received < length:
        raise _Failed(f"the connection ended after {have + received} of {have + length} bytes")


def _chunks(response: HTTPResponse, timeout: float) -> Iterator[bytes]:
    """Chunks as soon as they arrive, so that nothing is lost when the server stalls."""
    try:  # around reading only: an OSError in writing is another matter
        while chunk := response.read1(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _failure(error, timeout) from None


def _failure(error: Exception, timeout: float) -> _Failed:
    match error:
        case TimeoutError():
            return _Failed(f"no data for {timeout:g} s")
        case URLError():
            return _Failed(f"no connection ({error.reason})")
        case InvalidURL() | ValueError():
            return _Failed(f"this or its redirection is not a valid address ({error})", again=False)
    return _Failed(f"the connection broke ({getattr(error, 'strerror', None) or type(error).__name__})")


class _WebRedirect(HTTPRedirectHandler):
    """Follows redirections to http and https only; urllib also follows to ftp."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if not newurl.startswith(_WEB):
            raise _Failed(f"the server redirects to {newurl}; only http and https are fetched", again=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
