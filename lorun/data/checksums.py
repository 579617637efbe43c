"""Manifests: the md5 of every file of every dataset.

`data/<name>.md5` is the manifest of dataset <name> and is committed: lines "<md5>  <name>/<path>", sorted by path, in
the format of md5sum (`cd data && md5sum -c photos.md5` works). Known datasets are those of the registry and those with
a manifest. A dataset that users obtain themselves has a manifest after `lorun data add`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from lorun.data.content import read_bytes
from lorun.data.listing import files_below, is_left_behind, why_no_path
from lorun.data.registry import DATA_ROOT, OWN_LAYOUT, entry_of, package_folders, read_registry, split_of
from lorun.errors import LorunError, one_of
from lorun.files import write_text

Damage = Literal["missing", "changed", "extra"]

_WHAT: dict[Damage, str] = {
    "missing": "is missing",
    "changed": "does not have the checksum of its manifest",
    "extra": "is not part of the dataset",
}


def known_datasets(root: Path = DATA_ROOT) -> list[str]:
    """Names of the registered datasets in the registry's order, then of others with a manifest in `root`, sorted.

    Raises LorunError when there is none.
    """
    registered = list(read_registry(root))
    names = registered + sorted(
        {path.stem for path in root.glob("*.md5") if not is_left_behind(path.name)} - set(registered)
    )
    if not names:
        raise LorunError(f"no {root}/registry.yaml and no dataset manifest {root}/*.md5: start from the project's root")
    return names


def manifest_path(root: Path, name: str) -> Path:
    """The path of the manifest of a known dataset, in `root` or in the package that has it; it may not exist yet.

    Raises UnknownName for any other name.
    """
    file = f"{one_of('dataset', name, known_datasets(root))}.md5"
    places = [root / file, *(folder / file for folder in package_folders())]
    return next((path for path in places if path.is_file()), places[0])


def read_manifest(root: Path, name: str) -> dict[str, str]:
    """The md5 of every file of a dataset, by its path inside the dataset ("test/gray/camera.png").

    Raises UnknownName for an unknown dataset, LorunError for an unreadable manifest and for a dataset that users obtain
    themselves and that was not added.
    """
    path = manifest_path(root, name)
    manual = entry_of(root, name).manual
    if manual is not None and not path.exists():
        raise LorunError(
            f"dataset {name!r} must be obtained by you: {manual.how}; then `lorun data add {name} --from FOLDER`"
        )
    checksums: dict[str, str] = {}
    for number, line in enumerate(read_bytes(path).decode(errors="surrogateescape").splitlines(), start=1):
        md5, _, file = line.partition(f"  {name}/")
        reason = "is listed twice" if file in checksums else why_no_path(file)
        if reason is not None or not re.fullmatch("[0-9a-f]{32}", md5):
            more = f", which {reason}" if file and reason else ""
            raise LorunError(f"{path}, line {number}: expected '<md5>  {name}/<file>', found {line[:100]!r}{more}")
        checksums[file] = md5
    return checksums


def split_files(root: Path, name: str, split: str, kind: str) -> dict[str, str]:
    """The files of a split and their md5, sorted by path; `kind` is "gray", "rgb", "cube" or "measurement".

    Files that the registry excludes are in none. Raises UnknownName for an unknown split, LorunError when it has no
    files of that kind, and for an excluded file that the dataset does not have.
    """
    entry, manifest = entry_of(root, name), _without_excluded(root, name)
    one_of(f"split of {name}", split, entry.splits)
    files = {file: manifest[file] for file in sorted(manifest) if split_of(entry.splits, file, kind) == split}
    formats = {"cube": entry.cubes, "measurement": entry.measurements}
    other_kind = any((stored is not None) != (kind == name) for name, stored in formats.items())
    if not files or (other_kind and entry.splits != OWN_LAYOUT):  # the default layout has a folder for each kind
        what = {"cube": "cubes", "measurement": "measurements"}.get(kind, f"{kind} images")
        raise LorunError(
            f"dataset {name!r} has no {what} in its split {split}: choose another split or number of channels"
        )
    return files


def unique_names(paths: Iterable[str]) -> dict[str, str]:
    """Paths by their names without folder and suffix. Raises LorunError when two have the same name."""
    named: dict[str, str] = {}
    for path in paths:
        name = Path(path).stem
        if name in named:
            raise LorunError(f"{path} has the same name as another image, {named[name]}: rename one")
        named[name] = path
    return named


def write_manifest(root: Path, name: str) -> None:
    """Write the manifest `root`/<name>.md5 of the files in `root`/<name> (see `lorun.data.listing`)."""
    checksums = _folder_checksums(root / name)
    write_text(root / f"{name}.md5", "".join(f"{checksums[file]}  {name}/{file}\n" for file in sorted(checksums)))


def find_damage(root: Path, name: str) -> dict[str, Damage]:
    """How the files in `root`/<name> differ from the manifest, by path inside the dataset. Reads all files."""
    expected = read_manifest(root, name)
    found = _folder_checksums(root / name)
    return {
        file: "missing" if file not in found else "extra" if file not in expected else "changed"
        for file in sorted(expected.keys() | found.keys())
        if expected.get(file) != found.get(file)
    }


def describe_damage(root: Path, name: str, damage: Mapping[str, Damage]) -> str:
    """One line: the first damaged file, the number of others, and what to do."""
    file, kind = next(iter(damage.items()))
    others = f" (and {len(damage) - 1} more files differ)" if len(damage) > 1 else ""
    advice = f"run `lorun data fetch {name}` to restore it"
    if entry_of(root, name).manual is not None:
        advice = f"restore it by `lorun data add {name} --from FOLDER`"
    if kind == "extra":
        advice = "move it elsewhere"
    return f"{root / name / file}{others} {_WHAT[kind]}: {advice}"


def verify_dataset(root: Path, name: str) -> str:
    """Check every file of a dataset against its manifest; return its identity (see `dataset_identity`).

    Raises UnknownName for an unknown dataset, LorunError naming the first file that is missing, changed or not part of
    the dataset.
    """
    damage = find_damage(root, name)
    if damage:
        raise LorunError(describe_damage(root, name, damage))
    return dataset_identity(root, name)


def dataset_state(root: Path, name: str) -> str:
    """Present, damaged or absent; "to be added" for a dataset that users obtain themselves and that was never added."""
    if entry_of(root, name).manual is not None and not manifest_path(root, name).exists():
        return "to be added"
    if not (root / name).exists():
        return "absent"
    return "damaged" if find_damage(root, name) else "present"


def dataset_identity(root: Path, name: str) -> str:
    """The hash of what is read of a dataset: that of its folder, without the files that the registry excludes."""
    return _folder_hash(_without_excluded(root, name))


def folder_hash(root: Path, name: str) -> str:
    """The hash that DVC (3.x) gives to the folder of a dataset, from its manifest: 32 hexadecimal digits and ".dir".

    It is the md5 of the JSON list of {"md5", "relpath"} of all files, sorted by path.
    """
    return _folder_hash(read_manifest(root, name))


def _without_excluded(root: Path, name: str) -> dict[str, str]:
    manifest = read_manifest(root, name)
    entry = read_registry(root).get(name)
    for file in () if entry is None else entry.excluded:
        if file not in manifest:
            raise LorunError(f"{root}/registry.yaml excludes {file} from {name!r}, which has no such file")
        del manifest[file]
    return manifest


def _folder_hash(checksums: Mapping[str, str]) -> str:
    listing = [{"md5": checksums[file], "relpath": file} for file in sorted(checksums)]
    return md5_of_bytes(json.dumps(listing).encode()) + ".dir"


def md5_of_bytes(data: bytes) -> str:
    """md5 as 32 hexadecimal digits. It guards against accidents, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def has_md5(path: Path, md5: str) -> bool:
    """Whether a file is there and has this md5."""
    return path.is_file() and md5_of_bytes(read_bytes(path)) == md5


def read_verified(root: Path, name: str, file: str, md5: str) -> bytes:
    """The content of a file of a dataset. Raises LorunError when it is missing or has another md5."""
    path = root / name / file
    if not path.exists():
        raise LorunError(describe_damage(root, name, {file: "missing"}))
    data = read_bytes(path)
    if md5_of_bytes(data) != md5:
        raise LorunError(describe_damage(root, name, {file: "changed"}))
    return data


def _folder_checksums(folder: Path) -> dict[str, str]:
    return {file: md5_of_bytes(read_bytes(folder / file)) for file in files_below(folder)}
