"""Put a dataset in place, complete and intact: from a DVC remote, else from its origin.

DVC trusts its cache and unverified remotes, so all files are checked here against the manifest data/NAME.md5, and wrong
copies are deleted before DVC is asked (again). DVC runs as a command. If it is not installed, only the origin is used.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from lorun.data.checksums import dataset_identity, describe_damage, find_damage, folder_hash, has_md5, read_manifest
from lorun.data.content import read_bytes
from lorun.data.download import RemoteFile, download, partial_folder
from lorun.data.registry import DATA_ROOT, Dataset, entry_of
from lorun.errors import LorunError
from lorun.files import write_text

PULLS = 3  # the first pull after a killed one often fails, the second succeeds


def make(root: Path, name: str) -> None:
    """Build or download `root`/<name> from its origin in the registry, and check it against its manifest.

    Raises:
        LorunError: the dataset is not registered, users obtain it themselves, or the files differ from the manifest.
    """
    manifest, entry = read_manifest(root, name), entry_of(root, name)
    if entry.built_by is not None:
        import_module(entry.built_by).build(root / name)
    elif entry.upstream:
        files = {file: RemoteFile(_url(entry, name, file), md5) for file, md5 in manifest.items()}
        download(files, root / name, name)
    elif entry.manual is not None:
        raise LorunError(f"dataset {name!r} cannot be made: you must obtain it ({entry.manual.how})")
    else:
        raise LorunError(f"dataset {name!r} has no origin in {root}/registry.yaml")
    different = find_damage(root, name)
    if different:
        raise LorunError(
            f"{root / name / min(different)} differs from its manifest ({len(different)} files do): the packages it is "
            "built from are not the locked versions, run `make setup`"
        )


def fetch(name: str) -> None:
    """Make DATA_ROOT/<name> agree with its manifest: keep it, pull it from a DVC remote, or make it from its origin.

    Runs in the project's root and prints what it does.

    Raises:
        UnknownName: no such dataset.
        LorunError: the folder holds files that are not part of the dataset (DVC would delete them); a file to restore
            lies behind a link; users obtain the dataset themselves; or neither a remote nor the origin gives the right
            files.
    """
    damage = find_damage(DATA_ROOT, name)
    if not damage:
        print(f"{name}: {len(read_manifest(DATA_ROOT, name))} files verified")
        return
    extra = {file: kind for file, kind in damage.items() if kind == "extra"}
    if extra or entry_of(DATA_ROOT, name).manual is not None:
        raise LorunError(describe_damage(DATA_ROOT, name, extra or damage))
    folder = (DATA_ROOT / name).resolve()
    for file in damage:
        if (place := (folder / file).parent.resolve()) != (folder / file).parent:
            raise LorunError(f"{DATA_ROOT / name / file} lies behind a link, in {place}: restore it there yourself")
    print(f"{name}: restoring {len(damage)} files ...", flush=True)
    has_dvc = find_spec("dvc") is not None
    if has_dvc and _pull(name):
        return
    make(DATA_ROOT, name)
    if has_dvc:
        _dvc("commit", "--force", f"dataset@{name}")  # into DVC's cache
    print(f"{name}: files restored and verified (from the origin)")


def mark(name: str, marker: Path) -> None:
    """Write the dataset's identity into `marker`; a marker that is right already keeps its time."""
    text = dataset_identity(DATA_ROOT, name) + "\n"
    if not marker.exists() or read_bytes(marker) != text.encode():
        write_text(marker, text)


def remotes() -> dict[str, str]:
    """The address of each DVC remote of the project in the working directory, in order.

    Raises:
        LorunError: the configuration of DVC is wrong.
    """
    return dict(re.findall(r"^remote\.(.+)\.url=(.*)$", _setting("config", "--list"), re.MULTILINE))


def _url(entry: Dataset, name: str, file: str) -> str:
    for upstream in entry.upstream:
        if (url := upstream.url(file)) is not None:
            return url
    raise LorunError(f"dataset {name!r}: no upstream of the registry has {file}")


def _pull(name: str) -> bool:
    """Whether a DVC remote gave the right files; prints why a remote did not."""
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        _setting("config", "--local", "core.no_scm", "true")
    cache = Path(_setting("cache", "dir").strip())
    _drop_wrong_copies(name, cache)
    found = remotes()
    if not found:
        print(f"{name}: no DVC remote is configured; asking its origin", flush=True)
    for remote in found:
        for _ in range(PULLS):
            pulled = _dvc("--wait-for-lock", "pull", "--force", "--remote", remote, str(DATA_ROOT / name))
            damage = find_damage(DATA_ROOT, name)
            if not damage:
                shutil.rmtree(partial_folder(DATA_ROOT / name), ignore_errors=True)  # no longer needed
                print(f"{name}: files restored and verified (DVC remote {remote!r})")
                return True
            _drop_wrong_copies(name, cache)
        file, kind = min(damage.items(), key=lambda item: item[1])  # "changed" before "missing"
        why = f"gives a wrong {file}" if kind == "changed" else f"gives no intact {file} ({_last_line(pulled)})"
        print(f"{name}: DVC remote {remote!r} {why}", flush=True)
    return False


def _drop_wrong_copies(name: str, cache: Path) -> None:
    """Delete the changed files of a dataset and the wrong objects in DVC's cache: DVC may notice neither."""
    for file, kind in find_damage(DATA_ROOT, name).items():
        if kind == "changed":
            (DATA_ROOT / name / file).unlink()
    for md5 in {*read_manifest(DATA_ROOT, name).values(), folder_hash(DATA_ROOT, name)}:
        copy = cache / "files" / "md5" / md5[:2] / md5[2:]
        if not has_md5(copy, md5.removesuffix(".dir")):
            copy.unlink(missing_ok=True)


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run dvc and return what it printed."""
    # The stages call `lorun`: make that the one of this environment.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)


def _setting(*arguments: str) -> str:
    result = _dvc(*arguments)
    if result.returncode:
        raise LorunError(f"`dvc {' '.join(arguments)}` failed: {_last_line(result)}")
    return result.stdout


def _last_line(result: subprocess.CompletedProcess[str]) -> str:
    """The last error that dvc printed, or its last line."""
    lines = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason")
