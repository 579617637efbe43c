"""Have a dataset complete and intact in data/: what is there, else a DVC remote, else its origin.

DVC believes whatever its cache or an unverified remote holds, so everything is checked against the manifest
data/NAME.md5 here, and wrong copies are dropped before DVC is asked (again). DVC is a command here, not a library;
where it is not installed, the origin alone is asked.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from lorun.data.checksums import (
    dataset_identity,
    describe_damage,
    find_damage,
    md5_of_bytes,
    read_bytes,
    read_manifest,
)
from lorun.data.download import begun
from lorun.data.make import make
from lorun.data.registry import DATA_ROOT, read_registry
from lorun.errors import LorunError
from lorun.files import write_text

PULLS = 3  # the pull after a killed pull often fails, and the one after that succeeds


class DvcError(LorunError):
    """A dvc command failed; `output` is what it printed, where that was caught."""

    def __init__(self, command: str, output: str) -> None:
        super().__init__(f"`dvc {command}` failed")
        self.output = output


def fetch(name: str) -> None:
    """Leave DATA_ROOT/<name> as its manifest says: as it is, pulled from a DVC remote, or made from its origin.

    Started from the project's root; prints what it does.

    Raises:
        UnknownName: no such dataset.
        LorunError: files that are not part of the dataset lie in it (DVC would delete them); its user has to obtain it;
            or neither a remote nor the origin gives the right files.
    """
    damage = find_damage(DATA_ROOT, name)
    if not damage:
        print(f"{name}: {len(read_manifest(DATA_ROOT, name))} files verified")
        return
    extra = {file: kind for file, kind in damage.items() if kind == "extra"}
    if extra:
        raise LorunError(describe_damage(DATA_ROOT, name, extra))
    entry = read_registry().get(name)
    if entry is not None and entry.manual is not None:
        raise LorunError(describe_damage(DATA_ROOT, name, damage))
    print(f"{name}: restoring {len(damage)} files ...", flush=True)
    if find_spec("dvc") is None:
        make(DATA_ROOT, name)
        return
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        _dvc("config", "--local", "core.no_scm", "true")
    cache = Path(_dvc("cache", "dir").strip())
    remotes = re.findall(r"^remote\.(.+)\.url=", _dvc("config", "--list"), re.MULTILINE)
    if not remotes:
        print(f"{name}: no DVC remote is configured; asking its origin", flush=True)
    if not any(_pull(name, remote, cache) for remote in remotes):
        _make_with_dvc(name, cache, remotes)


def mark(name: str, marker: Path) -> None:
    """Write the dataset's identity into `marker`; a marker that is right already keeps its time."""
    text = dataset_identity(DATA_ROOT, name) + "\n"
    if not marker.exists() or read_bytes(marker) != text.encode():
        write_text(marker, text)


def _pull(name: str, remote: str, cache: Path) -> bool:
    """Whether the dataset is right after a pull from `remote`; says why not where it is not."""
    why = ""
    for _ in range(PULLS):
        _drop_wrong_copies(name, cache)
        try:
            _dvc("--wait-for-lock", "pull", "--force", "--remote", remote, str(DATA_ROOT / name))
        except DvcError as error:
            _drop_wrong_copies(name, cache)
            why = _why_not(name, cache, error.output)
        damage = find_damage(DATA_ROOT, name)
        if not damage:
            shutil.rmtree(begun(DATA_ROOT / name), ignore_errors=True)  # nobody will go on with it
            print(f"{name}: files restored and verified (DVC remote {remote!r})")
            return True
        if "changed" in damage.values():
            why = f"gives a wrong {min(file for file, kind in damage.items() if kind == 'changed')}"
    print(f"{name}: DVC remote {remote!r} {why or 'does not give all files'}", flush=True)
    return False


def _why_not(name: str, cache: Path, output: str) -> str:
    """Why a pull failed: what DVC says, or what the cache still lacks where DVC says that it lacks something."""
    said = _last_line(output)
    if "Checkout failed" not in said:
        return f"cannot give it ({said})"
    files = read_manifest(DATA_ROOT, name)
    lacking = sorted(file for file, md5 in files.items() if not _copy(cache, md5).exists())
    if len(lacking) == len(files):
        return "gives none of its files"
    others = f" and {len(lacking) - 1} more files" if len(lacking) > 1 else ""
    return f"does not give an intact {lacking[0]}{others}" if lacking else "does not give the listing of its files"


def _make_with_dvc(name: str, cache: Path, remotes: list[str]) -> None:
    """Let DVC run the stage that makes the dataset from its origin."""
    stage = f"dataset@{name}"
    for command in (["repro", stage], ["repro", "--force", stage]):  # by force where dvc.lock is wrong
        _drop_wrong_copies(name, cache)
        try:
            _dvc("--wait-for-lock", *command, show=True)
        except DvcError as error:
            asked = f"of the DVC remotes {', '.join(remotes)} none had it"
            if not remotes:
                asked = "without its origin it takes a DVC remote that has it: `dvc remote add --local NAME ADDRESS`"
            raise LorunError(f"cannot restore dataset {name!r}: {error} (see above); {asked}") from None
        if not find_damage(DATA_ROOT, name):
            print(f"{name}: files restored and verified (dvc {' '.join(command)})")
            return
    raise LorunError(f"`dvc repro {stage}` did not give the files of {DATA_ROOT / name}.md5")


def _drop_wrong_copies(name: str, cache: Path) -> None:
    """Delete the changed files of a dataset and the wrong objects in DVC's cache: DVC may notice neither."""
    for file, kind in find_damage(DATA_ROOT, name).items():
        if kind == "changed":
            (DATA_ROOT / name / file).unlink()
    for md5 in {*read_manifest(DATA_ROOT, name).values(), dataset_identity(DATA_ROOT, name)}:
        copy = _copy(cache, md5)
        if copy.exists() and md5_of_bytes(read_bytes(copy)) != md5.removesuffix(".dir"):
            copy.unlink()


def _copy(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _dvc(*arguments: str, show: bool = False) -> str:
    """Run dvc and return its standard output, or show it as it comes. Raises DvcError when it fails."""
    # Stages call `lorun`: let it be the one that runs this.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    sys.stdout.flush()
    result = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        env={**os.environ, "PATH": path},
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
    )
    if result.returncode:
        raise DvcError(" ".join(arguments), "" if show else result.stdout + result.stderr)
    return "" if show else result.stdout


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason")
