"""A package whose modules are the choices of one section of a profile."""

import pkgutil
from collections.abc import Iterator
from functools import cache, reduce
from importlib import import_module
from operator import or_
from types import ModuleType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from lorun import extensions
from lorun.config.section import Section
from lorun.errors import LorunError, UnknownName, one_of

Base = TypeVar("Base", bound=Section)


class Registry(Generic[Base]):
    """The sections that the modules of a package define, by name: `name: block_cs` is `lorun/physics/block_cs.py`.
    Installed packages add others, see `lorun.extensions`.

    A module is imported when its section is asked for, so a run loads only what it uses. It defines one section, a
    subclass of `base` with `name: Literal["block_cs"]`. The module `base` and those that begin with an underscore hold
    what the others share.

    As an annotation, `Annotated[Base, registry]`, it makes a field of a pydantic model: `name` chooses the class.

    Args:
        kind: what errors call a choice, such as "operator".
        package: full name of the package.
        base: class of all its sections.
    """

    def __init__(self, kind: str, package: str, base: type[Base]) -> None:
        self.kind = kind
        self.package = package
        self.base = base

    def names(self) -> list[str]:
        """The choices, sorted; imports none of them."""
        return sorted({*self._own_names(), *(entry.name for entry in extensions.declared(self.kind))})

    def _own_names(self) -> list[str]:
        modules = pkgutil.iter_modules(import_module(self.package).__path__)
        return [one.name for one in modules if one.name != "base" and not one.name.startswith("_")]

    @cache  # noqa: B019 - registries live as long as the process
    def get(self, name: str) -> type[Base]:
        """The section of that name.

        Raises:
            UnknownName: there is no such module.
            LorunError: the module does not define exactly one section, called like it; a package cannot be imported, or
                declares a name that is taken.
        """
        module = self._module(one_of(self.kind, name, self.names()))
        members = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, self.base)]
        sections = [one for one in members if one.__module__ == module.__name__]
        names = [one.model_fields["name"].default if "name" in one.model_fields else None for one in sections]
        if names != [name]:
            raise LorunError(
                f"{module.__name__} must define one subclass of {self.base.__name__} with the `name` {name!r}; "
                f"found: {', '.join(one.__name__ for one in sections) or 'none'}"
            )
        return sections[0]

    def _module(self, name: str) -> ModuleType:
        entry = extensions.find(self.kind, name)
        if entry is None:
            return import_module(f"{self.package}.{name}")
        where = f"{self.kind} {name!r}: the entry point {entry.value!r} of {extensions.owner(entry)}"
        if name in self._own_names():
            raise LorunError(f"{where} has the name of one of the suite")
        try:
            return import_module(entry.value)
        except ImportError as error:
            raise LorunError(f"{where} cannot be imported: {error}") from error

    def __iter__(self) -> Iterator[type[Base]]:
        """All sections; imports every module."""
        return (self.get(name) for name in self.names())

    def parse(self, value: Any) -> Base:
        """A section from the mapping that a profile holds, or the section itself.

        Raises:
            ValueError: no mapping, or one without the name of a choice; pydantic's ValidationError for other mistakes.
        """
        if isinstance(value, self.base):
            return value
        if not isinstance(value, dict):
            raise ValueError("must be a mapping with a `name`")
        if "name" not in value:
            raise ValueError(f"`name` is missing. Choices: {', '.join(self.names())}")
        if not isinstance(value["name"], str):
            raise ValueError(
                f"`name` (={type(value['name']).__name__}) must be a text. Choices: {', '.join(self.names())}"
            )
        try:
            section = self.get(value["name"])
        except UnknownName as error:
            raise ValueError(str(error)) from error
        return section.model_validate(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        union: Any = Annotated[reduce(or_, self), Field(discriminator="name")]  # type: ignore[arg-type]
        return handler(TypeAdapter(union).core_schema)


def field_names(model: type[BaseModel]) -> set[str]:
    """The keys of a model and of all sections within it, those of every choice of a registry included."""
    schema = model.model_json_schema()
    return {name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", {})}
