"""What an archive holds, and that the same set gives the same bytes."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from archived import DATE, Made
from made_up import git, write_runs, write_scores, write_training
from tiny import PROJECT

from lorun.archive.crate import PROFILE
from lorun.archive.verify import verify
from lorun.errors import LorunError
from lorun.profiles import load_profile
from lorun.results.result_set import write_result_set
from lorun.results.store import METHOD, read_result_set, records

BESIDE = {"APPENDIX.md", "CITATION.cff", "LICENSE", "SHA256SUMS", "ro-crate-metadata.json"}


def graph(folder: Path) -> dict[str, dict]:
    """The entities of the RO-Crate by id."""
    entities = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    assert len({one["@id"] for one in entities}) == len(entities)
    return {one["@id"]: one for one in entities}


def listed(value: object) -> list[dict]:
    return value if isinstance(value, list) else [value]


def test_it_holds_the_set_with_its_origin(made: Made, unpacked: Path) -> None:
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    tables = {f"results/tiny/{path.name}" for path in made.folder.iterdir()}
    assert files == {*BESIDE, "config/tiny.yaml", "config/base.yaml", *tables}
    assert {"results/tiny/rows.csv", "results/tiny/version.json", "results/tiny/summary.md"} <= files
    for name in ("config/tiny.yaml", "config/base.yaml", "CITATION.cff", *tables):
        assert (unpacked / name).read_bytes() == (made.root / name).read_bytes()


def test_other_files_in_the_folder_stay_out_of_it(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "tiny")
    for name in ("notes.csv", "keys.json", ".hidden.md", "report.html"):
        (tmp_path / "tiny" / name).write_text("")
    made._replace(folder=tmp_path / "tiny").write(tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == made.archive.read_bytes()


def test_the_tuned_choices_of_a_committed_set_are_in_it(tmp_path: Path) -> None:
    project = Made(
        PROJECT, PROJECT / "config/desk.yaml", PROJECT / "results/desk", PROJECT / "data", tmp_path / "a.zip"
    )
    project.write(project.archive)
    with zipfile.ZipFile(project.archive) as archive:
        assert {"config/desk.yaml", "config/base.yaml", "config/tuned/desk.csv"} <= {*archive.namelist()}
        assert archive.read("config/tuned/desk.csv") == (PROJECT / "config/tuned/desk.csv").read_bytes()


def test_the_same_set_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    """At another time, in another folder, with other times of files and another order of sets in memory."""
    copy = tmp_path / "copy"
    shutil.copytree(made.root, copy)
    shutil.copytree(made.data, copy / "data")
    command = [sys.executable, "-m", "lorun", "export", "results/tiny", "--out", "again.zip", "--date", DATE]
    environment = {"PATH": "", "PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run(command, cwd=copy, check=True, env=environment)
    assert (copy / "again.zip").read_bytes() == made.archive.read_bytes()


def test_its_entries_are_plain_files_in_order(made: Made) -> None:
    with zipfile.ZipFile(made.archive) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_the_hashes_are_those_of_sha256sum(unpacked: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=unpacked, check=True)


# The date


def test_its_date_is_that_of_the_last_commit_of_the_set(made: Made, tmp_path: Path) -> None:
    root = tmp_path / "clone"
    shutil.copytree(made.root, root)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "-c", "commit.gpgsign=false", "commit", "-qm", "set")
    project = made._replace(root=root, folder=root / "results/tiny", config=root / "config/tiny.yaml")
    project.write(tmp_path / "dated.zip", date=None)
    day = git(root, "log", "-1", "--format=%cs")
    with zipfile.ZipFile(tmp_path / "dated.zip") as archive:
        assert f'"datePublished": "{day}"' in archive.read("ro-crate-metadata.json").decode()


def test_without_git_a_date_is_needed(made: Made, tmp_path: Path) -> None:
    with pytest.raises(LorunError, match="give --date"):
        made.write(tmp_path / "a.zip", date=None)
    assert not (tmp_path / "a.zip").exists()


# What is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CITATION.cff", "CITATION.cff: cannot be read: No such file or directory; start from the project's root"),
        ("LICENSE", "LICENSE: cannot be read"),
        ("results/tiny/rows.csv", "no result set here"),
        ("results/tiny/version.json", "version.json: missing; `lorun table` writes it"),
        ("config/tiny.yaml", "unknown profile"),
    ],
)
def test_a_file_that_is_missing(made: Made, tmp_path: Path, name: str, message: str) -> None:
    root = tmp_path / "copy"
    shutil.copytree(made.root, root)
    (root / name).unlink()
    project = made._replace(root=root, folder=root / "results/tiny", config=root / "config/tiny.yaml")
    with pytest.raises(LorunError, match=re.escape(message)):
        project.write(tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("content", ["- a list\n", "title: no authors\n", ""])
def test_a_citation_without_title_or_authors_is_refused(made: Made, tmp_path: Path, content: str) -> None:
    root = tmp_path / "copy"
    shutil.copytree(made.root, root)
    (root / "CITATION.cff").write_text(content)
    with pytest.raises(LorunError, match=r"CITATION\.cff: expected a mapping with `title` and `authors`"):
        made._replace(root=root).write(tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_damaged_set_is_not_exported(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "tiny")
    rows = tmp_path / "tiny/rows.csv"
    rows.write_text(rows.read_text().replace("20.0", "29.0", 1))
    with pytest.raises(LorunError, match="rows.csv: not what was written"):
        made._replace(folder=tmp_path / "tiny").write(tmp_path / "a.zip")


def test_a_profile_that_extends_one_outside_its_folder_is_refused(made: Made, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    shutil.copy(made.root / "config/base.yaml", tmp_path / "outside.yaml")
    config = tmp_path / "config/tiny.yaml"
    config.write_text("extends: ../outside.yaml\nprofile: tiny\nseeds: [0, 1]\n")
    with pytest.raises(LorunError, match="unsafe path 'config/../outside.yaml'"):
        made._replace(config=config).write(tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_without_rocrate_one_line_says_what_to_install(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(LorunError, match=r"needs the package rocrate: `pip install 'lorun\[archive\]'`"):
        made.write(made.root / "a.zip")


# The RO-Crate


def test_every_reference_of_the_crate_has_an_entity(unpacked: Path) -> None:
    entities = graph(unpacked)
    named = set()
    for entity in entities.values():
        for value in entity.values():
            named |= {one["@id"] for one in listed(value) if isinstance(one, dict)}
    assert named - entities.keys() == {"https://w3id.org/ro/crate/1.1"}


def test_the_crate_describes_every_file(unpacked: Path) -> None:
    entities = graph(unpacked)
    parts = {one["@id"] for one in entities["./"]["hasPart"]}
    hashes = dict(line.split("  ")[::-1] for line in (unpacked / "SHA256SUMS").read_text().splitlines())
    assert parts == hashes.keys() - {"ro-crate-metadata.json"}
    for name in parts:
        assert entities[name]["sha256"] == hashes[name]
        assert entities[name]["contentSize"] == str((unpacked / name).stat().st_size)
    assert entities["./"]["conformsTo"] == {"@id": PROFILE}
    assert entities["./"]["datePublished"] == DATE


def test_the_crate_has_an_action_for_each_training_scoring_and_counting(made: Made, unpacked: Path) -> None:
    results, entities = read_result_set(made.folder), graph(unpacked)
    actions = [entities[one["@id"]] for one in entities["./"]["mentions"]]
    names = {action["name"] for action in actions}
    runs = {"/".join(str(run[name]) for name in (*METHOD, "seed")) for run in records(results.runs)}
    assert {name for name in names if name.startswith("training")} == {f"training of {run}" for run in runs}
    assert {name for name in names if name.startswith("scoring")} == {f"scoring of {run}" for run in runs}
    assert len(names) == len(actions) == 2 * len(runs) + len(results.accounting)
    for action in actions:
        assert action["@type"] == "CreateAction"
        assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
        assert "endTime" not in action  # it is not recorded
    scoring = next(action for action in actions if action["name"] == "scoring of cs/r25/lorun/1")
    software = entities[scoring["instrument"]["@id"]]
    assert software["softwareVersion"] == "f" * 40
    assert "files differed from it: False" in software["description"]
    assert "packages: python=3.11.7 torch=2.15.0" in software["description"]
    assert {"@id": "results/tiny/rows.csv"} in scoring["result"]
    training = next(action for action in actions if action["name"] == "training of cs/r25/lorun/1")
    assert entities[training["instrument"]["@id"]]["softwareVersion"] == "e" * 40


def test_a_run_that_diverged_is_a_failed_action_and_one_that_was_not_made_is_none(made: Made, tmp_path: Path) -> None:
    profile = load_profile(made.config)
    runs = write_runs(profile, tmp_path / "runs", "checks")
    lost = profile.experiment("cs", "r25", "lorun", 1)
    write_training(lost, runs, status="diverged", message="loss is nan")
    write_scores(lost, runs, (), 0.0, status="diverged", message="loss is nan")
    shutil.rmtree(runs / profile.experiment("cs", "r25", "shared", 1).folder)
    write_result_set(profile, runs, tmp_path / "tiny", partial=True, data=made.data)
    made._replace(folder=tmp_path / "tiny").write(tmp_path / "a.zip")
    verify(tmp_path / "a.zip")
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "a")
    named = {one.get("name"): one for one in graph(tmp_path / "a").values()}
    training = named["training of cs/r25/lorun/1"]
    assert training["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert training["error"] == "diverged: loss is nan"
    assert not {"scoring of cs/r25/lorun/1", "training of cs/r25/shared/1", "scoring of cs/r25/shared/1"} & named.keys()
    assert "16 runs (14 completed, 1 not_run, 1 diverged)" in (tmp_path / "a/APPENDIX.md").read_text()


def test_the_validator_of_ro_crates_finds_nothing(unpacked: Path) -> None:
    """By the profile of process runs: all that it requires. It asks the network for the contexts."""
    validator = shutil.which("rocrate-validator")
    if validator is None:
        pytest.skip(
            "needs rocrate-validator on PATH: `uv tool install roc-validator` (it wants an older rich than ours)"
        )
    options = ["--profile-identifier", "process-run-crate", "--requirement-severity", "required"]
    command = [validator, "--no-interactive", "validate", *options, "--verbose", "--no-paging", str(unpacked)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    report = " ".join((result.stdout + result.stderr).split())
    if "Unable to retrieve the JSON-LD context" in report or "URLError" in report:
        pytest.skip("rocrate-validator cannot reach the JSON-LD contexts, and has none in its cache")
    assert result.returncode == 0, report


# The citation


def test_the_citation_fits_its_schema() -> None:
    schema = ["--builtin-schema", "vendor.citation-file-format"]
    command = [sys.executable, "-m", "check_jsonschema", *schema, "CITATION.cff"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_citation_has_the_version_and_licence_of_the_package() -> None:
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])
