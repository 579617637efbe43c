"""`lorun doctor`: what of this machine and environment the suite can use, and what to do where something is missing."""

import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import typer

from lorun.cores import available_cores
from lorun.errors import LorunError, one_line

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Programs that the tests of the report page open it in."""

_EXTRAS = {  # package -> what needs it
    "snakemake": "make reproduce",
    "dvc": "DVC remotes",
    "plotly": "report pages",
    "rocrate": "lorun export",
}
_LITTLE_MEMORY, _LITTLE_SPACE = 2e9, 5e9  # bytes


class Check(NamedTuple):
    """One line: what was found, the remedy if something is missing, and whether nothing works without it."""

    name: str
    found: str
    remedy: str = ""
    necessary: bool = False

    @property
    def state(self) -> str:
        """ "ok", "note" or "missing"."""
        return "ok" if not self.remedy else "missing" if self.necessary else "note"

    def __str__(self) -> str:
        return f"{self.state:8} {self.name:9} {self.found}" + (f"; {self.remedy}" if self.remedy else "")


def doctor() -> None:
    """Show what of this machine and environment can be used: a line each, with the remedy where something is missing.

    Exit status 1 if something is missing without which nothing works (`missing`); a `note` is no failure. Start from
    the project's root.
    """
    states = set()
    for check in examine():
        typer.echo(str(check))
        states.add(check.state)
    if "missing" in states:
        raise typer.Exit(1)


def examine() -> Iterator[Check]:
    """Every check of this machine and of the working directory; only the first ones where packages are missing."""
    yield Check("Python", platform.python_version())
    lacking = _missing(re.findall(r"^[\w.-]+", "\n".join(_requirements()), re.MULTILINE))
    if lacking:
        yield Check("packages", f"without {', '.join(lacking)}", "`make setup` installs them", necessary=True)
        return
    lacking = [f"{name} (for {_EXTRAS[name]})" for name in _missing(_EXTRAS)]
    found = f"without {', '.join(lacking)}" if lacking else "all installed"
    yield Check("packages", found, "`make setup` installs them" if lacking else "")
    yield from _torch()
    yield Check("cores", f"{available_cores()} for this process, whatever OMP_NUM_THREADS says")
    yield from _room()
    if not _missing(["dvc"]):
        yield _remotes()
    browser = next(filter(shutil.which, BROWSERS), None)
    remedy = "" if browser else "only the tests of the report page need one: install Chromium to run them"
    yield Check("browser", browser or f"none of {', '.join(BROWSERS)} on PATH", remedy)


def _requirements() -> list[str]:
    """What the package needs without its extras; nothing where it is imported from a folder, not installed."""
    try:
        return [one for one in metadata.requires("lorun") or () if "extra ==" not in one]
    except metadata.PackageNotFoundError:
        return []


def _missing(packages: Iterable[str]) -> list[str]:
    missing = []
    for package in packages:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def _torch() -> Iterator[Check]:
    """PyTorch, GPUs, and bfloat16 on them or on the CPU."""
    try:
        import torch

        from lorun.step import cpu_has_bfloat16
    except (ImportError, OSError) as error:
        yield Check("PyTorch", f"cannot be imported ({one_line(error)})", "`make setup` installs it", necessary=True)
        return
    yield Check("PyTorch", torch.__version__)
    yield _gpu(torch)
    where = "GPU" if torch.cuda.is_available() else "CPU"
    supported = torch.cuda.is_bf16_supported() if where == "GPU" else cpu_has_bfloat16()
    answer, choice = ("yes", "bfloat16") if supported else ("no", "float32")
    yield Check("bfloat16", f"{answer}, {where}: `precision: auto` trains in {choice}")


def _gpu(torch: Any) -> Check:
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return Check("GPU", ", ".join(f"{one.name} ({one.total_memory / 1e9:.0f} GB)" for one in found))
    if shutil.which("nvidia-smi"):
        none = f"none that PyTorch for CUDA {torch.version.cuda} can use"
        return Check("GPU", none, "its driver may be too old: update it")
    return Check("GPU", "none: everything runs on the CPU")


def _room() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    remedy = "little: close other programs" if memory.available < _LITTLE_MEMORY else ""
    yield Check("memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free", remedy)
    free = shutil.disk_usage(Path()).free
    remedy = "little: make room for datasets and checkpoints" if free < _LITTLE_SPACE else ""
    yield Check("disk", f"{free / 1e9:.1f} GB free here", remedy)


def _remotes() -> Check:
    """The DVC remotes; whether those that are folders exist."""
    from lorun.data.fetch import remotes

    try:
        found = remotes()
    except LorunError as error:
        return Check("DVC", str(error), "correct .dvc/config or .dvc/config.local")
    if not found:
        remedy = "data come from their origins; `dvc remote add --local NAME ADDRESS` adds a store"
        return Check("DVC", "no remote is configured", remedy)
    gone = [name for name, address in found.items() if "://" not in address and not Path(address).is_dir()]
    remedy = f"the folder of {', '.join(gone)} is gone: mount it, or `dvc remote remove` it" if gone else ""
    return Check("DVC", f"remotes {', '.join(found)}", remedy)
