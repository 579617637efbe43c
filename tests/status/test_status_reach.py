"""Which definitions are reached, on projects of a few lines."""

import pytest

from lorun.status.reach import Place, Use, differences, fingerprint
from lorun.status.source import modules_of

ROOT = Use(roots=(Place("lorun.main", "run"),))

MAIN = """\
from lorun.help import assist as help_out
from lorun import tools
from lorun.tables import Entry, find

def run(x):
    return help_out(x) + tools.turn(x) + find("a")(x)

def unused(x):
    return x
"""
HELP = """\
import torch.nn.functional as F

LEVEL = 2

def assist(x: int) -> int:
    \"\"\"Docs.\"\"\"
    if x > LEVEL:
        raise LorunError(f"{x} is too much")
    return F.relu(x)
"""
TOOLS = """\
def turn(x):
    from lorun.inner import deep
    return deep(x)

def other(x):
    return x
"""
TABLES = """\
from lorun.inner import deep

TABLE = {"a": deep}

class Entry:
    size: int = 3
    def call(self):
        return self.size

def find(name):
    return TABLE[name]
"""
INNER = "def deep(x):\n    return x\n"
PROJECT = {"main": MAIN, "help": HELP, "tools": TOOLS, "tables": TABLES, "inner": INNER, "__init__": ""}


def prints(use=ROOT, **modules):
    texts = {**PROJECT, **modules}
    return fingerprint(modules_of({f"lorun/{name}.py": text.encode() for name, text in texts.items()}), use)


def changed(use=ROOT, **modules):
    return set(differences(prints(use), prints(use, **modules)))


def test_what_is_used_is_reached_whatever_way_it_is_imported():
    assert set(prints()) == {"run", "assist", "LEVEL", "LorunError", "turn", "deep", "find", "TABLE"} - {"LorunError"}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("help", '"""Docs."""', '"""Others."""'),
        ("help", "x: int) -> int", "x: float)"),
        ("help", "is too much", "exceeds it"),
        ("help", "LEVEL = 2", "LEVEL = 2  # metres\n"),
        ("main", "return x\n", "return -x\n"),
        ("tools", "def other(x):\n    return x", "def other(x):\n    return -x"),
        ("tables", "size: int = 3", "size: int = 4"),
    ],
)
def test_what_does_not_compute_or_is_not_reached_does_not_count(module, old, new):
    text = PROJECT[module]
    assert old in text
    assert changed(**{module: text.replace(old, new)}) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("help", "F.relu", "F.gelu", {"assist"}),
        ("help", "torch.nn.functional", "torch.special", {"assist"}),
        ("help", "LEVEL = 2", "LEVEL: int = 3", {"LEVEL"}),
        ("help", "LEVEL = 2", "LEVEL = 2\nLEVEL += 1", {"LEVEL", "import"}),
        ("inner", "return x", "return -x", {"deep"}),
        ("tables", 'TABLE = {"a": deep}', 'TABLE = {"a": deep}\nTABLE["a"] = abs', {"import"}),
        ("__init__", "", "print()", {"import"}),
        ("main", "from lorun import tools", "from lorun import help as tools", {"run", "turn", "deep"} - {"deep"}),
    ],
)
def test_what_computes_counts(module, old, new, expected):
    text = PROJECT[module]
    assert changed(**{module: text.replace(old, new, 1)}) == expected


def test_a_definition_that_moved_is_the_same():
    tables = TABLES.replace("lorun.inner", "lorun.moved")
    tools = TOOLS.replace("lorun.inner", "lorun.moved")
    assert changed(moved=INNER, inner="", tables=tables, tools=tools) == set()


def test_names_that_change_what_they_stand_for_count():
    """Both functions are reached before and after."""
    main = "from lorun.a import f as x, g as y\n\ndef run(z):\n    return x(y(z))\n"
    a = "def f(z):\n    return z\n\ndef g(z):\n    return -z\n"
    before, after = (prints(main=text, a=a) for text in (main, main.replace("f as x, g as y", "g as x, f as y")))
    assert set(differences(before, after)) == {"run"}


def test_two_of_a_name_are_told_apart():
    main = "from lorun import a, b\n\ndef run(z):\n    return a.f(b.f(z))\n"
    a, b = "def f(z):\n    return z\n", "def f(z):\n    return -z\n"
    before, after = prints(main=main, a=a, b=b), prints(main=main, a=b, b=a)
    assert set(differences(before, after)) == {"lorun.a:f", "lorun.b:f"}


def test_a_module_that_is_passed_about_counts_as_a_whole():
    main = "from lorun import tools\n\ndef run(name):\n    return getattr(tools, name)\n"
    assert {"turn", "other", "deep"} <= set(prints(main=main))


@pytest.mark.parametrize(
    "imports",
    [
        "try:\n    from lorun.tools import turn as it\nexcept ImportError:\n    it = None\n",
        "try:\n    import lorun.tools as it\nexcept ImportError:\n    it = None\n",
        "if True:\n    from lorun import tools as it\n",
    ],
)
def test_what_is_imported_under_a_condition_is_reached_through_it(imports):
    assert {"it", "turn", "deep"} <= set(prints(main=imports + "\ndef run(x):\n    return it(x)\n"))


def test_a_module_that_is_imported_for_its_effects_counts():
    main = "import lorun.side\n\ndef run(x):\n    return x\n"
    before, after = prints(main=main, side="print(1)\n"), prints(main=main, side="print(2)\n")
    assert set(differences(before, after)) == {"import"}
    main = "def run(x):\n    import lorun.side\n    return x\n"
    assert set(differences(prints(main=main, side="print(1)\n"), prints(main=main, side="print(2)\n"))) == {"import"}


@pytest.mark.parametrize(
    "main",
    [
        "from importlib import import_module\n\ndef run(x):\n    return import_module(x)\n",
        "import importlib\n\ndef run(x):\n    return importlib.import_module(x)\n",
        "def run(x):\n    return eval(x)\n",
        "from lorun.tools import *\n\ndef run(x):\n    return turn(x)\n",
    ],
)
def test_where_no_name_tells_everything_counts(main):
    assert {"other", "Entry", "LEVEL"} <= set(prints(main=main))


def test_importing_counts_with_the_modules_above():
    files = {"lorun/__init__.py": b"", "lorun/a/__init__.py": b"print(1)", "lorun/a/b.py": b"def run():\n    pass\n"}
    use = Use(roots=(Place("lorun.a.b", "run"),))
    assert set(fingerprint(modules_of(files), use)) == {"run", "import"}


def test_a_decorator_that_gives_a_function_away_counts():
    decorated = PROJECT["tools"].replace("def other", "@register\ndef other")
    assert changed(tools=decorated) == {"import"}
    assert changed(tools=PROJECT["tools"].replace("def other", "@cache\ndef other")) == set()


CONFIG = """\
class Options(Section):
    steps: int = 1
    unasked: int = 2

    @model_validator(mode="after")
    def _check(self):
        return self

    def model_post_init(self, context):
        print()

    @property
    def key(self):
        return 1

    @property
    def double(self):
        return 2 * self.steps
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("unasked: int = 2", "unasked: int = 3", set()),
        ("return 1", "return 2", set()),
        ("steps: int = 1", "steps: int = 3", {"Options.steps"}),
        ("2 * self.steps", "3 * self.steps", {"Options.double"}),
        ("return self\n", "return None\n", {"Options"}),
        ("print()", "pass", {"Options"}),
    ],
)
def test_of_the_configuration_what_is_asked_for_counts(old, new, expected):
    main = "from lorun.config import Options\n\ndef run():\n    return Options().double, Options().key\n"
    before, after = prints(main=main, config=CONFIG), prints(main=main, config=CONFIG.replace(old, new))
    assert set(differences(before, after)) == expected


DISPATCH = """\
from lorun.config import AConfig, BConfig
from lorun.inner import deep
from lorun.tools import other

KINDS = {AConfig: deep, BConfig: other}
Either = AConfig | BConfig

def run(config, wide):
    if isinstance(config, BConfig):
        return other(config)
    if wide:
        return KINDS[Either]
    return 1
"""


def test_what_is_for_other_rows_is_left_out():
    use = Use(ROOT.roots, absent=frozenset({"BConfig"}), truths=frozenset({("run", "wide", False)}))
    config = "class AConfig:\n    pass\n\nclass BConfig:\n    pass\n"
    assert set(prints(use, main=DISPATCH, config=config)) == {"run"}
    use = Use(ROOT.roots, absent=frozenset({"BConfig"}))
    assert set(prints(use, main=DISPATCH, config=config)) == {"run", "KINDS", "Either", "AConfig", "deep"}
    assert {"BConfig", "other"} <= set(prints(main=DISPATCH, config=config))
    more = DISPATCH.replace("    if wide", "    if isinstance(config, BConfig):\n        return 3\n    if wide")
    assert differences(prints(use, main=DISPATCH, config=config), prints(use, main=more, config=config)) == {}


def test_after_a_branch_that_is_taken_nothing_counts():
    main = "from lorun.inner import deep\n\ndef run(wide):\n    if wide:\n        return 1\n    return deep(1)\n"
    assert "deep" not in prints(Use(ROOT.roots, truths=frozenset({("run", "wide", True)})), main=main)
    assert "deep" in prints(Use(ROOT.roots, truths=frozenset({("other", "wide", True)})), main=main)
