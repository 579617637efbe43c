"""The metadata of an archive: an RO-Crate by the profile Process Run Crate 0.5.

Each training, scoring and counting is an action, with the code that it ran, the data that it read and what came out.
The tables know the runs, but not by which execution of the workflow, so the profiles of workflow runs do not apply. Who
started an action, and when, is not recorded.

https://w3id.org/ro/wfrun/process/0.5
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from lorun.archive.origin import Origin
from lorun.errors import extra
from lorun.provenance import PACKAGES
from lorun.results.store import METHOD, NO_RESULT, RUN, records

CRATE = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"

_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_SECONDS = "http://qudt.org/vocab/unit/SEC"
_FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".yaml": "application/yaml",
    ".cff": "application/yaml",
    "": "text/plain",
}


def crate(origin: Origin, files: Mapping[str, bytes], date: str) -> str:
    """The text of ro-crate-metadata.json.

    Args:
        files: the content of every other file of the archive by its path.
        date: of publication, YYYY-MM-DD.

    Raises:
        LorunError: the package rocrate is missing.
    """
    return json.dumps(_Crate(origin, files, date).crate.metadata.generate(), indent=1, ensure_ascii=False) + "\n"


class _Crate:
    def __init__(self, origin: Origin, files: Mapping[str, bytes], date: str) -> None:
        with extra("archive", "an archive"):
            from rocrate.rocrate import ROCrate
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_CONTEXT)
        results = origin.results
        self._origin, self._commands, self._folder = origin, origin.commands, f"results/{results.name}"
        self._files = {name: self._file(name, content) for name, content in files.items()}
        self._config = self._files[origin.config.as_posix()]
        self._describe(date)
        self._data = {f"{name}={md5}": self._dataset(name, md5) for name, md5 in origin.datasets}
        seconds = {_key(line): line["seconds"] for line in records(results.timing) if line["what"] == "training"}
        for run in records(results.runs):
            if run["status"] not in NO_RESULT:
                self._run(run, seconds.get(_key(run)))
        for account in records(results.accounting):
            self._account(account)

    def _describe(self, date: str) -> None:
        version, citation, root = self._origin.results.version, self._origin.citation, self.crate.root_dataset
        assert version is not None
        authors = [
            self._entity(f"#author-{number}", "Organization" if "name" in author else "Person", name=_name(author))
            for number, author in enumerate(citation["authors"], 1)
        ]
        profile = self._entity(PROFILE, ["CreativeWork", "Profile"], name="Process Run Crate", version="0.5")
        root["name"] = f"{citation['title']}: result set {self._origin.results.name}, {version.cited}"
        root["description"] = (
            "Scores, costs and provenance of every run of a benchmark of deep unfolding networks. APPENDIX.md has "
            "hardware, software, time, memory, seeds and data, SHA256SUMS the hash of every file. An action names all "
            "datasets of its run. Who started it, and when, is not recorded. Weights are not part of the archive."
        )
        root["datePublished"], root["license"] = date, self._files["LICENSE"]
        root["conformsTo"], root["author"], root["version"] = profile, _unpacked(authors), str(version.version)

    def _file(self, name: str, content: bytes) -> Any:
        path = PurePosixPath(name)
        about = {"name": path.name, "contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()}
        about["encodingFormat"] = _FORMATS.get(path.suffix, "application/octet-stream")
        return self.crate.add_file(dest_path=name, properties=about)

    def _dataset(self, name: str, md5: str) -> Any:
        terms: Mapping[str, Any] = next((one for one in self._origin.licences if one["name"] == name), {})
        return self._entity(
            f"#data-{name}-{md5[:8]}",
            "CreativeWork",
            name=name,
            identifier=f"md5:{md5}",
            description=terms.get("what"),
            license=terms.get("licence"),
            citation=terms.get("citation"),
            conditionsOfAccess=f"may be passed on: {terms['redistribution']}" if terms else None,
            isBasedOn=", ".join(terms.get("sources", ())) or None,
        )

    def _software(self, commit: str | None, dirty: bool | None, python: str | None, versions: str | None) -> Any:
        """The code at a commit, with the packages if they are known."""
        packages = [] if python is None else [f"python={python}", *(versions or "").split()]
        digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8] if packages else "unrecorded"
        changed = "" if dirty is False else " with changes" if dirty else " (changes not recorded)"
        needed = [self._package(package) for package in packages]
        return self._entity(
            f"#lorun-{commit or 'unrecorded'}-{'changed' if dirty else 'clean' if dirty is False else 'any'}-{digest}",
            "SoftwareApplication",
            name=f"LoRun suite, commit {commit or 'not recorded'}{changed}",
            softwareVersion=commit or "not recorded",
            identifier=commit and f"swh:1:rev:{commit}",
            softwareRequirements=needed or None,
        )

    def _package(self, package: str) -> Any:
        name, _, version = package.partition("=")
        kind = "generic" if name == "python" else "pypi"
        identifier = f"pkg:{kind}/{name}@{version}" if name in ("python", *PACKAGES) else f"#package-{package}"
        return self._entity(identifier, "SoftwareApplication", name=name, softwareVersion=version)

    def _run(self, run: Mapping[str, Any], seconds: float | None) -> None:
        """The training and, if it has scores, the scoring of a run."""
        name = "/".join(str(run[column]) for column in RUN)
        data = [self._data[entry] for entry in (run["data_md5"] or "").split()]
        lines = " ; ".join(self._commands.get(_key(run), ()))
        weights = self._entity(
            f"#weights-{run['run']}",
            "CreativeWork",
            name=f"weights of {name}",
            description=f"Not in this archive. Policy: {run['checkpoint_policy'] or 'not recorded'}",
        )
        done = run["status"] == "completed"
        trained = self._action(
            f"#training-{run['run']}",
            f"training of {name}",
            self._software(run["trained_commit"], run["trained_dirty"], None, None),
            [self._config, *data],
            [weights] if done else [],
            f"{_machine(run['trained_device'], run['trained_threads'])}. Commands: {lines or 'not recorded'}",
            run,
        )
        if seconds is not None:
            trained["resourceUsage"] = self._entity(
                f"#time-{run['run']}", "PropertyValue", name="training time", value=str(seconds), unitCode=_SECONDS
            )
        if done:
            self._action(
                f"#scoring-{run['run']}-{run['config_hash']}",
                f"scoring of {name}",
                self._software(run["commit"], run["dirty"], run["python"], run["versions"]),
                [weights, self._config, *data],
                [self._files[f"{self._folder}/rows.csv"], self._files[f"{self._folder}/runs.csv"]],
                _machine(run["device"], run["threads"]),
                run,
            )

    def _account(self, account: Mapping[str, Any]) -> None:
        name = "/".join(str(account[column]) for column in METHOD)
        self._action(
            f"#counting-{name}",
            f"counting of parameters, bytes and operations of {name}",
            self._software(*map(account.get, ("commit", "dirty", "python", "versions"))),
            [self._config],
            [self._files[f"{self._folder}/accounting.csv"]],
            _machine(account.get("device"), account.get("threads")),
            {"status": "completed"},
        )

    def _action(
        self,
        identifier: str,
        name: str,
        software: Any,
        read: list[Any],
        made: list[Any],
        description: str,
        run: Mapping[str, Any],
    ) -> Any:
        done = run["status"] == "completed"
        about = {
            "name": name,
            "description": description,
            "actionStatus": f"http://schema.org/{'Completed' if done else 'Failed'}ActionStatus",
        }
        if not done:
            about["error"] = f"{run['status']}: {run['message'] or 'no message'}"
        action = self.crate.add_action(software, identifier, _unpacked(read), _unpacked(made), about)
        self.crate.root_dataset.append_to("mentions", action)
        return action

    def _entity(self, identifier: str, kind: str | list[str], /, **properties: Any) -> Any:
        """An entity of the context, made once; properties that are None are left out."""
        from rocrate.model.contextentity import ContextEntity

        held = self.crate.dereference(identifier)
        if held is not None:
            return held
        entity = self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind}))
        for name, value in properties.items():
            if value is not None:
                entity[name] = value
        return entity


def _unpacked(entities: list[Any]) -> Any:
    """A list, but the entity alone if there is one."""
    return entities[0] if len(entities) == 1 else entities


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in RUN)


def _machine(device: str | None, threads: int | None) -> str:
    return f"Device: {device or 'not recorded'}" + ("" if threads is None else f", threads: {threads}")


def _name(author: Mapping[str, str]) -> str:
    return author.get("name") or " ".join(filter(None, (author.get("given-names"), author.get("family-names"))))
