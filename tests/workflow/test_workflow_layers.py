"""The library does not know the workflow."""

import ast

import pytest
from tiny import PROJECT

MODULES = sorted(path for folder in ("lorun", "baselines") for path in (PROJECT / folder).rglob("*.py"))
WORKFLOW = {"snakemake", "dvc", "workflow"}


def imported(source):
    """The top-level packages that a module imports anywhere, also inside functions and by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            yield from (str(a.value).split(".")[0] for a in node.args if isinstance(a, ast.Constant))


@pytest.mark.parametrize(
    "source",
    [
        "import os, snakemake.utils",
        "def f():\n    from dvc.repo import Repo",
        "import importlib\nimportlib.import_module('snakemake')",
        "__import__('dvc')",
    ],
)
def test_an_import_of_the_workflow_would_be_found(source):
    assert set(imported(source)) & WORKFLOW


def test_there_are_modules_to_look_at():
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_the_library_imports_neither_snakemake_nor_dvc(path):
    assert not set(imported(path.read_text(encoding="utf-8"))) & WORKFLOW
