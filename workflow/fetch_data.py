"""Have a dataset complete and intact in data/: `python workflow/fetch_data.py NAME --marker data/.NAME.ok`.

Started from the project's root. DVC believes whatever its cache or an unverified remote holds, so everything
is checked against the manifest data/NAME.md5 here, and wrong copies are dropped before DVC is asked (again).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from lorun.data.checksums import (
    DATA_ROOT,
    dataset_identity,
    describe_damage,
    find_damage,
    md5_of_bytes,
    read_bytes,
    read_manifest,
)
from lorun.errors import LorunError
from lorun.files import write_text

PULLS = 3  # the pull after a killed pull often fails, and the one after that succeeds


class DvcError(LorunError):
    """A dvc command failed; `output` is what it printed."""

    def __init__(self, command: str, output: str) -> None:
        super().__init__(f"`dvc {command}` failed")
        self.output = output


def main() -> None:
    parser = argparse.ArgumentParser(description="Have a dataset complete and intact in data/.")
    parser.add_argument("name", help="dataset, one with a manifest data/NAME.md5")
    parser.add_argument("--marker", type=Path, required=True, help="file to receive the dataset's identity")
    arguments = parser.parse_args()
    try:
        fetch(arguments.name)
        mark(arguments.name, arguments.marker)
    except (LorunError, OSError) as error:
        if isinstance(error, DvcError):
            print(error.output, file=sys.stderr)
        sys.exit(f"error: {error}")


def fetch(name: str) -> None:
    """Leave DATA_ROOT/<name> as its manifest says: as it is, pulled, or built.

    Raises UnknownName for a dataset without manifest; LorunError when files that are not part of the dataset
    lie in it (DVC would delete them) or when neither a remote nor the stage <name> gives the right files.
    """
    damage = find_damage(DATA_ROOT, name)
    if not damage:
        print(f"{name}: {len(read_manifest(DATA_ROOT, name))} files verified")
        return
    extra = {file: kind for file, kind in damage.items() if kind == "extra"}
    if extra:
        raise LorunError(describe_damage(DATA_ROOT, name, extra))
    print(f"{name}: restoring {len(damage)} files with DVC ...", flush=True)
    if not any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents)):
        dvc("config", "--local", "core.no_scm", "true")
    cache = Path(dvc("cache", "dir").strip())
    has_remote = bool(dvc("remote", "list").strip())
    commands = [["pull", "--force", str(DATA_ROOT / name)]] * PULLS if has_remote else []
    commands += [["repro", name], ["repro", "--force", name]]
    failures: dict[str, str] = {}
    for command in commands:
        drop_wrong_copies(name, cache)
        try:
            dvc("--wait-for-lock", *command)
        except DvcError as error:
            failures[str(error)] = error.output
        if not find_damage(DATA_ROOT, name):
            print(f"{name}: files restored and verified (dvc {' '.join(command)})")
            return
    for failure, output in failures.items():
        print(f"{failure}:\n{output}", file=sys.stderr)
    pulled = f"no remote gave it in {PULLS} tries (never pushed, wrong address, server down?) and "
    raise LorunError(
        f"cannot restore dataset {name!r}: {pulled if has_remote else ''}"
        f"`dvc repro {name}` did not give the files of {DATA_ROOT / name}.md5"
    )


def drop_wrong_copies(name: str, cache: Path) -> None:
    """Delete the changed files of a dataset and the wrong objects in DVC's cache: DVC may notice neither."""
    for file, kind in find_damage(DATA_ROOT, name).items():
        if kind == "changed":
            (DATA_ROOT / name / file).unlink()
    for md5 in {*read_manifest(DATA_ROOT, name).values(), dataset_identity(DATA_ROOT, name)}:
        copy = cache / "files" / "md5" / md5[:2] / md5[2:]
        if copy.exists() and md5_of_bytes(read_bytes(copy)) != md5.removesuffix(".dir"):
            copy.unlink()


def dvc(*arguments: str) -> str:
    """Run dvc and return its standard output. Raises DvcError when it fails."""
    # Stages call `python`: let it be the one that runs this.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    result = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise DvcError(" ".join(arguments), result.stdout + result.stderr)
    return result.stdout


def mark(name: str, marker: Path) -> None:
    """Write the dataset's identity into `marker`; a marker that is right already keeps its time."""
    text = dataset_identity(DATA_ROOT, name) + "\n"
    if not marker.exists() or read_bytes(marker) != text.encode():
        write_text(marker, text)


if __name__ == "__main__":
    main()
