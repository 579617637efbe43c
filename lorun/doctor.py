"""What of this machine and environment the suite can use, and what to do where something is missing."""

import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from lorun.cores import available_cores
from lorun.errors import LorunError, one_line
from lorun.revisions import UnknownRevision, git

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Programs that the tests of the report page open it in."""

_EXTRAS = {  # package -> what needs it
    "snakemake": "make reproduce",
    "dvc": "DVC remotes",
    "plotly": "report pages",
    "rocrate": "lorun export",
}
_LITTLE_MEMORY, _LITTLE_SPACE = 2e9, 5e9  # bytes


@dataclass(frozen=True)
class Check:
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


def examine(root: Path = Path()) -> Iterator[Check]:
    """Every check; only the first ones where packages are missing. `root` is the project's root."""
    yield Check("Python", platform.python_version())
    yield (packages := _packages())
    if packages.necessary:
        return
    lacking = [f"{name} (for {use})" for name, use in _EXTRAS.items() if not _version(name)]
    if lacking:
        yield Check("extras", f"without {', '.join(lacking)}", "`make setup` installs all")
    else:
        yield Check("extras", ", ".join(f"{name} {_version(name)}" for name in _EXTRAS))
    yield from _torch(root)
    yield Check("cores", f"{available_cores()} for this process, whatever OMP_NUM_THREADS says")
    yield from _room(root)
    try:
        yield Check("git", f"commit {git(root, 'rev-parse', '--short', 'HEAD').decode().strip()}")
    except UnknownRevision as error:
        yield Check("git", one_line(error), "without it results record no commit: install git, start in a clone")
    if _version("dvc"):
        yield from _remotes()
    yield _program("make", ("make",), "the commands of the Makefile need it: install it")
    yield _program("browser", BROWSERS, "only the tests of the report page need one: install Chromium to run them")


def _packages() -> Check:
    """The packages without which the library does not work."""
    try:
        needed = [one for one in requires("lorun") or () if "extra ==" not in one]
    except PackageNotFoundError:
        return Check("packages", "lorun is not installed, but imported from a folder", "`make setup` installs it")
    missing = [name for name in re.findall(r"^[\w.-]+", "\n".join(needed), re.MULTILINE) if not _version(name)]
    if missing:
        return Check("packages", f"without {', '.join(missing)}", "`make setup` installs them", necessary=True)
    return Check("packages", f"all {len(needed)} installed")


def _version(package: str) -> str | None:
    """None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch(root: Path) -> Iterator[Check]:
    """PyTorch, the versions that results record, GPUs, and bfloat16 on them or on the CPU."""
    try:
        import torch

        from lorun.provenance import versions
        from lorun.status.project import Project
        from lorun.step import cpu_has_bfloat16
    except (ImportError, OSError) as error:
        yield Check("PyTorch", f"cannot be imported ({one_line(error)})", "`make setup` installs it", necessary=True)
        return
    yield Check("PyTorch", torch.__version__)
    try:
        other = Project(root).other_versions(versions())
        remedy = "expect other last digits, or run `make setup`" if other else ""
        yield Check("versions", f"not as locked: {', '.join(other)}" if other else "as locked", remedy)
    except LorunError:
        yield Check("versions", "not compared: this folder is not the project's root", "start from there")
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


def _room(root: Path) -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    remedy = "little: close other programs" if memory.available < _LITTLE_MEMORY else ""
    yield Check("memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free", remedy)
    free = shutil.disk_usage(root).free
    remedy = "little: make room for datasets and checkpoints" if free < _LITTLE_SPACE else ""
    yield Check("disk", f"{free / 1e9:.1f} GB free here", remedy)


def _remotes() -> Iterator[Check]:
    """The DVC remotes; whether those that are folders exist."""
    from lorun.data.fetch import remotes

    try:
        found = remotes()
    except LorunError as error:
        yield Check("DVC", str(error), "correct .dvc/config or .dvc/config.local")
        return
    if not found:
        remedy = "data come from their origins; `dvc remote add --local NAME ADDRESS` adds a store"
        yield Check("DVC", "no remote is configured", remedy)
    for name, address in found.items():
        if "://" in address:
            yield Check("DVC", f"remote {name}: {address}, not tried")
        elif Path(address).is_dir():
            yield Check("DVC", f"remote {name}: its folder is there")
        else:
            remedy = f"mount it, or `dvc remote remove {name}` (`--local` if it is in .dvc/config.local)"
            yield Check("DVC", f"remote {name}: no folder {address}", remedy)


def _program(name: str, choices: tuple[str, ...], remedy: str) -> Check:
    found = next((choice for choice in choices if shutil.which(choice)), None)
    return Check(name, found or f"none of {', '.join(choices)} on PATH", "" if found else remedy)
