"""The recipes of CI say the same as `.ci/run`, and call what there is."""

import re

import pytest
import yaml
from tiny import PROJECT

MAKE = re.compile(r"\bmake ([a-z]+(?: [A-Z]+=\w+)*)")


def github():
    jobs = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


def gitlab():
    return yaml.safe_load((PROJECT / ".gitlab-ci.yml").read_text())["ci"]["script"]


def called(lines):
    """The targets of make, each at its first place."""
    code = [line for line in "\n".join(lines).splitlines() if not line.lstrip().startswith("#")]
    return list(dict.fromkeys(MAKE.findall("\n".join(code))))


@pytest.mark.parametrize("recipe", [github, gitlab])
def test_recipes_make_what_ci_makes_in_the_same_order(recipe):
    ours = called((PROJECT / ".ci/run").read_text().splitlines())
    assert called(recipe()) == ours == ["lint", "test", "reproduce PROFILE=smoke", "gate PROFILE=smoke", "docs"]


def test_what_they_make_is_there():
    targets = set(re.findall(r"(?m)^([a-z]+):", (PROJECT / "Makefile").read_text()))
    assert {target.split()[0] for target in called(github())} <= targets


def test_the_gate_of_make_writes_what_the_recipes_take():
    rule = (PROJECT / "Makefile").read_text().split("\ngate:")[1].split("\n\n")[0]
    for text in ((PROJECT / ".github/workflows/ci.yml").read_text(), (PROJECT / ".gitlab-ci.yml").read_text()):
        for path in re.findall(r"gate/[a-z]+\.[a-z]+", text):
            assert path in rule, path


def test_the_reference_of_the_gate_is_committed():
    held = PROJECT / "results/smoke"
    assert all((held / name).is_file() for name in ("rows.csv", "accounting.csv", "trainings.csv", "summary.csv"))
