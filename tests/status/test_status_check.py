"""Which edits make which results stale."""

from pathlib import Path

import pytest
import yaml
from recorded import COMMON, COUNTING, LOCK, OF_METHOD, SCORING, SOURCE, TRAINING, Suite
from tiny import PROJECT

from lorun.errors import LorunError
from lorun.profiles import load_profile
from lorun.provenance import reading_rules
from lorun.status.project import Project
from lorun.training.outcome import WEIGHTS

METHODS = tuple(OF_METHOD)


def reasons(kind: str, *steps: str, methods: tuple[str, ...] = METHODS) -> dict[str, set[str]]:
    """What `Suite.reasons` gives if these steps are stale for one reason."""
    of_run = {f"{step} {kind}" for step in steps if step != "account"}
    runs = {method: of_run for method in methods if of_run}
    return runs | ({f"{method} account": {f"account {kind}"} for method in methods} if "account" in steps else {})


ALL = ("train", "evaluate", "account")


def test_results_of_the_code_that_is_there_are_fresh(suite: Suite) -> None:
    assert suite.reasons() == {}
    assert [result.steps for result in suite.checked()] == [[]] * 9


@pytest.mark.parametrize("path", [COMMON, TRAINING, *OF_METHOD.values()])
def test_words_and_layout_make_nothing_stale(suite: Suite, path: str) -> None:
    suite.write(path, "'''Reworded.'''\nSIZE = (\n  1)\n")
    assert suite.reasons() == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (COMMON, reasons("code", *ALL)),
        (TRAINING, reasons("code", "train")),
        (SCORING, reasons("code", "evaluate")),
        (COUNTING, reasons("code", "account")),
        *((path, reasons("code", *ALL, methods=(method,))) for method, path in OF_METHOD.items()),
        ("lorun/unloaded.py", {}),
        ("lorun/new.py", {}),
    ],
)
def test_an_edit_makes_stale_what_loaded_the_module(suite: Suite, path: str, expected: dict[str, set[str]]) -> None:
    suite.write(path, SOURCE.replace("1", "2"))
    assert suite.reasons() == expected
    named = {detail for result in suite.checked() for reason in result.reasons for detail in reason.details}
    assert named == ({path} if expected else set())


def test_a_module_that_is_gone_makes_stale(suite: Suite) -> None:
    (suite.root / OF_METHOD["lorun"]).unlink()
    assert suite.reasons() == reasons("code", *ALL, methods=("lorun",))


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("data/tiny.md5", "0", "1", reasons("data", "train")),
        ("data/registry.yaml", "gray/*", "*", reasons("code", "train", "evaluate", "account")),
        ("data/registry.yaml", "images", "pictures", {}),
        ("requirements.lock", "torch==2.15.0", "torch==2.16.0", reasons("packages", "train", "account")),
        ("requirements.lock", "numpy==2.5.5", "numpy==2.6.0", {}),
    ],
)
def test_data_and_packages(suite: Suite, path: str, old: str, new: str, expected: dict[str, set[str]]) -> None:
    suite.write(path, (suite.root / path).read_text().replace(old, new))
    assert suite.reasons() == expected


def test_data_without_a_manifest_are_unknown(suite: Suite) -> None:
    (suite.root / "data/tiny.md5").unlink()
    suite.write("data/other.md5", "")
    assert suite.reasons() == reasons("unknown", "train")
    assert {result.state for result in suite.checked() if result.seed is not None} == {"unknown"}


def test_the_configuration_is_compared_by_its_hashes(suite: Suite) -> None:
    suite.change_task(evaluation={"protocols": ["cs_float_y"]})
    assert suite.reasons() == reasons("configuration", "evaluate")
    suite.change_task(accounting={"image": 32})
    assert suite.reasons() == reasons("configuration", "evaluate", "account")
    suite.change("config/scratch.yaml", lambda content: content["tasks"]["cs"]["training"].update(batch=3))
    trained = reasons("configuration", "train", methods=("block_k", "lorun"))
    assert suite.reasons() == reasons("configuration", "evaluate", "account") | trained


def test_methods_come_and_go(suite: Suite) -> None:
    suite.change_task(strategies=["block_k", "shared"])
    assert suite.reasons() == (
        reasons("not in the profile", "train", "account", methods=("lorun",))
        | reasons("no result", "train", "account", methods=("shared",))
    )
    found = {(result.method, result.state, tuple(result.steps)) for result in suite.checked() if result.seed == 0}
    assert found >= {("lorun", "stale", ()), ("shared", "missing", ("train", "evaluate"))}


@pytest.mark.parametrize("status", ["not_run", "failed"])
def test_a_run_without_a_result_is_missing(suite: Suite, status: str) -> None:
    suite.set_column("runs", "status", status, "lorun")
    assert suite.reasons() == reasons("no result", "train", methods=("lorun",))


@pytest.mark.parametrize(("table", "column", "step"), [("runs", "trained_code", "train"), ("runs", "code", "evaluate")])
def test_runs_from_before_code_was_recorded_are_unknown(suite: Suite, table: str, column: str, step: str) -> None:
    suite.set_column(table, column, None, "lorun")
    assert suite.reasons() == reasons("unknown", step, methods=("lorun",))
    suite.write(COMMON, SOURCE.replace("1", "2"))
    assert {result.state for result in suite.checked()} == {"stale"}


def test_accounts_from_before_code_was_recorded_are_unknown(suite: Suite) -> None:
    suite.set_column("accounting", "code", None)
    assert suite.reasons() == reasons("unknown", "account")


def test_scores_need_weights(suite: Suite) -> None:
    """Without them, a training comes first."""
    suite.write(SCORING, SOURCE.replace("1", "2"))
    steps = {result.method: result.steps for result in suite.checked() if result.seed == 0}
    assert steps["lorun"] == ["train", "evaluate"]
    suite.write(f"runs/{suite.experiment('lorun').folder}/{WEIGHTS}", "")
    steps = {result.method: result.steps for result in suite.checked() if result.seed == 0}
    assert (steps["lorun"], steps["block_k"]) == (["evaluate"], ["train", "evaluate"])


def test_the_seconds_of_a_training_are_its_own_or_those_of_similar_ones(suite: Suite) -> None:
    suite.write(TRAINING, SOURCE.replace("1", "2"))
    timing = suite.results.timing
    suite.set_column("timing", "seconds", None, "lorun")
    seconds = [result.seconds for result in suite.checked() if result.method == "lorun" and result.seed == 0]
    assert seconds == [timing[timing.method != "lorun"].seconds.median()]
    suite.set_column("timing", "seconds", None)
    assert {result.seconds for result in suite.checked() if result.seed is not None} == {None}


def test_the_names_of_released_weights_are_rules_of_reading(tmp_path: Path) -> None:
    profile = load_profile(PROJECT / "config" / "published.yaml")
    experiment = profile.experiment("cs", "r25", "ista_net", 0)
    card = tmp_path / "baselines" / "ista_net" / "card.yaml"
    card.parent.mkdir(parents=True)
    (tmp_path / "data").symlink_to(PROJECT / "data")
    found = []
    for content in ({"title": "A", "released_names": {"a": "b"}}, {"title": "B", "released_names": {"a": "b"}}, {}):
        card.write_text(yaml.safe_dump(content))
        found.append(reading_rules(experiment, experiment.datasets, tmp_path))
    assert list(found[0]) == [
        *(f"data/registry.yaml: {name}" for name in experiment.datasets),
        "baselines/ista_net/card.yaml: released_names",
    ]
    assert found[0] == found[1] != found[2]


def test_a_folder_without_the_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match=r"there is no lorun/ here; start from the project's root"):
        Project(tmp_path)


def test_packages_may_be_locked_for_several_versions_of_python(suite: Suite) -> None:
    project = Project(suite.root)
    assert project.other_versions("numpy=2.4.6 torch=2.15.0+cu128") == project.other_versions("numpy=2.5.5") == ()
    assert project.other_versions("numpy=2.4.0 other=1.0") == (
        "numpy 2.4.0 (locked: 2.4.6 or 2.5.5)",
        "other 1.0 (locked: none)",
    )
    assert LOCK.count("numpy") == 2
