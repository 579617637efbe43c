"""Files and commits of a git repository."""

import os
import subprocess
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

from lorun.errors import LorunError

_OF_ANOTHER_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
)


class UnknownRevision(LorunError):
    """This clone does not have the commit, or there is no repository."""


def git(root: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """The output of a git command in `root`, whatever repository the environment names: a hook's, for example.

    Raises:
        UnknownRevision: git is not installed, or the command failed; the reason is given.
    """
    command = ["git", "-C", str(root), "-c", "log.showSignature=false", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_REPOSITORY}
    try:
        return subprocess.run(command, input=stdin, check=True, capture_output=True, env=environment).stdout
    except OSError as error:
        raise UnknownRevision(f"git: {error.strerror or error}") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise UnknownRevision(f"git {' '.join(arguments[:2])} in {root}: {reason}") from error


def files_at(root: Path, commit: str, wanted: Callable[[str], bool]) -> Mapping[str, bytes]:
    """The wanted files at a commit, as content by path; `root` is the repository or a folder in it.

    Raises:
        UnknownRevision: there is no such commit here.
    """
    blobs = {}
    for line in git(root, "ls-tree", "-r", "-z", f"{commit}^{{commit}}").decode(errors="replace").split("\0"):
        about, _, path = line.partition("\t")
        if path and about.split()[1] == "blob" and wanted(path):
            blobs[path] = about.split()[2]
    batch = BytesIO(git(root, "cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs.values()).encode()))
    files = {}
    for path in blobs:
        size = int(batch.readline().split()[2])  # HASH blob SIZE, the content, a line break
        files[path] = batch.read(size)
        batch.readline()
    return files


def commits_of(root: Path, *paths: str) -> list[tuple[str, str, str]]:
    """The commits that changed any of these files, oldest first: hash, date (ISO 8601), subject.

    Raises:
        UnknownRevision: no git repository here, or one without a commit.
    """
    form = "--format=%H%x09%cI%x09%s"
    lines = git(root, "log", "--reverse", form, "--", *paths).decode(errors="replace").splitlines()
    return [(commit, date, subject) for commit, date, subject in (line.split("\t", 2) for line in lines)]
