"""Trained networks with their operators, as folders that travel: `from_pretrained("NAME")`, then `model(y, physics)`.

    models/NAME/config.json         the experiment (method, operator, training), how it was trained, and its scores
    models/NAME/model.safetensors   the weights of the network, and what was fitted or learned of the operator
    models/NAME/adapters/stage_k/   of an adapted method: the adapter of stage k in peft's format, for plain peft
    models/NAME/README.md           the card

The code of networks and operators is this package's. Loading a model reads JSON and safetensors only.
"""

from lorun.models.model import Model, from_pretrained

__all__ = ["Model", "from_pretrained"]
