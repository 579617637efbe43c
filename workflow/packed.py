"""Jobs without a shared file system: docs/cluster.md.

    packed.py unpack FILE...                                  put objects of a store where `lorun` reads them
    packed.py fetch PROFILE TASK SETTING METHOD               get the datasets of a run
    packed.py pack PROFILE TASK SETTING METHOD SEED FILE      make one object of a run

A run is a folder that `lorun` writes into. A store has objects: here tar files, and the JSON files of accounts.
"""

import shutil
import sys
import tarfile
from functools import partial
from pathlib import Path

from lorun.data.fetch import fetch
from lorun.files import write_atomically
from lorun.profiles import load_profile

RUNS = "runs"
LEFT_OUT = (".lock", ".part", ".pt")  # ends of names


def unpack(file: Path) -> None:
    """Put an object at its place below `runs/`. A file that another job may be reading is replaced as a whole."""
    parts = file.parts
    place = Path(*parts[len(parts) - 1 - parts[::-1].index(RUNS) :])
    if file.suffix != ".tar":
        write_atomically(place, lambda part: shutil.copyfile(file, part))
        return
    with tarfile.open(file) as archive:
        for member in archive:
            safe = tarfile.data_filter(member, str(place.parent))  # refuses paths that leave the folder
            packed = archive.extractfile(safe)
            if packed is not None:
                write_atomically(place.parent / safe.name, partial(_write, content=packed.read()))


def _write(part: Path, content: bytes) -> None:
    part.write_bytes(content)


def pack(folder: Path, file: Path) -> None:
    """Make one tar file of a run."""

    def write(part: Path) -> None:
        with tarfile.open(part, "w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith(LEFT_OUT) and path.suffix != ".tar":
                    archive.add(path, path.relative_to(folder))

    write_atomically(file, write)


def main(command: str, *words: str) -> None:
    """Run one of the commands above."""
    if command == "unpack":
        for word in words:
            unpack(Path(word))
        return
    profile = load_profile(Path(words[0]))
    seed = int(words[4]) if command == "pack" else profile.seeds[0]
    experiment = profile.experiment(words[1], words[2], words[3], seed)
    if command == "pack":
        pack(RUNS / experiment.folder, Path(words[5]))
    else:
        for name in experiment.datasets:
            fetch(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
