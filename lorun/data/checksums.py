"""What each dataset must hold, to the byte.

`data/<name>.md5` is the manifest of dataset <name>, committed: lines "<md5>  <name>/<path>", sorted by path,
as md5sum writes them (so `cd data && md5sum -c photos.md5` works too). The known datasets are those of the registry
and those with a manifest; a registered one that its user must obtain has a manifest once it was added.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lorun.data.registry import DATA_ROOT, OWN_LAYOUT, read_registry, split_of
from lorun.errors import LorunError, UnknownName
from lorun.files import write_text

Damage = Literal["missing", "changed", "extra"]

_WHAT: dict[Damage, str] = {
    "missing": "is missing",
    "changed": "does not have the checksum of its manifest",
    "extra": "is not part of the dataset",
}


def known_datasets(root: Path = DATA_ROOT) -> list[str]:
    """Names of the registered datasets, in the registry's order, then of others with a manifest in `root`, sorted.

    Raises LorunError when there is none.
    """
    registered = list(read_registry(root))
    names = registered + sorted({path.stem for path in root.glob("*.md5")} - set(registered))
    if not names:
        raise LorunError(f"no {root}/registry.yaml and no dataset manifest {root}/*.md5: start from the project's root")
    return names


def manifest_path(root: Path, name: str) -> Path:
    """Where the manifest of a known dataset lies, or will once it was added. Raises UnknownName for any other name."""
    known = known_datasets(root)
    if name not in known:
        raise UnknownName("dataset", name, known)
    return root / f"{name}.md5"


def read_manifest(root: Path, name: str) -> dict[str, str]:
    """The md5 of every file of a dataset, by its path inside the dataset ("test/gray/camera.png").

    Raises UnknownName for an unknown dataset, LorunError for a manifest that cannot be read, and for a dataset that its
    user must obtain and has not added.
    """
    path = manifest_path(root, name)
    entry = read_registry(root).get(name)
    if entry is not None and entry.manual is not None and not path.exists():
        raise LorunError(
            f"dataset {name!r} must be obtained by you: {entry.manual.how}; then `lorun data add {name} --from FOLDER`"
        )
    checksums = {}
    for number, line in enumerate(read_bytes(path).decode(errors="replace").splitlines(), start=1):
        md5, _, file = line.partition("  ")
        if len(md5) != 32 or not file.startswith(f"{name}/"):
            raise LorunError(f"{path}, line {number}: expected '<md5>  {name}/<file>', found {line!r}")
        checksums[file.removeprefix(f"{name}/")] = md5
    return checksums


def split_files(root: Path, name: str, split: str, kind: str) -> list[str]:
    """The files of a split, sorted by their path inside the dataset; `kind` is "gray", "rgb", "cube" or "measurement".

    Raises UnknownName for an unknown split, LorunError when it has nothing of that kind.
    """
    entry = read_registry(root).get(name)
    manifest = read_manifest(root, name)
    splits = sorted({file.split("/")[0] for file in manifest}) if entry is None else list(entry.splits)
    if split not in splits:
        raise UnknownName(f"split of {name}", split, splits)
    patterns = OWN_LAYOUT if entry is None else entry.splits
    files = sorted(file for file in manifest if split_of(patterns, file, kind) == split)
    held = {} if entry is None else {"cube": entry.cubes, "measurement": entry.measurements}
    other_kind = any((stored is not None) != (kind == name) for name, stored in held.items())
    if not files or other_kind:
        what = {"cube": "cubes", "measurement": "measurements"}.get(kind, f"{kind} images")
        raise LorunError(
            f"dataset {name!r} has no {what} in its split {split}: choose another split or number of channels"
        )
    return files


def write_manifest(root: Path, name: str) -> None:
    """Write `root`/<name>.md5 from the files in `root`/<name>: for who makes or changes a dataset."""
    checksums = _folder_checksums(root / name)
    lines = [f"{checksums[file]}  {name}/{file}\n" for file in sorted(checksums)]
    write_text(root / f"{name}.md5", "".join(lines))


def find_damage(root: Path, name: str) -> dict[str, Damage]:
    """How the files in `root`/<name> differ from the manifest, by path inside the dataset. Reads them all."""
    expected = read_manifest(root, name)
    found = _folder_checksums(root / name)
    damage: dict[str, Damage] = {}
    for file in sorted(expected.keys() | found.keys()):
        if file not in found:
            damage[file] = "missing"
        elif file not in expected:
            damage[file] = "extra"
        elif found[file] != expected[file]:
            damage[file] = "changed"
    return damage


def describe_damage(root: Path, name: str, damage: Mapping[str, Damage]) -> str:
    """One line that names the first damaged file, how many others there are, and what to do."""
    file, kind = next(iter(damage.items()))
    others = f" (and {len(damage) - 1} more files differ)" if len(damage) > 1 else ""
    return f"{root / name / file}{others} {_WHAT[kind]}: {_what_to_do(root, name, kind)}"


def verify_dataset(root: Path, name: str) -> str:
    """Check every file of a dataset against its manifest; return its identity (see `directory_md5`).

    Raises UnknownName for a dataset without manifest, LorunError naming the first file that is missing,
    changed or not part of the dataset.
    """
    damage = find_damage(root, name)
    if damage:
        raise LorunError(describe_damage(root, name, damage))
    return dataset_identity(root, name)


def dataset_identity(root: Path, name: str) -> str:
    """What `directory_md5` gives for an undamaged dataset, from its manifest alone."""
    return _identity(read_manifest(root, name))


def directory_md5(folder: Path) -> str:
    """The identity that DVC (3.x) gives to a folder as a stage's output: 32 hexadecimal digits and ".dir".

    It is the md5 of the JSON list of {"md5", "relpath"} of all files, sorted by path.
    """
    return _identity(_folder_checksums(folder))


def md5_of_bytes(data: bytes) -> str:
    """md5 as 32 hexadecimal digits; guards against accidents, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read_verified(root: Path, name: str, file: str, md5: str) -> bytes:
    """The content of a dataset's file, read once. Raises LorunError when it is missing or has another md5."""
    path = root / name / file
    if not path.exists():
        raise LorunError(describe_damage(root, name, {file: "missing"}))
    data = read_bytes(path)
    if md5_of_bytes(data) != md5:
        raise LorunError(describe_damage(root, name, {file: "changed"}))
    return data


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises LorunError with the path and the reason when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LorunError(f"cannot read {path}: {error.strerror or error}") from error


def _what_to_do(root: Path, name: str, kind: Damage) -> str:
    if kind == "extra":
        return "move it elsewhere"
    entry = read_registry(root).get(name)
    if entry is not None and entry.manual is not None:
        return f"restore it by `lorun data add {name} --from FOLDER`"
    return f"run `lorun data fetch {name}` to restore it"


def _identity(checksums: Mapping[str, str]) -> str:
    listing = [{"md5": checksums[file], "relpath": file} for file in sorted(checksums)]
    return md5_of_bytes(json.dumps(listing).encode()) + ".dir"


def _folder_checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): md5_of_bytes(read_bytes(path)) for path in files}
