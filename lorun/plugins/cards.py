"""`card.yaml`: where a baseline comes from and what it may be used for."""

from typing import Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from lorun.config.reading import load_yaml
from lorun.config.section import Section, explain
from lorun.errors import LorunError, one_line
from lorun.plugins.places import find


class Card(Section):
    model_config = ConfigDict(str_strip_whitespace=True)

    title: str = Field(min_length=1)
    citation: str = Field(min_length=1)
    source: str = Field(min_length=1, description="where the authors publish it: a repository or a paper")
    licence: str = Field(min_length=1, description="of this implementation")
    redistribution: Literal["yes", "no", "not stated"] = Field(description="may this implementation be passed on?")
    tasks: list[str] = Field(min_length=1)
    trained: bool = Field(True, description="whether the network has parameters to train")
    published_parameters_M: float | None = Field(gt=0, description="millions, as the authors count them")
    published_operator_parameters: int = Field(
        0, ge=0, description="how many of published_parameters_M are the sampling operator's; ours count without"
    )
    parameters_differ: str | None = Field(None, description="why our count is more than 2 % off the published one")
    differs: str = Field(description="what differs from the paper")
    released_names: dict[str, str] = Field(
        default_factory=dict,
        description="names in the authors' weight files: regular expression -> our name, the first match counts",
    )

    @property
    def published_network_parameters(self) -> int | None:
        """Published parameters without those of the operator."""
        if self.published_parameters_M is None:
            return None
        return round(self.published_parameters_M * 1e6) - self.published_operator_parameters


def card(reference: str) -> Card:
    """Read the card of a baseline.

    Raises:
        UnknownName: there is no such baseline.
        LorunError: the card is missing or incomplete; the error names the keys.
    """
    path = find(reference).folder / "card.yaml"
    try:
        return Card.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise LorunError(f"{path} is missing: a baseline needs a card with {', '.join(Card.model_fields)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {one_line(error)}") from error
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, Card.model_fields)}") from error
