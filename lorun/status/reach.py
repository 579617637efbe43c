"""The code that a computation may run: what is reached, by name, from where it begins.

Definitions are the unit: functions, classes, assignments of a module. A name leads to all that it may stand for,
through imports and re-exports, a module that is passed about to everything in it. Importing a module runs its
statements that do more than define, so those count once it is imported, from wherever.

Of the classes of the configuration, members count alone that the code which is reached mentions, by whatever means: the
values that they had are compared by their hash, and a new option that nobody asks for changes nothing.
"""

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from lorun.status.source import Facts, Module, digest, facts

NOT_FOLLOWED = ("lorun.provenance", "lorun.training.progress", "lorun.plugins.places")
"""Modules that tell of a computation, or where its code is: what they say is in no score."""

_CONFIG = "lorun.config"

_COMPARED = {"key", "config_hash", "account_key", "_shapes_weights"}
"""Members of the configuration whose values are compared, so that their code need not be."""

_LOADERS = {"import_module", "importlib.import_module", "__import__", "eval", "exec", "globals"}
"""What may run code that no name leads to."""

_FOLLOWED_OTHERWISE = {("baselines", "load"), ("baselines", "build")}
"""What loads code by a name of the configuration, today and in older commits: `Use.roots` has that code."""


class Place(NamedTuple):
    """A definition: module and name; of a member of a class "Class.member"."""

    module: str
    name: str


@dataclass(frozen=True)
class Use:
    """What of the code a row uses.

    roots      where its computation begins
    absent     classes of the configuration that it has no instance of
    truths     what is known of conditions: name of the definition, the condition as `ast.unparse` writes it, its value
    protocols  names of the protocols that score it
    outside    modules from outside the repository, by name: the same at every commit
    """

    roots: tuple[Place, ...]
    absent: frozenset[str] = frozenset()
    truths: frozenset[tuple[str, str, bool]] = frozenset()
    protocols: frozenset[str] = frozenset()
    outside: tuple[tuple[str, Module], ...] = ()


class Reached(NamedTuple):
    """A definition as it was found: its module, and a hash of what it says and of what its names stand for."""

    module: str
    digest: str


Fingerprint = Mapping[str, Reached]
"""What is reached, by name, so that moving a definition changes nothing; by "module:name" where several have it."""


def fingerprint(modules: Mapping[str, Module], use: Use) -> Fingerprint:
    """The code that `use` may run, of a project whose modules these are."""
    return _fingerprint(frozenset(modules.items()), use)


@lru_cache(maxsize=4096)  # many commits have the same code
def _fingerprint(modules: frozenset[tuple[str, Module]], use: Use) -> Fingerprint:
    reached = _Reach({**dict(modules), **dict(use.outside)}, use).run()
    count: dict[str, int] = {}
    for place in reached:
        count[place.name] = count.get(place.name, 0) + 1
    labels = {place: place.name if count[place.name] == 1 else f"{place.module}:{place.name}" for place in reached}
    found = {}
    for place, (text, bindings) in reached.items():
        targets = {name: labels.get(to, str(to)) if isinstance(to, Place) else to for name, to in bindings.items()}
        stand_for = (f"{name}={target}" for name, target in targets.items() if target != name)
        found[labels[place]] = Reached(place.module, digest("\n".join([text, *sorted(stand_for)])))
    return found


def differences(then: Fingerprint, now: Fingerprint) -> dict[str, str]:
    """The definitions that are not the same: name -> the module that has it now, or had it."""
    found = {}
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name), now.get(name)
        if before is None or after is None or before.digest != after.digest:
            found[name] = (after or before or Reached("", "")).module
    return found


Bindings = dict[str, Place | str]


@dataclass
class _Reach:
    modules: Mapping[str, Module]
    use: Use
    found: dict[Place, tuple[str, Bindings]] = field(default_factory=dict)
    waiting: list[Place] = field(default_factory=list)
    imported: set[str] = field(default_factory=set)
    mentions: set[str] = field(default_factory=set)
    members: dict[Place, list[ast.stmt]] = field(default_factory=dict)

    def run(self) -> dict[Place, tuple[str, Bindings]]:
        for root in self.use.roots:
            self._reach(root)
        while True:
            while self.waiting:
                self._read(self.waiting.pop())
            asked = [place for place in self.members if self._is_asked_for(place)]
            if not asked:
                return self.found
            for place in asked:
                self._record(place, self.members.pop(place))

    def _is_asked_for(self, member: Place) -> bool:
        name = member.name.rpartition(".")[2]
        return name in self.mentions and name not in _COMPARED

    def _reach(self, place: Place) -> None:
        target = self._resolve(place.module, place.name)
        if isinstance(target, Place) and target not in self.found:
            self.found[target] = ("", {})
            self.waiting.append(target)

    def _read(self, place: Place) -> None:
        self._import(place.module)
        statements = self.modules[place.module].definitions[place.name]
        if place.module == _CONFIG or place.module.startswith(f"{_CONFIG}."):
            for statement in statements:
                for name, member in _members(statement):
                    self.members.setdefault(Place(place.module, f"{place.name}.{name}"), []).append(member)
            statements = [_without_members(statement) for statement in statements]
        self._record(place, statements)

    def _record(self, place: Place, statements: list[ast.stmt]) -> None:
        texts: list[str] = []
        bindings: Bindings = {}
        for statement in statements:
            said = _facts(statement, place.name, self.use)
            texts.append(said.text)
            bindings |= self._follow(place, said)
        self.found[place] = ("\n".join(texts), bindings)

    def _follow(self, place: Place, said: Facts) -> Bindings:
        self.mentions |= said.mentions
        if said.references & _LOADERS and place not in _FOLLOWED_OTHERWISE:
            self._reach_everything()
        for module, name in said.imported.values():
            self._import(module)
            if name is not None:
                self._import(f"{module}.{name}")
        # What a top-level statement imports (in a `try`, under a condition) is used by others, through the statement.
        used = {reference.partition(".")[0] for reference in said.references}
        for name in said.imported.keys() - used:
            self._reach_all_of(self._named(*said.imported[name]))
        bindings: Bindings = {}
        for reference in said.references:
            for name, target in self._targets(place.module, reference, said):
                bindings[name] = target
                if isinstance(target, Place):
                    self._reach(target)
        return bindings

    def _targets(self, module: str, reference: str, said: Facts) -> Iterator[tuple[str, Place | str]]:
        """What a dotted name, written in a module, stands for: the part of it that leads somewhere, and where to."""
        first, *rest = reference.split(".")
        imported = said.imported.get(first)
        target = self._resolve(module, first) if imported is None else self._named(*imported)
        name = first
        while isinstance(target, Module) and rest:
            name = f"{name}.{rest[0]}"
            target = self._resolve(target.name, rest.pop(0))
        if isinstance(target, Module):
            for one in target.definitions:
                yield f"{name}.{one}", Place(target.name, one)
        elif target is not None:
            yield name, target

    def _named(self, module: str, name: str | None) -> Place | Module | str:
        if name is None:
            return self.modules.get(module, module)
        if module not in self.modules:
            return f"{module}.{name}"
        return self._resolve(module, name) or f"{module}.{name}"

    def _resolve(self, module: str, name: str) -> Place | Module | str | None:
        """What a name of a module stands for; None where it has none such, as for built-in names."""
        if module not in self.modules or module.startswith(NOT_FOLLOWED):
            return None
        of = self.modules[module]
        if name in of.definitions:
            return Place(module, name)
        if name in of.imported and of.imported[name] != (module, name):
            return self._named(*of.imported[name])
        return self.modules.get(f"{module}.{name}")

    def _import(self, module: str) -> None:
        """Import a module, if it is one of the project, and those above it."""
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            if name in self.imported or name not in self.modules:
                continue
            self.imported.add(name)
            of = self.modules[name]
            for other in of.imports:
                self._import(other)
            if "*" in of.imported:
                self._reach_everything()
            if of.effects:
                self._record(Place(name, "import"), of.effects)

    def _reach_all_of(self, target: Place | Module | str) -> None:
        if isinstance(target, Place):
            self._reach(target)
        elif isinstance(target, Module):
            self._import(target.name)
            for definition in target.definitions:
                self._reach(Place(target.name, definition))

    def _reach_everything(self) -> None:
        for module in self.modules.values():
            self._reach_all_of(module)


def _members(statement: ast.stmt) -> list[tuple[str, ast.stmt]]:
    """The members of a class that must be asked for, by name."""
    body = statement.body if isinstance(statement, ast.ClassDef) else []
    return [(name, one) for one in body if (name := _member(one)) is not None]


@lru_cache(maxsize=10_000)
def _without_members(statement: ast.stmt) -> ast.stmt:
    if not isinstance(statement, ast.ClassDef):
        return statement
    shell = copy.copy(statement)
    shell.body = [one for one in statement.body if _member(one) is None] or [ast.Pass()]
    return shell


def _member(statement: ast.stmt) -> str | None:
    """The name by which a member of a class must be asked for; None for what is used unasked."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.FunctionDef):
        plain = all(isinstance(one, ast.Name) and one.id == "property" for one in statement.decorator_list)
        unasked = statement.name.startswith(("__", "model_"))  # Python and pydantic call those
        return statement.name if plain and not unasked else None
    return None


@lru_cache(maxsize=100_000)
def _plain(statement: ast.stmt) -> Facts:
    return facts([statement])


def _facts(statement: ast.stmt, name: str, use: Use) -> Facts:
    """What a statement of the definition `name` says to a use."""
    said = _plain(statement)
    absent = use.absent & said.references
    truths = frozenset((condition, value) for where, condition, value in use.truths if where == name)
    protocols = use.protocols if "Protocol" in said.references else None
    if not absent and not truths and protocols is None:
        return said
    return _special(statement, absent, truths, protocols)


@lru_cache(maxsize=100_000)
def _special(
    statement: ast.stmt,
    absent: frozenset[str],
    truths: frozenset[tuple[str, bool]],
    protocols: frozenset[str] | None,
) -> Facts:
    return facts([_Used(absent, dict(truths), protocols).visit(copy.deepcopy(statement))])


class _Used(ast.NodeTransformer):
    """Leaves out of a definition what is for other rows: branches, entries of tables, members of unions."""

    def __init__(self, absent: frozenset[str], truths: Mapping[str, bool], protocols: frozenset[str] | None) -> None:
        self.absent, self.truths, self.protocols = absent, truths, protocols

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for part in ("body", "orelse", "finalbody"):
            statements = getattr(node, part, None)
            if isinstance(statements, list):
                setattr(node, part, list(self._taken(statements)))
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list) and not node.body:  # type: ignore[attr-defined]
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def _taken(self, statements: list[ast.stmt]) -> Iterator[ast.stmt]:
        """The statements of a body that may run."""
        for statement in statements:
            known = self._value(statement.test) if isinstance(statement, ast.If) else None
            if known is None or not isinstance(statement, ast.If):
                yield statement
                continue
            branch = list(self._taken(statement.body if known else statement.orelse))
            yield from branch
            if branch and isinstance(branch[-1], ast.Return | ast.Raise):
                return

    def _value(self, test: ast.expr) -> bool | None:
        """Whether a condition holds, where the use tells."""
        if isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance" and self._is_absent(test.args[1]):
            return False
        return self.truths.get(ast.unparse(test))

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        entries = zip(node.keys, node.values, strict=True)
        kept = [(key, value) for key, value in entries if not (self._is_absent(key) or self._is_absent(value))]
        node.keys, node.values = [key for key, _ in kept], [value for _, value in kept]
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.BitOr):
            if self._is_absent(node.left):
                return node.right
            if self._is_absent(node.right):
                return node.left
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        node.elts = [one for one in node.elts if not self._is_of_another_protocol(one)]
        return self.generic_visit(node)

    def _is_absent(self, node: ast.expr | None) -> bool:
        return isinstance(node, ast.Name) and node.id in self.absent

    def _is_of_another_protocol(self, node: ast.expr) -> bool:
        if self.protocols is None or not isinstance(node, ast.Call) or ast.unparse(node.func) != "Protocol":
            return False
        names = [one.value.value for one in node.keywords if one.arg == "name" and isinstance(one.value, ast.Constant)]
        return bool(names) and names[0] not in self.protocols
