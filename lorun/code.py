"""Which code of the project a process runs: a digest of every module that it loaded.

Modules are named by their path below the project's root, such as `lorun/physics/cassi.py`. Other code is recorded
otherwise: packages by their version, a baseline from elsewhere by a digest in the run's key.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """A folder of the repository that an installed package has too, in lorun/shipped: `baselines` or `models`."""
    own = ROOT / name
    return own if own.is_dir() else ROOT / "lorun" / "shipped" / name


_FOLDERS = ("lorun/", "baselines/")

# The command line and the profiles only hand over an experiment, whose configuration is compared by itself; the others
# describe and tabulate what was computed.
_NOT_COMPUTING = (
    *("lorun/cli/", "lorun/__main__.py", "lorun/profiles", "lorun/results/"),
    *("lorun/code.py", "lorun/provenance.py", "lorun/revisions.py", "lorun/training/progress.py"),
)

_digests: dict[str, str] = {}  # of the modules that this process loaded, as they were when first seen


def loaded_code() -> dict[str, str]:
    """Path -> digest of every module of the project that this process loaded.

    Call it when the work begins and again when the result is recorded: a module keeps the digest of the first call, so
    that an edit in between is not taken for the code that ran.
    """
    found = {}
    for module in sys.modules.copy().values():
        path = _path_in_project(getattr(module, "__file__", None) or "")
        if path is not None:
            if path not in _digests:
                _digests[path] = digest_of_file(ROOT / path)
            found[path] = _digests[path]
    return dict(sorted(found.items()))


def current_code(paths: Iterable[str], root: Path = ROOT) -> dict[str, str | None]:
    """Path -> digest as the files below `root` are now; None where there is no such file."""
    return {path: digest_of_file(root / path) if (root / path).is_file() else None for path in paths}


def digest_of_file(path: Path) -> str:
    """The digest of a Python file; raises OSError where it cannot be read."""
    return digest_of_source(path.read_bytes())


@cache
def digest_of_source(source: str | bytes) -> str:
    """12 hex digits of what Python code does: docstrings, comments and layout do not count.

    The same on Python 3.11 to 3.13. Of text that is not Python every byte counts.
    """
    try:
        content = repr(_content(ast.parse(source))).encode()
    except (SyntaxError, ValueError):
        content = source.encode() if isinstance(source, str) else source
    return digest(content)


def digest(content: bytes) -> str:
    """12 hex digits of any bytes."""
    return hashlib.sha256(content).hexdigest()[:12]


@cache
def _path_in_project(file: str) -> str | None:
    if "lorun" not in file and "baselines" not in file:
        return None  # most of the thousands in sys.modules
    path = Path(file).resolve()
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return name if name.startswith(_FOLDERS) and not name.startswith(_NOT_COMPUTING) else None


def _content(node: Any) -> Any:
    """A syntax tree as nested tuples, without empty fields: other versions of Python have other optional fields."""
    if isinstance(node, list):
        return tuple(_content(item) for item in node)
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [statement for statement in node.body if not _is_idle(statement)]
    kept = {name: value for name, value in fields.items() if value not in (None, []) and name not in ("ctx", "kind")}
    return type(node).__name__, *((name, _content(value)) for name, value in sorted(kept.items()))


def _is_idle(statement: ast.stmt) -> bool:
    """Whether it is `pass`, a docstring, or text that stands alone as one below an attribute does."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(statement, ast.Pass) or (isinstance(value, ast.Constant) and isinstance(value.value, str))
