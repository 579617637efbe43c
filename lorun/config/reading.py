"""YAML and JSON as this project reads them: data only, and a key twice in YAML is an error."""

import json
from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """The content of a YAML text. Raises yaml.YAMLError for all that is wrong with it."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except ValueError as error:  # a date or a number that cannot be
        raise yaml.YAMLError(str(error)) from error


def load_json(content: str | bytes) -> Any:
    """The content of a JSON text. Raises ValueError for all that is wrong with it."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None and twice[0] != "tag:yaml.org,2002:merge":
            raise yaml.YAMLError(
                f"the key `{twice[1][:80]}` twice, the second time before line {node.end_mark.line + 1}"
            )
        return super().construct_mapping(node, deep)
