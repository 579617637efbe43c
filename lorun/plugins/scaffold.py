"""Write a folder to start a baseline from; the network in it passes the contract."""

from collections.abc import Collection
from pathlib import Path

from lorun.code import ROOT
from lorun.errors import LorunError
from lorun.files import replace_files
from lorun.plugins import places
from lorun.plugins.places import check_name, installed_names, names

TEMPLATE = Path(__file__).parent / "template"


def write_baseline(name: str, into: Path | None = None, reserved: Collection[str] = ()) -> tuple[str, Path]:
    """Write the folder `into`/`name`, by default in the suite's `baselines/`; return its reference and its path.

    Raises:
        LorunError: the name is invalid, taken or `reserved`, or the folder exists.
    """
    check_name(name, reserved)
    if name in (*names(), *installed_names()):
        raise LorunError(f"there is a baseline {name!r} already")
    if into is None and places.SUITE_FOLDER != ROOT / "baselines":
        raise LorunError("this is not a checkout of the suite: choose a folder with --into")
    folder = (into or places.SUITE_FOLDER) / name
    if folder.exists():
        raise LorunError(f"{folder} exists: choose another name, or another folder with --into")
    templates = {path.name.removesuffix(".txt"): path.read_text(encoding="utf-8") for path in TEMPLATE.iterdir()}
    replace_files(folder, ((file, text.replace("NAME", name).encode()) for file, text in sorted(templates.items())))
    if folder.resolve().parent == places.SUITE_FOLDER:
        return name, folder
    return str(folder) if "/" in str(folder) else f"./{folder}", folder
