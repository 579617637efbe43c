"""Names of earlier versions, which profiles, scripts and commands may still use."""

from importlib import import_module
from typing import Any

STRATEGIES = {"separate": "block_k"}
"""Old name -> strategy. In a profile, the old name is a variant, so that its runs and rows are called as before."""

BASELINES = {"first_estimate": "initial_reconstruction"}
"""Old name -> baseline."""

_PYTHON = {
    "lorun.config.BlockCSConfig": "lorun.physics.block_cs",
    "lorun.config.BlurDownsampleConfig": "lorun.physics.blur_downsample",
    "lorun.config.CASSIConfig": "lorun.physics.cassi",
}


def moved(package: str, name: str) -> Any:
    """What was called `package.name`, as the `__getattr__` of a package. Raises AttributeError for other names."""
    place = _PYTHON.get(f"{package}.{name}")
    if place is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(import_module(place), name)


def command(arguments: list[str]) -> list[str]:
    """The arguments of `lorun`: an `evaluate` of files without a profile is `score`."""
    files = {"--matrix", "--weights", "--images"}
    if arguments[:1] == ["evaluate"] and files & {*arguments} and not {"-c", "--config", "-h", "--help"} & {*arguments}:
        return ["score", *arguments[1:]]
    return arguments
