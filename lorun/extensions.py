"""What installed packages add to the suite, as entry points.

| group | name = value |
|---|---|
| `lorun.baselines` | a baseline = the module that is its folder, see `lorun.plugins` |
| `lorun.operators`, `lorun.denoisers` | the `name` of a section = the module that defines it |
| `lorun.protocols` | the name of a protocol = the object, as in `my_package.scores:clipped` |
| `lorun.datasets` | any name = the package with a `registry.yaml`, and beside it the manifests `NAME.md5` |
"""

import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from lorun.code import digest, digest_of_file
from lorun.errors import LorunError


def declared(kind: str) -> Sequence[EntryPoint]:
    """The entry points of a kind, such as "baseline"."""
    return _declared(f"lorun.{kind}s", tuple(sys.path))


def find(kind: str, name: str) -> EntryPoint | None:
    """The entry point of that name, if there is one. Raises LorunError where several packages declare it."""
    found = [entry for entry in declared(kind) if entry.name == name]
    if len(found) > 1:
        owners = ", ".join(f"{entry.value} of {owner(entry)}" for entry in found)
        raise LorunError(f"{len(found)} {kind}s are called {name!r}: {owners}; remove one")
    return found[0] if found else None


def owner(entry: EntryPoint) -> str:
    """Name and version of the package that declares it."""
    return "a package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def code_of(kind: str, name: str) -> str | None:
    """What identifies the code of an extension, by a hash of the whole package: "inpaint=3f9a1c0b7d2e@lab_tools%201.2".

    None for the suite's own.
    """
    entry = find(kind, name)
    return None if entry is None else f"{name}={digest_of_folder(package_folder(entry))}@{quote(owner(entry))}"


def package_folder(entry: EntryPoint) -> Path:
    """The folder of the whole package that an entry point is part of. Raises LorunError where there is none."""
    top = entry.module.split(".")[0]
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise LorunError(f"the entry point {entry.value!r} of {owner(entry)}: {top} is no package")
    return Path(next(iter(spec.submodule_search_locations)))


def digest_of_folder(root: Path) -> str:
    """Hash of the files in a folder, except cards, Markdown and hidden files; in Python files, comments, docstrings and
    layout do not count."""
    lines = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        if not hidden and path.is_file() and path.name != "card.yaml" and path.suffix not in (".md", ".pyc"):
            content = digest_of_file(path) if path.suffix == ".py" else digest(path.read_bytes())
            lines.append(f"{name.as_posix()} {content}\n")
    return digest("".join(lines).encode())


@cache
def _declared(group: str, path: tuple[str, ...]) -> Sequence[EntryPoint]:
    # A package can be listed twice: as installed, and as the folder in which it is developed.
    return [*{(entry.name, entry.value, owner(entry)): entry for entry in entry_points(group=group)}.values()]
