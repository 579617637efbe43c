"""The files of a project at any commit of its git history, and in the working tree."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lorun.errors import LorunError

Files = Mapping[str, bytes]
"""Content by path below the root of the project, with "/" between folders."""


class UnknownRevision(LorunError):
    """A commit that this clone does not have, or no clone at all."""


def git(root: Path, *arguments: str, said: bytes = b"") -> bytes:
    """What a git command prints in `root`.

    Raises:
        UnknownRevision: git is not there, or refuses; its reason is given.
    """
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, input=said, check=True, capture_output=True).stdout
    except OSError as error:
        raise UnknownRevision(f"git: {error.strerror or error}") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise UnknownRevision(f"git {' '.join(arguments[:2])} in {root}: {reason}") from error


def is_shallow(root: Path) -> bool:
    """Whether the clone at `root` was cut off: commits are missing that the project has."""
    try:
        return git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    except UnknownRevision:
        return False


def files_at(root: Path, commit: str, wanted: Callable[[str], bool]) -> Files:
    """The wanted files of a project at a commit; `root` is that of its repository or a folder below.

    Raises:
        UnknownRevision: there is no such commit here.
    """
    blobs = {}
    for line in git(root, "ls-tree", "-r", "-z", f"{commit}^{{commit}}").split(b"\0"):
        about, _, path = line.partition(b"\t")
        if path and about.split()[1] == b"blob" and wanted(path.decode(errors="replace")):
            blobs[path.decode(errors="replace")] = about.split()[2]
    contents = _contents(git(root, "cat-file", "--batch", said=b"".join(blob + b"\n" for blob in blobs.values())))
    return dict(zip(blobs, contents, strict=True))


def files_now(root: Path, wanted: Callable[[str], bool], *folders: str) -> Files:
    """The wanted files of the working tree at `root`, in these folders and beside them, whether git knows them or not.

    Raises:
        LorunError: one cannot be read.
    """
    places = [*root.glob("*"), *(path for folder in folders for path in (root / folder).rglob("*"))]
    found = {path.relative_to(root).as_posix(): path for path in places if path.is_file()}
    try:
        return {name: path.read_bytes() for name, path in sorted(found.items()) if wanted(name)}
    except OSError as error:
        raise LorunError(f"cannot read {error.filename}: {error.strerror}") from error


def commits_of(root: Path, *paths: str) -> list[tuple[str, str, str]]:
    """The commits that changed any of these files, oldest first: hash, date (ISO 8601), subject.

    Raises:
        UnknownRevision: no git repository here, or one without a commit.
    """
    form = "--format=%H%x09%cI%x09%s"
    lines = git(root, "log", "--reverse", form, "--", *paths).decode(errors="replace").splitlines()
    found = (line.split("\t", 2) for line in lines)
    return [(commit, date, subject) for commit, date, subject in found]


def _contents(batch: bytes) -> Iterator[bytes]:
    """What `git cat-file --batch` printed, object by object."""
    at = 0
    while at < len(batch):
        end = batch.index(b"\n", at)
        size = int(batch[at:end].split()[2])
        yield batch[end + 1 : end + 1 + size]
        at = end + size + 2
