"""Find the folder of a baseline.

A *reference* is one of:

* `ista_net`: a folder of `baselines/` of this repository;
* `my_net`: an entry point of the group `lorun.baselines` that an installed package declares;
* `../nets/my_net`: the path of a folder, which has a slash and is relative to the working directory.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from lorun import extensions, renamed
from lorun.code import shipped
from lorun.errors import LorunError, UnknownName

SUITE_FOLDER = shipped("baselines")
"""The suite's own baselines."""

FILES = ("baseline.py", "card.yaml")


@dataclass(frozen=True)
class Place:
    """Where one baseline is.

    Attributes:
        name: the method's name in tables, paths and the other keys of a profile.
        reference: what `find` was called with.
        folder: holds `FILES`.
        module: the folder's name as a module of an installed package, or None.
        package: name and version of that package, or None.
        root: folder of the whole package, or None.
    """

    name: str
    reference: str
    folder: Path
    module: str | None = None
    package: str | None = None
    root: Path | None = None

    @property
    def outside(self) -> bool:
        """Whether the code is outside this repository, so that the suite's commit does not identify it."""
        return self.folder.parent != SUITE_FOLDER

    @property
    def digest(self) -> str:
        """Hash of the code in the package or folder."""
        return extensions.digest_of_folder(self.root or self.folder)


def names() -> list[str]:
    """The suite's own baselines."""
    return sorted(path.parent.name for path in SUITE_FOLDER.glob("*/baseline.py"))


def installed_names() -> list[str]:
    """The baselines that installed packages declare."""
    return sorted({entry.name for entry in extensions.declared("baseline")})


def name_of(reference: str) -> str:
    """The name of the baseline that a reference stands for, whether or not it exists."""
    return Path(reference).resolve().name if _is_path(reference) else renamed.BASELINES.get(reference, reference)


def check_name(name: str, reserved: Collection[str] = ()) -> None:
    """Raise LorunError where a baseline cannot have this name: it is no identifier, or one of `reserved`."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or iskeyword(name):
        words = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
        suggestion = words if re.match(r"[a-z_]", words) and not iskeyword(words) else f"my_{words or 'net'}"
        raise LorunError(
            f"a baseline cannot be called {name!r}: use letters, digits and underscores, such as {suggestion!r}"
        )
    if name in reserved:
        raise LorunError(f"a baseline cannot be called {name!r}: these methods exist already: {', '.join(reserved)}")


def find(reference: str) -> Place:
    """Find a baseline.

    Raises:
        UnknownName: neither the suite nor an installed package has a baseline of this name.
        LorunError: the folder does not exist or lacks one of `FILES`, or its name is invalid or taken.
    """
    if _is_path(reference):
        return _find_folder(reference)
    reference = name_of(reference)
    entries = [entry for entry in extensions.declared("baseline") if entry.name == reference]
    found = {entry: f"{entry.value} of {extensions.owner(entry)}" for entry in entries}
    owners = [*([f"baselines/{reference}"] if reference in names() else []), *found.values()]
    if len(owners) > 1:
        raise LorunError(f"{len(owners)} baselines are called {reference!r}: {', '.join(owners)}; rename or remove one")
    if found:
        return _find_in_package(*found)
    if owners:
        return Place(reference, reference, SUITE_FOLDER / reference)
    if Path(reference, FILES[0]).is_file():
        raise LorunError(f"no baseline is called {reference!r}; for the folder of that name write './{reference}'")
    raise UnknownName("baseline", reference, [*names(), *installed_names()])


def _find_folder(reference: str) -> Place:
    folder = Path(reference).resolve()
    if not folder.is_dir():
        hint = " (give the folder, not a file in it)" if folder.is_file() else ""
        raise LorunError(f"baseline {reference}: no such folder{hint}; `lorun new baseline` writes one")
    _check_files(f"baseline {reference}", folder)
    check_name(folder.name)
    if folder.parent == SUITE_FOLDER:
        raise LorunError(f"baseline {reference} belongs to the suite: call it {folder.name!r}")
    if folder.name in (*names(), *installed_names()):
        raise LorunError(f"baseline {reference}: the name {folder.name!r} is taken; rename the folder")
    return Place(folder.name, reference, folder)


def _find_in_package(entry: EntryPoint) -> Place:
    where = f"baseline {entry.name}: the entry point {entry.value!r} of {extensions.owner(entry)}"
    check_name(entry.name)
    spec = None
    with suppress(ModuleNotFoundError):
        spec = None if entry.attr else find_spec(entry.module)
    if spec is None or not spec.submodule_search_locations:
        raise LorunError(
            f"{where} is no package: it must name the module of the folder with {' and '.join(FILES)}, as in "
            f'{entry.name} = "my_package.{entry.name}"'
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    _check_files(where, folder)
    root = [folder, *folder.parents][entry.module.count(".")]
    return Place(entry.name, entry.name, folder, entry.module, extensions.owner(entry), root)


def _check_files(where: str, folder: Path) -> None:
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise LorunError(
            f"{where}: {folder.name}/ has no {' and no '.join(missing)}. A baseline is a folder with baseline.py (a "
            "class `Baseline`) and card.yaml; `lorun new baseline` writes both"
        )


def _is_path(reference: str) -> bool:
    return "/" in reference or reference in (".", "..")
