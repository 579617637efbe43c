"""Sections that are found by the name of their module, and what is set in them."""

import json
import sys
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from lorun.config.registry import Registry, field_names
from lorun.config.section import Section, explain, settings
from lorun.denoisers import DENOISERS, DenoiserConfig
from lorun.errors import LorunError, UnknownName
from lorun.physics import OPERATORS


class Shape(Section):
    name: str


MODULES = {
    "__init__": "",
    "base": "raise ImportError('never imported')",
    "_helper": "raise ImportError('never imported')",
    "disk": """
from typing import Literal
from test_registry_base import Shape, Section

class Border(Section):
    width: int = 1

class Disk(Shape):
    name: Literal["disk"] = "disk"
    radius: float = 1.0
    border: Border = Border()
""",
    "square": """
from typing import Literal
from test_registry_base import Shape

class Square(Shape):
    name: Literal["square"] = "square"
    side: int
""",
}


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """Adds modules to a package of shapes, and returns their registry."""
    (tmp_path / "shapes").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_registry_base", sys.modules[__name__])

    def add(**modules):
        for name, text in modules.items():
            (tmp_path / "shapes" / f"{name}.py").write_text(text)
        return Registry("shape", "shapes", Shape)

    yield add
    for name in [name for name in sys.modules if name.partition(".")[0] == "shapes"]:
        del sys.modules[name]


def test_a_module_is_imported_when_it_is_asked_for(shapes):
    registry = shapes(**MODULES)
    assert registry.names() == ["disk", "square"]
    assert not [name for name in sys.modules if name.startswith("shapes.")]
    assert registry.get("disk").__name__ == "Disk"
    assert [name for name in sys.modules if name.startswith("shapes.")] == ["shapes.disk"]


def test_an_unknown_name_is_refused_with_the_near_one(shapes):
    with pytest.raises(UnknownName, match="unknown shape 'disc'. Did you mean 'disk'\\? Choices: disk, square"):
        shapes(**MODULES).get("disc")


@pytest.mark.parametrize(
    "text", ["", MODULES["disk"], MODULES["disk"] + MODULES["square"], "from shapes.disk import *"]
)
def test_a_module_without_the_section_of_its_name_is_refused(shapes, text):
    registry = shapes(**MODULES, oval=text)
    with pytest.raises(LorunError, match="shapes.oval must define one subclass of Shape with the `name` 'oval'"):
        registry.get("oval")


def model(registry):
    class Drawing(BaseModel):
        shape: Annotated[Shape, registry]
        more: dict[str, list[Annotated[Shape, registry] | None]] = {}

    return Drawing


def test_the_name_chooses_the_class_of_a_field(shapes):
    Drawing = model(shapes(**MODULES))
    drawing = Drawing.model_validate(
        {"shape": {"name": "square", "side": "3"}, "more": {"a": [None, {"name": "disk"}]}}
    )
    assert (drawing.shape.side, drawing.more["a"][1].radius) == (3, 1.0)
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing
    assert drawing.model_dump(exclude={"more"}) == {"shape": {"name": "square", "side": 3}}
    assert Drawing(shape=drawing.shape).shape is drawing.shape


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"name": "disc"}, "`shape`: unknown shape 'disc'. Did you mean 'disk'? Choices: disk, square"),
        ({"side": 3}, "`shape`: `name` is missing. Choices: disk, square"),
        ("disk", "`shape` (='disk'): must be a mapping with a `name`"),
        ({"name": "square"}, "`shape.side` is missing"),
        ({"name": "disk", "border": {"wdth": 2}}, "unknown key `shape.border.wdth`. Did you mean `width`?"),
        ({"name": "square", "side": "wide"}, "`shape.side` (='wide'): Input should be a valid integer"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(shapes, shape, message):
    Drawing = model(shapes(**MODULES))
    with pytest.raises(ValidationError) as error:
        Drawing.model_validate({"shape": shape})
    assert explain(error.value, field_names(Drawing)).startswith(message)


def test_the_json_schema_and_the_known_keys_have_all_choices(shapes):
    Drawing = model(shapes(**MODULES))
    schema = Drawing.model_json_schema()
    assert schema["$defs"].keys() == {"Border", "Disk", "Square"}
    assert schema["properties"]["shape"]["discriminator"]["mapping"].keys() == {"disk", "square"}
    assert field_names(Drawing) == {"shape", "more", "name", "radius", "border", "width", "side"}


class Inner(Section):
    kind: Literal["plain"] = "plain"
    depth: int = 2


class Outer(Section):
    steps: int
    rate: float = 0.5
    sizes: list[tuple[int, int]] = Field(default_factory=list)
    denoiser: DenoiserConfig = DENOISERS.parse({"name": "unet", "width": 8})
    inner: Inner | None = None
    parts: dict[str, Inner] = Field(default_factory=dict)


def test_settings_are_what_differs_from_the_defaults():
    assert settings(Outer(steps=3)) == {"steps": 3}
    assert settings(Outer(steps=3, rate=0.5, inner=None)) == {"steps": 3}
    changed = Outer(steps=3, sizes=[(1, 2)], denoiser={"name": "unet"}, inner={"depth": 5}, parts={"a": {}})
    assert settings(changed) == {
        "steps": 3,
        "sizes": [[1, 2]],
        "denoiser": {"name": "unet"},
        "inner": {"kind": "plain", "depth": 5},
        "parts": {"a": {"kind": "plain"}},
    }


def test_an_option_that_is_added_later_leaves_the_settings_as_they_are():
    class Later(Outer):
        option: str = "none"

    assert settings(Later(steps=3, rate=0.1)) == settings(Outer(steps=3, rate=0.1))


@given(
    st.builds(
        Outer,
        steps=st.integers(),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))),
        denoiser=st.fixed_dictionaries({"name": st.sampled_from(["unet", "cnn"]), "width": st.sampled_from([8, 32])}),
        inner=st.none() | st.fixed_dictionaries({}, optional={"depth": st.integers(0, 3)}),
        parts=st.dictionaries(st.text(max_size=2), st.fixed_dictionaries({"depth": st.integers(0, 3)})),
    )
)
def test_settings_give_the_section_again(outer):
    assert Outer.model_validate(json.loads(json.dumps(settings(outer)))) == outer


def test_the_registries_have_every_module_of_their_packages():
    assert {"block_cs", "cassi", "blur_downsample", "denoising"} <= set(OPERATORS.names())
    assert {"unet", "cnn", "spectral"} <= set(DENOISERS.names())
    for registry in (OPERATORS, DENOISERS):
        assert [section.model_fields["name"].default for section in registry] == registry.names()


def test_the_schema_of_a_field_is_a_union_of_all_denoisers():
    schema = TypeAdapter(DenoiserConfig).json_schema()
    assert schema["discriminator"]["mapping"].keys() == set(DENOISERS.names())
