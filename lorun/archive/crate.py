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
from lorun.results.store import METHOD, NO_RESULT, RUN, records

CRATE = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"

_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"


def crate(origin: Origin, profile: str, files: Mapping[str, bytes], date: str) -> str:
    """The text of ro-crate-metadata.json.

    Args:
        profile: the path of the profile's file in the archive.
        files: the content of every other file of the archive by its path.
        date: of publication, YYYY-MM-DD.

    Raises:
        LorunError: the package rocrate is missing.
    """
    return (
        json.dumps(_Crate(origin, profile, files, date).crate.metadata.generate(), indent=1, ensure_ascii=False) + "\n"
    )


class _Crate:
    def __init__(self, origin: Origin, profile: str, files: Mapping[str, bytes], date: str) -> None:
        with extra("archive", "an archive"):
            from rocrate.rocrate import ROCrate
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_CONTEXT)
        results = origin.results
        self._files = {name: self._file(name, content) for name, content in files.items()}
        self._describe(origin, date)
        config = self._files[profile]
        rows, runs, accounting = (
            self._files.get(f"results/{results.name}/{name}.csv") for name in ("rows", "runs", "accounting")
        )
        licences = {one["name"]: one["licence"] for one in origin.licences}
        data = {
            f"{name}={md5}": self._entity(
                f"#data-{name}-{md5[:8]}",
                "CreativeWork",
                name=name,
                identifier=f"md5:{md5}",
                license=licences.get(name),
            )
            for name, md5 in origin.datasets
        }
        for run in records(results.runs):
            if run["status"] in NO_RESULT:
                continue
            read = [config, *(data[entry] for entry in (run["data_md5"] or "").split())]
            name = "/".join(str(run[column]) for column in RUN)
            weights = self._entity(
                f"#weights-{run['run']}", "CreativeWork", name=f"weights of {name}, not in the archive"
            )
            trained = {column: run[f"trained_{column}"] for column in ("commit", "dirty", "device", "threads")}
            done = run["status"] == "completed"
            error = None if done else f"{run['status']}: {run['message'] or 'no message'}"
            self._action(f"#training-{run['run']}", f"training of {name}", trained, read, [weights] * done, error)
            if done:
                identifier = f"#scoring-{run['run']}-{run['config_hash']}"
                self._action(identifier, f"scoring of {name}", run, [weights, *read], [rows, runs])
        for account in records(results.accounting):
            name = "/".join(str(account[column]) for column in METHOD)
            self._action(f"#counting-{name}", f"counting of costs of {name}", account, [config], [accounting])

    def _describe(self, origin: Origin, date: str) -> None:
        version, citation, root = origin.results.version, origin.citation, self.crate.root_dataset
        assert version is not None
        root["name"] = f"{citation['title']}: result set {origin.results.name}, {version.cited}"
        root["description"] = (
            "Scores, costs and provenance of every run of a benchmark of deep unfolding networks. APPENDIX.md has "
            "hardware, software, time, memory, seeds and data, SHA256SUMS the hash of every file. An action names all "
            "datasets of its run. Who started it, and when, is not recorded. Weights are not part of the archive."
        )
        root["author"] = [
            self._entity(f"#author-{number}", "Organization" if "name" in author else "Person", name=_name(author))
            for number, author in enumerate(citation["authors"], 1)
        ]
        root["conformsTo"] = self._entity(PROFILE, ["CreativeWork", "Profile"], name="Process Run Crate", version="0.5")
        root["datePublished"], root["license"], root["version"] = date, self._files["LICENSE"], str(version.version)

    def _file(self, name: str, content: bytes) -> Any:
        digest = hashlib.sha256(content).hexdigest()
        about = {"name": PurePosixPath(name).name, "contentSize": str(len(content)), "sha256": digest}
        return self.crate.add_file(dest_path=name, properties=about)

    def _software(self, line: Mapping[str, Any]) -> Any:
        """The code at the commit of a line, with its packages if it knows them."""
        commit = line.get("commit") or "not recorded"
        packages = f"python={line.get('python')} {line.get('versions')}" if line.get("versions") else "not recorded"
        about = f"commit {commit}, files differed from it: {line.get('dirty')}, packages: {packages}"
        identifier = f"#lorun-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
        software = "SoftwareApplication"
        return self._entity(identifier, software, name="LoRun suite", softwareVersion=commit, description=about)

    def _action(
        self,
        identifier: str,
        name: str,
        line: Mapping[str, Any],
        read: list[Any],
        made: list[Any],
        error: str | None = None,
    ) -> None:
        """An action by the code and on the machine of a line of a table; it failed if there is an `error`."""
        about = {
            "name": name,
            "description": f"Device: {line.get('device') or 'not recorded'}, threads: {line.get('threads')}",
            "actionStatus": f"http://schema.org/{'Failed' if error else 'Completed'}ActionStatus",
        }
        if error:
            about["error"] = error
        action = self.crate.add_action(self._software(line), identifier, read, made, about)
        self.crate.root_dataset.append_to("mentions", action)

    def _entity(self, identifier: str, kind: str | list[str], /, **properties: Any) -> Any:
        """An entity of the context, made once; properties that are None are left out."""
        from rocrate.model.contextentity import ContextEntity

        given = {name: value for name, value in properties.items() if value is not None}
        held = self.crate.dereference(identifier)
        return held or self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind, **given}))


def _name(author: Mapping[str, str]) -> str:
    return author.get("name") or " ".join(filter(None, (author.get("given-names"), author.get("family-names"))))
