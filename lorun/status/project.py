"""A project as it is now, and as its git history has it: code, registry, profiles, locked packages."""

import re
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from lorun.config import Experiment, Profile, load_profile
from lorun.data.checksums import dataset_identity
from lorun.errors import LorunError
from lorun.revisions import Files, UnknownRevision, files_at, files_now, is_shallow
from lorun.status import uses
from lorun.status.reach import Use, differences, fingerprint
from lorun.status.source import Module, modules_of


class Revision:
    """The files of a project at one moment."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._profiles: dict[str, Profile | None] = {}

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Its modules; raises LorunError where this interpreter does not read one."""
        return modules_of(self.files)

    @cached_property
    def packages(self) -> dict[str, list[str]]:
        """The locked versions of every package, by its name: several where they depend on the version of Python."""
        text = self.files.get(uses.LOCK, b"").decode(errors="replace")
        found: dict[str, list[str]] = {}
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, flags=re.MULTILINE):
            found.setdefault(name, []).append(version)
        return found

    def profile(self, name: str) -> Profile | None:
        """The profile `config/NAME.yaml`; None where there is none that this version understands."""
        if name not in self._profiles:
            self._profiles[name] = self._read_profile(name)
        return self._profiles[name]

    def _read_profile(self, name: str) -> Profile | None:
        with tempfile.TemporaryDirectory() as folder:
            for path, content in self.files.items():
                if path.startswith("config/"):
                    (Path(folder) / path.removeprefix("config/")).write_bytes(content)
            try:
                return load_profile(Path(folder) / f"{name}.yaml")
            except LorunError:
                return None


class Project:
    """The working tree at `root`, and its history.

    Raises:
        LorunError: there is no code of this suite in `root`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = Revision(files_now(root, uses.shapes_rows, *uses.FOLDERS))
        if "lorun/__init__.py" not in self.now.files:
            raise LorunError(f"{root}: no lorun/ here whose rows could be judged: start from the project's root")
        self.shallow = is_shallow(root)
        self._revisions: dict[str, Revision | None] = {}
        self._md5s: dict[str, str | None] = {}

    def at(self, commit: str) -> Revision | None:
        """The project at a commit; None where this clone does not have it."""
        if commit not in self._revisions:
            try:
                self._revisions[commit] = Revision(files_at(self.root, commit, uses.shapes_rows))
            except UnknownRevision:
                self._revisions[commit] = None
        return self._revisions[commit]

    def code_changes(self, then: Revision, use: Use) -> dict[str, str]:
        """The definitions of a use that differ from then to now: name -> module."""
        return differences(fingerprint(then.modules, use), fingerprint(self.now.modules, use))

    def reading_changes(self, then: Revision, experiment: Experiment) -> list[str]:
        """The datasets of an experiment that the registry reads otherwise than it did, and the card of a baseline that
        names released weights otherwise."""
        before, after = (uses.read_as(one.files, experiment.datasets) for one in (then, self.now))
        found = [f"{uses.REGISTRY}: {name}" for name in experiment.datasets if before[name] != after[name]]
        if experiment.weights is not None:
            cards = {uses.named_as(one.files, experiment.method) for one in (then, self.now)}
            found += [f"baselines/{experiment.method}/card.yaml: released_names"] if len(cards) > 1 else []
        return found

    def data_md5(self, name: str) -> str | None:
        """The identity of a dataset as its manifest says; None where there is no manifest."""
        if name not in self._md5s:
            try:
                self._md5s[name] = dataset_identity(self.root / "data", name)
            except LorunError:
                self._md5s[name] = None
        return self._md5s[name]


def config_changes(then: Experiment, now: Experiment) -> list[str]:
    """The settings that differ, as in "training.steps 400 -> 800"."""
    before, after = (dict(_flat("", one.model_dump(mode="json"))) for one in (then, now))
    keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return [f"{key} {before.get(key)} -> {after.get(key)}" for key in keys]


def _flat(prefix: str, said: Any) -> list[tuple[str, Any]]:
    if not isinstance(said, dict):
        return [(prefix, said)]
    return [pair for key, value in said.items() for pair in _flat(f"{prefix}.{key}" if prefix else key, value)]
