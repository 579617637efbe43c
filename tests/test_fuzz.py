"""Random profiles, and run and result files with random damage: a line that says what is wrong, or a result that holds.

`FUZZ` in the environment is the number of examples of each test; `make fuzz` tries 1,000.
"""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_up import write_runs
from tiny import PROFILE

from lorun.errors import LorunError
from lorun.profiles import Profile, load_profile, profile_schema
from lorun.results.paths import account_path
from lorun.results.result_set import checked_evaluation, write_result_set
from lorun.results.store import read_account, read_result_set
from lorun.training import read_outcome

pytestmark = pytest.mark.fuzz

COUNT = int(os.environ.get("FUZZ", "20"))
tried = settings(max_examples=COUNT, deadline=None, suppress_health_check=[*HealthCheck], derandomize=False)

LONGEST = 2500  # characters of a message

# Profiles

SCHEMA = profile_schema()
PROPERTIES = [
    (name, about)
    for part in (SCHEMA, *SCHEMA["$defs"].values())
    for name, about in sorted(part.get("properties", {}).items())
]

ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**9, 10**15, 10**30, 10**4000),
        *(0.0, -0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan")),
        *("", " ", "NA", "10", "2.5", "yes", "../../x", "a/b", ".hidden", "a\0b", "a`touch x`", "ä", "x" * 20_000),
        *([], [[]], [0, 0], {}, {"name": "unet"}, {"name": []}, {"": {}}, {1: 2}, {None: None}),
    ]
)
ANY = ODD | st.integers() | st.floats() | st.text(max_size=5) | st.lists(ODD, max_size=3)


def edges(about: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values around the bounds of a property, its choices, or anything."""
    found: list[Any] = list(about.get("enum", []))
    for part in (about, *about.get("anyOf", [])):
        bounds = (part.get(name) for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"))
        found += [bound + step for bound in bounds if bound is not None for step in (-1, 0, 1, 1e-9)]
    return st.sampled_from(found) | ANY if found else ANY


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


@st.composite
def profiles(draw: st.DrawFn) -> dict[str, Any]:
    """The tiny profile with a few keys of another type, value, name or depth, or with keys of the schema anywhere."""
    content: Any = {"all": copy.deepcopy(PROFILE)}
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([path for path in places(content) if len(path) > 1]))
        holder = content
        for key in parents:
            holder = holder[key]
        how = draw(st.sampled_from(["value", "near", "name", "deeper", "gone", "schema"]))
        if how == "value":
            holder[last] = copy.deepcopy(draw(ANY))  # what is drawn is shared, and the next change may be inside
        elif how == "near" and isinstance(holder[last], int | float):
            holder[last] = draw(st.sampled_from([-holder[last], holder[last] * 10**9, holder[last] + 0.5]))
        elif how == "name" and isinstance(holder, dict):
            holder[draw(ODD.filter(lambda key: isinstance(key, str | int | float | None)))] = holder.pop(last)
        elif how == "deeper":
            holder[last] = draw(st.sampled_from([[holder[last]], {"a": holder[last]}]))
        elif how == "gone":
            del holder[last]
        elif isinstance(holder, dict):
            name, about = draw(st.sampled_from(PROPERTIES))
            holder[name] = copy.deepcopy(draw(edges(about)))
    return content["all"]


@tried
@given(content=profiles())
@example(content={**PROFILE, "extends": "a\0b"})
def test_a_profile_is_refused_in_a_line_or_can_be_listed(tmp_path_factory, tally, content) -> None:
    path = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    path.write_text(text, encoding="utf-8")
    tally[listed(path)] += 1


@tried
@given(place=st.floats(0, 1), more=st.text(alphabet="[]{}:,&*!|>'\"#%@`-? \n\tab01", max_size=8))
def test_a_text_that_is_hardly_a_profile_is_refused_or_can_be_listed(tmp_path_factory, tally, place, more) -> None:
    text = yaml.safe_dump(PROFILE)
    at = int(place * len(text))
    path = tmp_path_factory.mktemp("profile") / "tiny.yaml"
    path.write_text(text[:at] + more + text[at + len(more) :])
    tally[listed(path)] += 1


def listed(path: Path) -> str:
    """Whether the profile is "accepted" or "refused"."""
    try:
        profile = load_profile(path)
    except LorunError as error:
        assert_short(error)
        return "refused"
    assert isinstance(profile, Profile)
    assert all(str(one.folder).count("/") == 3 for one in profile.experiments())
    return "accepted"


def assert_short(error: LorunError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < LONGEST


# Files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """Runs of the tiny profile and their result set, beside its file."""
    root = tmp_path_factory.mktemp("made")
    (root / "tiny.yaml").write_text(yaml.safe_dump(PROFILE))
    profile = load_profile(root / "tiny.yaml")
    write_runs(profile, root / "runs", "checks", "blobs")
    write_result_set(profile, root / "runs", root / "results")
    return profile, root


@tried
@given(
    which=st.integers(0, 10**6),
    damage=st.sampled_from(["flip", "cut", "repeat", "swap"]),
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(1, 255),
)
def test_a_damaged_file_is_named_in_a_line_and_never_changes_a_score(made, tally, which, damage, place, value) -> None:
    profile, root = made
    experiment = profile.experiment("cs", "r25", "lorun", 0)
    folder = root / "runs" / experiment.folder
    files = [folder / name for name in ("training.json", "evaluation.csv", "evaluation.json")]
    files += [account_path(root / "runs", experiment), *sorted((root / "results").glob("*.csv"))]
    files += [root / "results/version.json", root / "results/code.json"]
    path = files[which % len(files)]
    whole = path.read_bytes()
    at = int(place * len(whole))
    spoilt = {
        "flip": whole[:at] + bytes([whole[at] ^ value]) + whole[at + 1 :],
        "cut": whole[:at],
        "repeat": whole[:at] + whole[at // 2 :],
        "swap": files[(which + value) % len(files)].read_bytes(),
    }[damage]
    before = read_result_set(root / "results").rows
    path.write_bytes(spoilt)
    try:
        read_outcome(folder)
        _, rows = checked_evaluation(experiment, folder / "evaluation.csv")
        read_account(account_path(root / "runs", experiment))
        after = read_result_set(root / "results").rows
    except LorunError as error:
        assert_short(error)
        tally["refused"] += 1
    else:
        assert after.equals(before)
        assert len(rows) == 8
        tally["accepted"] += 1
    finally:
        path.write_bytes(whole)
