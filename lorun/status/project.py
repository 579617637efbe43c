"""The files of the project as they are now: code, rules of reading, datasets, locked packages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lorun.code import current_code
from lorun.data.checksums import dataset_identity
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.provenance import reading_rules


@dataclass(frozen=True)
class Project:
    """The files of the project in `root` as they are now; LorunError if `root` holds no code of this suite."""

    root: Path

    def __post_init__(self) -> None:
        if not (self.root / "lorun" / "__init__.py").is_file():
            raise LorunError(f"{self.root}: there is no lorun/ here; start from the project's root")

    def profile(self, result_set: str) -> Profile:
        """The profile of a result set; raises LorunError if there is none or it is wrong."""
        path = self.root / "config" / f"{result_set}.yaml"
        if not path.is_file():
            raise LorunError(f"results/{result_set}: there is no profile {path}")
        return load_profile(path)

    def changed(self, recorded: Mapping[str, str], experiment: Experiment) -> tuple[str, ...]:
        """The files, or entries of files, that have another digest than the recorded one or are gone."""
        rules = reading_rules(experiment, experiment.datasets, self.root)
        now = {**current_code((path for path in recorded if path.endswith(".py")), self.root), **rules}
        return tuple(path for path, digest in recorded.items() if now.get(path) != digest)

    def data_md5(self, dataset: str) -> str | None:
        """The md5 of a dataset by its manifest; None if there is no manifest."""
        try:
            return dataset_identity(self.root / "data", dataset)
        except LorunError:
            return None

    @cached_property
    def locked(self) -> dict[str, set[str]]:
        """The versions in requirements.lock by package: several if they depend on the version of Python."""
        path = self.root / "requirements.lock"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found: dict[str, set[str]] = {}
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, flags=re.MULTILINE):
            found.setdefault(name, set()).add(version)
        return found

    def other_versions(self, versions: str | None) -> tuple[str, ...]:
        """Of packages as in "torch=2.15.0 peft=0.21.2", those that are locked in another version."""
        other = []
        for entry in (versions or "").split():
            name, version = entry.partition("+")[0].split("=", 1)
            locked = self.locked.get(name, set())
            if version not in locked and "@" not in version:  # NAME=DIGEST@PLACE is a baseline from elsewhere
                other.append(f"{name} {version} (locked: {' or '.join(sorted(locked)) or 'none'})")
        return tuple(other)
