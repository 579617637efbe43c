"""The layers of the code: packages without cycles, and a library that knows no workflow and no single baseline."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import PROJECT

LIBRARY = sorted((PROJECT / "lorun").rglob("*.py"))
BASELINES = sorted((PROJECT / "baselines").rglob("*.py"))
WORKFLOW = {"snakemake", "dvc", "workflow"}


def imports(node: ast.AST) -> Iterator[str]:
    """The full name of everything that code imports, also inside functions, except under `if TYPE_CHECKING`."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children: list[ast.AST] = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
        yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))
    for child in children:
        yield from imports(child)


def imports_of(path: Path) -> set[str]:
    return set(imports(ast.parse(path.read_text(encoding="utf-8"))))


def packages_of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def package_graph(files: dict[str, set[str]]) -> dict[str, set[str]]:
    """Node -> the nodes that it imports. A node is a package or module right below `lorun`, or `lorun` itself.

    `files` maps the path of each file below `lorun` to the names that it imports.
    """
    nodes = {path.split("/")[0].removesuffix(".py") for path in files} - {"__init__"}
    graph: dict[str, set[str]] = {}
    for path, names in files.items():
        node = path.split("/")[0].removesuffix(".py").replace("__init__", "lorun")
        parts = [name.split(".") for name in names if name.split(".")[0] == "lorun"]
        used = {part[1] if len(part) > 1 and part[1] in nodes else "lorun" for part in parts}
        graph.setdefault(node, set()).update(used - {node})
    return graph


def cycle_in(graph: dict[str, set[str]]) -> str | None:
    """A cycle such as "a -> b -> a", where -> means "imports"; None where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os, snakemake.utils", {"os", "snakemake"}),
        ("def f():\n    from dvc.repo import Repo", {"dvc"}),
        ("import importlib\nimportlib.import_module('snakemake')", {"importlib", "snakemake"}),
        ("__import__('dvc')", {"dvc"}),
        ("if TYPE_CHECKING:\n    import dvc\nelse:\n    import os", {"os"}),
    ],
)
def test_imports_are_found_wherever_they_are(source: str, found: set[str]) -> None:
    assert packages_of(set(imports(ast.parse(source)))) == found


def test_a_cycle_is_found_and_named() -> None:
    files = {
        "__init__.py": set(),
        "a/__init__.py": {"lorun.b.C", "os"},
        "a/deep/one.py": {"lorun.a.two"},
        "b.py": {"lorun.c"},
        "c/x.py": {"lorun.a.deep.one.f", "lorun.__version__"},
    }
    assert cycle_in(package_graph(files)) in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")
    assert cycle_in(package_graph({**files, "b.py": {"lorun.__version__"}})) is None


def test_packages_import_each_other_in_one_direction() -> None:
    graph = package_graph({str(path.relative_to(PROJECT / "lorun")): imports_of(path) for path in LIBRARY})
    assert {"lorun", "physics", "methods", "training", "cli"} <= graph.keys()
    assert cycle_in(graph) is None


@pytest.mark.parametrize("path", [*LIBRARY, *BASELINES], ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_module_imports_neither_the_workflow_nor_a_baseline(path: Path) -> None:
    assert not packages_of(imports_of(path)) & {*WORKFLOW, "baselines"}
