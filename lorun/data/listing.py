"""Which files of a folder are data. Manifests, checks and folders of images share this rule.

What begins with a dot, and what file managers and editors leave behind, is never data. Links are followed. What is
passed over is said on standard error, once.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from unicodedata import category

from lorun.errors import LorunError, short

FORMULAS = ("=", "+", "-", "@")
"""Spreadsheets run cells that begin so."""

_LEFT_BEHIND = re.compile(
    r"\..*|thumbs\.db(:.*)?|ehthumbs.*\.db|desktop\.ini|icon\r|__macosx|@eadir|\$recycle\.bin|system volume information"
    r"|__pycache__|~.*|.*~|#.*#|.*\.(bak|orig|swp|tmp|part|crdownload)",
    re.IGNORECASE | re.DOTALL,
)
_UNFIT = "has control characters in its name, or is not in UTF-8: rename it"
_SHOWN = 5  # names of files that are passed over
_LONGEST = 200  # characters of the name of an image


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of this name is never data.

    >>> [is_left_behind(name) for name in (".DS_Store", "Thumbs.db", "a.png~", "a.png")]
    [True, True, True, False]
    """
    return _LEFT_BEHIND.fullmatch(name) is not None


def why_no_path(file: str) -> str | None:
    """What is wrong with a path inside a dataset, with `/` between its parts; None if nothing is."""
    parts = PurePosixPath(file).parts
    if not parts or file.startswith("/") or ".." in parts or "/".join(parts) != file:
        return "names no file inside its folder"
    if any(map(is_left_behind, parts)):
        return "is hidden, or was left behind by a program: it is no data"
    return _UNFIT if _is_unfit(file) else None


def check_name(path: Path) -> None:
    """Raise LorunError where the name of a file or folder cannot be in a table, a manifest, or on a terminal."""
    if _is_unfit(path.name):
        raise LorunError(f"{str(path)!r} {_UNFIT}")


def check_cells(names: Iterable[str]) -> None:
    """Raise LorunError for a name of an image that is no plain cell of a table: a formula of a spreadsheet, or
    unprintable."""
    for name in names:
        if not name.isprintable() or name.startswith(FORMULAS) or len(name) > _LONGEST:
            raise LorunError(
                f"{short(name)}: rename it: names in tables are printable, of {_LONGEST} characters at most, and do "
                f"not begin with {', '.join(FORMULAS[:-1])} or {FORMULAS[-1]}, which spreadsheets take for formulas"
            )


def files_below(folder: Path) -> list[str]:
    """The files of a dataset, at any depth, as paths inside `folder`; none if it does not exist.

    Raises LorunError as `check_name` does, and where a link leads nowhere or to a folder around it, or a folder cannot
    be read.
    """
    passed: list[str] = []
    found = [path.relative_to(folder).as_posix() for path in _walk(folder, (), passed)] if folder.is_dir() else []
    _say_passed(folder, len(found), [Path(path).relative_to(folder).as_posix() for path in passed])
    return found


def files_in(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files directly in `folder` whose names match a pattern, in any case, sorted.

    Raises LorunError as `files_below` does, and where an image that matches none has the name of one that does.
    """
    found, passed = [], []
    for path in _entries(folder):
        wanted = not is_left_behind(path.name) and any(fnmatchcase(path.name.lower(), one.lower()) for one in patterns)
        if wanted and not _is_folder(path):
            check_name(path)
            found.append(path)
        else:
            passed.append(path.name)
    _refuse_twins(folder, {path.stem: path for path in found}, passed)
    _say_passed(folder, len(found), passed)
    return found


def _is_unfit(text: str) -> bool:
    return any(category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in text)


def _walk(folder: Path, above: tuple[Path, ...], passed: list[str]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        raise LorunError(f"{folder} is a link to a folder that it lies in: remove it")
    for path in _entries(folder):
        if is_left_behind(path.name):
            passed.append(str(path))
            continue
        check_name(path)
        if _is_folder(path):
            yield from _walk(path, (*above, real), passed)
        else:
            yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise LorunError(f"cannot read {folder}: {error.strerror}") from error


def _is_folder(path: Path) -> bool:
    if not path.exists():
        raise LorunError(f"{path} is a link that leads nowhere: remove it, or put its file there")
    if not (path.is_dir() or path.is_file()):
        raise LorunError(f"{path} is neither a file nor a folder: move it elsewhere")
    return path.is_dir()


def _refuse_twins(folder: Path, found: dict[str, Path], others: Sequence[str]) -> None:
    """Results are named after images without suffix: of two with one name, one would be passed over unnoticed."""
    twins = [name for name in others if Path(name).stem in found and not is_left_behind(name)]
    if twins:
        from PIL import Image

        known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        for name in twins:
            if known >= {Path(name).suffix.lower(), found[Path(name).stem].suffix.lower()}:
                first = found[Path(name).stem].name
                raise LorunError(f"{folder}: {name} has the same name as another image, {first}: rename or move one")


def _say_passed(folder: Path, count: int, passed: Sequence[str]) -> None:
    if passed:
        more = f" and {len(passed) - _SHOWN} more" if len(passed) > _SHOWN else ""
        names = ", ".join(name if name.isprintable() else repr(name) for name in passed[:_SHOWN])
        _say(f"{folder}: {count} of {count + len(passed)} files are read; passed over: {names}{more}")


@cache
def _say(line: str) -> None:
    print(line, file=sys.stderr)
