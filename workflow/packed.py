"""Jobs without a shared file system: docs/cluster.md.

    packed.py unpack FILE...                        put objects of a store where `lorun` reads them
    packed.py fetch PROFILE TASK SETTING METHOD     get the datasets of a run
    packed.py pack FILE                             make one object of a run

A run is a folder that `lorun` writes into. A store has objects: here tar files, and the JSON files of accounts. An
object lies below a folder `runs` like what it is made of does here.
"""

import sys
import tarfile
from pathlib import Path

from lorun.files import write_atomically

RUNS = "runs"
LEFT_OUT = (".lock", ".part", ".pt", ".tar")  # ends of names


def unpack(file: Path) -> None:
    """Put an object at its place. A file that another job may be reading is replaced as a whole."""
    place = _place(file)
    if file.suffix != ".tar":
        _write(place, file.read_bytes())
        return
    with tarfile.open(file) as archive:
        for member in archive:
            safe = tarfile.data_filter(member, str(place.parent))  # refuses paths that leave the folder
            packed = archive.extractfile(safe)
            if packed is not None:
                _write(place.parent / safe.name, packed.read())


def fetch(profile: Path, task: str, setting: str, method: str) -> None:
    """Get the datasets of a run."""
    from lorun.data.fetch import fetch
    from lorun.profiles import load_profile

    loaded = load_profile(profile)
    for name in loaded.experiment(task, setting, method, loaded.seeds[0]).datasets:
        fetch(name)


def pack(file: Path) -> None:
    """Make one tar file of the run whose object it is."""
    folder = _place(file).parent

    def write(part: Path) -> None:
        with tarfile.open(part, "w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith(LEFT_OUT):
                    archive.add(path, path.relative_to(folder))

    write_atomically(file, write)


def _write(place: Path, content: bytes) -> None:
    write_atomically(place, lambda part: part.write_bytes(content))


def _place(file: Path) -> Path:
    """Where an object lies here, by its path in a store."""
    parts = file.parts
    return Path(*parts[len(parts) - 1 - parts[::-1].index(RUNS) :])


def main(command: str, *words: str) -> None:
    """Run one of the commands above."""
    if command == "fetch":
        fetch(Path(words[0]), *words[1:])
    else:
        for word in words:
            {"unpack": unpack, "pack": pack}[command](Path(word))


if __name__ == "__main__":
    main(*sys.argv[1:])
