"""Where the code of a baseline lies: in this folder, in a folder anywhere, or in an installed package.

A *reference* says which: `ista_net` is a folder here, or an entry point of the group `lorun.baselines` that an
installed package declares; what has a slash, such as `../my_net`, is the path of a folder, relative to where the
command runs. Whatever the reference, the baseline is called by its name, a method like any other.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from lorun.config.methods import NAMED, PRETRAIN
from lorun.errors import LorunError, UnknownName

FOLDER = Path(__file__).resolve().parent.parent.parent / "baselines"
GROUP = "lorun.baselines"
"""Entry points of installed packages: the name of a baseline -> the module that is its folder, `my_package.my_net`."""

FILES = ("baseline.py", "card.yaml")

_DIGEST_LENGTH = 12  # hex digits
_NOT_CODE = {"card.yaml", "__pycache__"}


@dataclass(frozen=True)
class Place:
    """Where one baseline is.

    Attributes:
        name: what it is called in a profile's other keys, in tables and in paths.
        reference: what finds it again.
        folder: holds `FILES`.
        module: that folder as a module, or None where it is a folder anywhere.
        package: name and version of the installed package that it is of, or None.
        code: folder of what decides its results: itself, or the whole of the package that it is of.
    """

    name: str
    reference: str
    folder: Path
    module: str | None
    package: str | None
    code: Path

    @property
    def outside(self) -> bool:
        """Whether its code is not of this repository, so that a commit of this does not say which it is."""
        return self.folder.parent != FOLDER

    @property
    def digest(self) -> str:
        """Hash of what its code does: of all files of `code` but cards, Markdown and hidden ones. Of Python files
        neither comments nor docstrings nor layout count."""
        found = hashlib.sha256()
        for path in sorted(_files(self.code)):
            status = path.stat()
            content = _digest_of(path, status.st_mtime_ns, status.st_size)
            found.update(f"{path.relative_to(self.code).as_posix()} {content}\n".encode())
        return found.hexdigest()[:_DIGEST_LENGTH]


def own_names() -> list[str]:
    """The baselines of this folder."""
    return sorted(path.parent.name for path in FOLDER.glob("*/baseline.py"))


def installed_names() -> list[str]:
    """The baselines of installed packages."""
    return sorted({entry.name for entry in _entries()})


def name_of(reference: str) -> str:
    """What the baseline of a reference is called; the reference need not lead anywhere."""
    return Path(reference).resolve().name if _is_path(reference) else reference


def check_name(name: str) -> None:
    """Raise LorunError where no baseline can be called so."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or iskeyword(name):
        raise LorunError(
            f"a baseline cannot be called {name!r}: the name must be one of Python's, letters, digits and underscores, "
            f"such as {_suggested(name)!r}"
        )
    if name in (*NAMED, PRETRAIN):
        raise LorunError(f"a baseline cannot be called {name!r}: that is a strategy ({', '.join(NAMED)})")


def find(reference: str) -> Place:
    """Where the baseline of a reference is.

    Raises:
        UnknownName: no baseline is called so, here or in an installed package.
        LorunError: the folder is not there or lacks one of `FILES`; two baselines have that name, or it is none.
    """
    if _is_path(reference):
        return _in_folder(reference)
    entries = [entry for entry in _entries() if entry.name == reference]
    owners = [f"baselines/{reference}"] if reference in own_names() else []
    owners += [f"{entry.value} of {_package(entry)}" for entry in entries]
    if len(owners) > 1:
        raise LorunError(f"{len(owners)} baselines are called {reference!r}: {', '.join(owners)}; rename or remove one")
    if entries:
        return _in_package(entries[0])
    if not owners and (Path(reference) / FILES[0]).is_file():
        raise LorunError(f"no baseline is called {reference!r}; for the folder here say './{reference}'")
    if not owners:
        raise UnknownName("baseline", reference, [*own_names(), *installed_names()])
    folder = FOLDER / reference
    return Place(reference, reference, folder, f"baselines.{reference}", None, folder)


def _in_folder(reference: str) -> Place:
    folder = Path(reference).resolve()
    if not folder.is_dir():
        near = " (a baseline's reference is its folder)" if folder.is_file() else ""
        raise LorunError(f"baseline {reference}: no such folder{near}; `lorun new baseline` writes one")
    _check_files(f"baseline {reference}", folder)
    check_name(folder.name)
    if folder.parent == FOLDER:
        raise LorunError(f"baseline {reference} is of the suite's own: call it {folder.name!r}")
    if folder.name in (*own_names(), *installed_names()):
        raise LorunError(f"baseline {reference}: another one is called {folder.name!r} already; rename the folder")
    return Place(folder.name, reference, folder, None, None, folder)


def _in_package(entry: EntryPoint) -> Place:
    said = f"baseline {entry.name}: the entry point {entry.value!r} of {_package(entry)}"
    check_name(entry.name)
    try:
        spec = None if entry.attr else find_spec(entry.module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise LorunError(
            f"{said} names no package: give the module of the folder with {' and '.join(FILES)}, as in "
            f'{entry.name} = "my_package.{entry.name}"'
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    _check_files(said, folder)
    above = entry.module.count(".")
    return Place(entry.name, entry.name, folder, entry.module, _package(entry), [folder, *folder.parents][above])


def _check_files(said: str, folder: Path) -> None:
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise LorunError(
            f"{said}: {folder.name}/ has no {' and no '.join(missing)}. A baseline is a folder with baseline.py (a "
            "class `Baseline`) and card.yaml; `lorun new baseline` writes both"
        )


def _is_path(reference: str) -> bool:
    return "/" in reference or reference in (".", "..")


def _entries() -> Iterator[EntryPoint]:
    # One package may be seen twice, as an installed one and as the folder where one works on it.
    return iter({(entry.name, entry.value, _package(entry)): entry for entry in entry_points(group=GROUP)}.values())


def _package(entry: EntryPoint) -> str:
    return "a package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _suggested(name: str) -> str:
    words = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return words if re.match(r"[a-z_]", words) and not iskeyword(words) else f"my_{words or 'net'}"


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _NOT_CODE or path.name.startswith(".") or path.suffix in (".md", ".pyc"):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


@cache
def _digest_of(path: Path, changed: int, size: int) -> str:
    """Of one file, read again where its time of change or its size is another."""
    content = path.read_bytes()
    if path.suffix == ".py":
        with suppress(SyntaxError, ValueError):  # else every byte counts; importing it tells what is wrong
            content = _without_words(ast.parse(content)).encode()
    return hashlib.sha256(content).hexdigest()


def _without_words(tree: ast.Module) -> str:
    """Python code without comments and docstrings, laid out in one way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
