"""The digests of loaded modules: what counts as code, and when it is read."""

import subprocess
import sys
from pathlib import Path

import pytest

from lorun.code import current_code, digest_of_source, loaded_code

SOURCE = '''
"""A module."""

class Net:
    width: int = 4
    """Channels."""

    def forward(self, x, scale=None):
        """Compute."""
        return f"{x!r:>{self.width}}", x * 2  # twice
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another."""'),
        ('    """Channels."""\n', ""),
        ('"""Compute."""', "pass"),
        ("  # twice", ""),
        ("x * 2", "(\n  x*2)"),
    ],
)
def test_words_and_layout_do_not_count(old: str, new: str) -> None:
    assert digest_of_source(SOURCE.replace(old, new)) == digest_of_source(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("x * 2", "x * 2.0"), ("=None", "=0"), ("=None", ""), ("int = 4", "str = 4"), ("!r:>", ":>"), ("Net", "Net2")],
)
def test_everything_else_counts(old: str, new: str) -> None:
    assert digest_of_source(SOURCE.replace(old, new)) != digest_of_source(SOURCE)


def test_the_digest_is_that_of_any_python() -> None:
    assert digest_of_source(SOURCE) == "6ba8dcd7758f"


def test_every_byte_counts_of_what_is_not_python() -> None:
    assert digest_of_source("def :") == digest_of_source(b"def :") != digest_of_source("def : # so")


def test_modules_of_the_project_are_recorded_as_they_were_first_seen(tmp_path: Path) -> None:
    """In a process with a project of its own."""
    for path, text in {
        "lorun/__init__.py": "",
        "lorun/code.py": Path(sys.modules["lorun.code"].__file__ or "").read_text(),
        "lorun/cli/__init__.py": "",
        "lorun/blur.py": "WIDTH = 1",
        "lorun/unloaded.py": "",
        "baselines/net/baseline.py": "",
        "elsewhere/my_net/baseline.py": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    program = """
import importlib.util, json, pathlib, sys
import lorun.blur, lorun.cli
from lorun.code import current_code, loaded_code
for folder in ("baselines/net", "elsewhere/my_net"):
    spec = importlib.util.spec_from_file_location("plugin_" + folder[:4], f"{folder}/baseline.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
first = loaded_code()
assert list(first) == ["baselines/net/baseline.py", "lorun/__init__.py", "lorun/blur.py"], first
pathlib.Path("lorun/blur.py").write_text("WIDTH = 2")
assert loaded_code() == first
now = current_code([*first, "lorun/gone.py"])
assert [path for path in first if now[path] != first[path]] == ["lorun/blur.py"], now
assert now["lorun/gone.py"] is None
"""
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=60)


def test_a_recorded_module_can_be_looked_up_today() -> None:
    recorded = loaded_code()
    assert "tests/test_code.py" not in recorded
    assert current_code(recorded) == recorded
