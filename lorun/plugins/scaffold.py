"""A folder to start a baseline from, which keeps the contract as it is."""

import os
from pathlib import Path

from lorun.errors import LorunError
from lorun.files import replace_folder
from lorun.plugins.places import FOLDER, check_name, installed_names, own_names

TEMPLATE = Path(__file__).parent / "template"


def write_baseline(name: str, into: Path | None = None) -> tuple[str, Path]:
    """Write `into`/`name`, by default beside the suite's own; return the baseline's reference and its folder.

    Raises:
        LorunError: the name is none or taken, or something is in the place of the folder.
    """
    check_name(name)
    if name in (*own_names(), *installed_names()):
        raise LorunError(f"there is a baseline {name!r} already")
    parent = into or FOLDER
    folder = parent / name
    for taken in (folder, parent / f"{name}.py"):  # of a package and a module of one name, Python sees one
        if taken.exists():
            raise LorunError(f"{taken} is there already: choose another name, or another folder with --into")
    replace_folder(folder, lambda part: _fill(part, name))
    if folder.resolve().parent == FOLDER:
        return name, folder
    reference = os.fspath(folder)
    return reference if os.sep in reference else os.path.join(os.curdir, reference), folder


def _fill(folder: Path, name: str) -> None:
    for template in sorted(TEMPLATE.iterdir()):
        text = template.read_text(encoding="utf-8").replace("NAME", name)
        (folder / template.name.removesuffix(".txt")).write_text(text, encoding="utf-8")
