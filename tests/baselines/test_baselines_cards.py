"""Cards: what they must contain, and the errors of wrong ones."""

import shutil

import pytest
import yaml

from lorun import plugins
from lorun.errors import LorunError
from lorun.plugins import places


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of one baseline, in a folder of baselines of its own."""
    shutil.copytree(places.SUITE_FOLDER / "ista_net", tmp_path / "ista_net")
    monkeypatch.setattr(places, "SUITE_FOLDER", tmp_path)
    return tmp_path / "ista_net"


def rewrite(folder, change):
    path = folder / "card.yaml"
    card = yaml.safe_load(path.read_text())
    change(card)
    path.write_text(yaml.safe_dump(card))


@pytest.mark.parametrize("key", ["title", "citation", "source", "licence", "redistribution", "tasks", "differs"])
def test_a_card_that_lacks_something_is_refused_by_name(folder, key):
    rewrite(folder, lambda card: card.pop(key))
    with pytest.raises(LorunError, match=rf"ista_net/card.yaml: `{key}` is missing"):
        plugins.card("ista_net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(licence=""), r"`licence` \(=''\): String should have at least 1 character"),
        (lambda card: card.update(licence="  "), r"`licence` \(='  '\): String should have at least 1 character"),
        (lambda card: card.update(license="MIT"), "unknown key `license`. Did you mean `licence`?"),
        (lambda card: card.update(redistribution="maybe"), "`redistribution` .*'maybe'"),
        (lambda card: card.update(published_parameters_M=-1), "`published_parameters_M`"),
    ],
)
def test_a_card_that_says_something_wrong_is_refused_by_name(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(LorunError, match=message):
        plugins.card("ista_net")


def test_a_missing_card_and_one_that_is_not_yaml(folder):
    (folder / "card.yaml").write_text("title: [")
    with pytest.raises(LorunError, match=r"card.yaml: cannot be read as YAML"):
        plugins.card("ista_net")
    (folder / "card.yaml").unlink()
    with pytest.raises(LorunError, match=r"card.yaml is missing: a baseline needs a card with title, citation"):
        plugins.card("ista_net")
