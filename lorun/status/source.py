"""Python source as far as it computes: definitions without their comments, docstrings and annotations."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from lorun.errors import LorunError
from lorun.revisions import Files

_HARMLESS = {
    *("cache", "lru_cache", "contextmanager", "dataclass", "no_grad", "inference_mode"),
    *("property", "cached_property", "staticmethod", "classmethod"),
}
"""Decorators that give a function or class to nobody, and do not read annotations."""

_WORDED = {"LorunError", "UnknownName"}
"""Errors that end a command: no number depends on what they say."""

_TEXTS = {"Field": {"description"}, "Protocol": {"image", "source"}}
"""Arguments that tell people what a thing is."""


@dataclass(frozen=True)
class Facts:
    """What a statement, or a part of a class, says.

    text         its syntax tree as text
    references   dotted names as they are written, such as "train" or "seeds.generator"
    mentions     every identifier and text within, attributes, arguments and keywords too
    imported     what it imports itself: local name -> module, name in it (None: the module)
    """

    text: str
    references: frozenset[str]
    mentions: frozenset[str]
    imported: Mapping[str, tuple[str, str | None]]


@dataclass(eq=False)  # one is itself alone: what is found in it may be remembered
class Module:
    """A module's top-level definitions by name, and what happens when it is imported beside defining them."""

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)

    @cached_property
    def imports(self) -> list[str]:
        """The modules that its import statements may name: those and, of `from a import b`, `a.b`."""
        found = [[module, f"{module}.{name}"] if name else [module] for module, name in self.imported.values()]
        return sorted({one for names in found for one in names})


def modules_of(files: Files) -> dict[str, Module]:
    """The modules among the files of a project, by dotted name.

    Raises:
        LorunError: a file is not Python that this interpreter reads.
    """
    try:
        return {name: _parsed(name, path, files[path]) for path in files if (name := _module_name(path)) is not None}
    except SyntaxError as error:
        raise LorunError(f"{error.filename}, line {error.lineno}: not Python that is read here: {error.msg}") from None


def _module_name(path: str) -> str | None:
    if not path.endswith(".py"):
        return None
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@lru_cache(maxsize=4096)  # most modules are the same at most commits
def _parsed(name: str, path: str, content: bytes) -> Module:
    tree = _Computing().visit(ast.parse(content, filename=path))
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    module = Module(name)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            module.imported |= _imported(statement, package)
            continue
        names = list(_bound(statement))
        for bound in names:
            module.definitions.setdefault(bound, []).append(statement)
        if not names or not _only_defines(statement):
            module.effects.append(statement)
    within = _ImportsWithin(package)
    for statement in tree.body:
        within.visit(statement)
    return module


class _ImportsWithin(ast.NodeTransformer):
    """Of imports within definitions it leaves their text out where they are from the project: what its names stand for
    is found, wherever it lies."""

    def __init__(self, package: str) -> None:
        self.package = package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        node.module, node.level = _absolute(node, self.package), 0
        if node.module.partition(".")[0] != self.package.partition(".")[0]:
            return node
        silent = ast.Pass()
        silent.imported = _imported(node, "")  # type: ignore[attr-defined]
        return silent


class _Computing(ast.NodeTransformer):
    """Leaves out what does not compute. Where that would leave a body empty, it passes."""

    _in_class = False

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for part in ("body", "orelse", "finalbody"):
            body = getattr(node, part, None)
            if isinstance(body, list):
                kept = [one for one in body if not _is_text(one)]
                empty = part == "body" and not kept and not isinstance(node, ast.Module)
                setattr(node, part, [ast.Pass()] if empty else kept)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if all(_decorator(one) in _HARMLESS for one in node.decorator_list):
            node.returns = None
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                argument.annotation = None
            for several in (arguments.vararg, arguments.kwarg):
                if several is not None:
                    several.annotation = None
        return self._within(node, in_class=False)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._within(node, in_class=True)

    def _within(self, node: ast.AST, in_class: bool) -> ast.AST:
        outside, self._in_class = self._in_class, in_class
        self.generic_visit(node)
        self._in_class = outside
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if self._in_class:  # fields, whose types matter
            return node
        return None if node.value is None else ast.Assign(targets=[node.target], value=node.value)

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return [self.visit(one) for one in node.orelse] or None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name) and node.exc.func.id in _WORDED:
            return ast.Raise(exc=node.exc.func, cause=None)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name):
            texts = _TEXTS.get(node.func.id, set())
            node.keywords = [one for one in node.keywords if one.arg not in texts]
        return self.generic_visit(node)


def _is_text(statement: ast.stmt) -> bool:
    """Docstrings, and texts below a name that tell of it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _decorator(node: ast.expr) -> str:
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement gives a value to."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    targets: list[ast.AST] = list(getattr(statement, "targets", [statement]))
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    # A comprehension's variables are no names of the module.
    for node in (node for target in targets for node in ast.walk(target)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]


def _only_defines(statement: ast.stmt) -> bool:
    """Whether nothing comes of it unless somebody uses a name that it binds."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return all(_decorator(one) in _HARMLESS for one in statement.decorator_list)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, tuple[str, str | None]]:
    if isinstance(statement, ast.ImportFrom):
        module = _absolute(statement, package)
        return {one.asname or one.name: (module, one.name) for one in statement.names}
    found: dict[str, tuple[str, str | None]] = {}
    for one in statement.names:
        local = one.asname or one.name.partition(".")[0]
        found[local] = (one.name if one.asname else local, None)
        found.setdefault(one.name, (one.name, None))  # "a.b" is no name, but it is imported
    return found


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - statement.level + 1]
    return ".".join([*above, *([statement.module] if statement.module else [])])


def facts(nodes: Iterable[ast.AST]) -> Facts:
    """What some nodes of a module say."""
    reader = _Reader()
    text = []
    for node in nodes:
        reader.visit(node)
        text.append(ast.dump(node))
    return Facts("\n".join(text), frozenset(reader.references), frozenset(reader.mentions), reader.imported)


def digest(text: str) -> str:
    """A short name of a text, by its content."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.references: set[str] = set()
        self.mentions: set[str] = set()
        self.imported: dict[str, tuple[str, str | None]] = {}

    def visit_Name(self, node: ast.Name) -> None:
        self.references.add(node.id)
        self.mentions.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.mentions.add(node.attr)
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            self.mentions.add(inner.attr)
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self.mentions.add(inner.id)
            self.references.add(".".join([inner.id, *reversed(parts)]))
        else:
            self.visit(inner)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.mentions.add(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        self.mentions.add(node.arg)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg is not None:
            self.mentions.add(node.arg)
        self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        self.imported |= getattr(node, "imported", {})

    def visit_Import(self, node: ast.Import) -> None:
        self.imported |= _imported(node, "")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imported |= _imported(node, "")
