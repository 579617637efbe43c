"""The models of this repository: each loads, is small, and has the card of what it holds.

Where the text of cards or of the registry has changed, `from_pretrained(NAME).save_pretrained("models/NAME")` writes
the card anew, and everything else as it was.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import PROJECT

from lorun.adapter_store import AdapterStore
from lorun.models import from_pretrained
from lorun.models.card import card
from lorun.models.description import withheld_tensors
from lorun.models.model import ADAPTERS, models_in
from lorun.training.weights import load_weights

COMMITTED = models_in(PROJECT / "models")
LIMIT = 40e6
"""Bytes of all models."""


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_model_loads_anywhere_and_has_its_card(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # there are no data here
    model, folder = from_pretrained(name), COMMITTED[name]
    assert (folder / "README.md").read_text() == card(model, name, (folder / ADAPTERS).is_dir())
    assert model.description.scores
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    side = 4 * model.physics.smallest
    physics = model.physics.at(side, side)
    physics = physics.under(physics.degradations[0]) if physics.degradations else physics
    x = torch.full((1, model.experiment.channels, side, side), 0.5)
    with torch.inference_mode():
        assert model(physics(x), physics).shape == x.shape


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_model_holds_no_file_that_may_not_be_passed_on(name: str) -> None:
    stored = load_weights(COMMITTED[name] / "model.safetensors")
    withheld = withheld_tensors(from_pretrained(name).experiment.physics)
    assert not [tensor for tensor in stored if tensor.startswith(tuple(f"physics.{start}" for start in withheld))]
    assert withheld or not name.startswith(("sr-", "cassi-"))


def test_the_committed_adapters_are_swapped_on_one_base() -> None:
    store = AdapterStore(PROJECT / "models" / "adapters")
    names = store.names()
    assert len({store.manifest(name).experiment.task for name in names}) == len(names) >= 2
    assert len({store.manifest(name).base for name in names}) == 1
    network: Any = store.system(names[0]).network
    x = torch.linspace(0, 1, 64 * 64).view(1, 1, 64, 64)
    for name in (*names[1:], names[0]):
        store.swap(network, name)
        loaded = store.system(name)
        physics = loaded.physics.at(64, 64)
        y = physics(x)
        with torch.inference_mode():
            assert torch.equal(network(y, physics), loaded.network(y, physics))


def test_the_committed_models_are_small() -> None:
    sizes = {path: path.stat().st_size for path in (PROJECT / "models").rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= LIMIT, sizes
