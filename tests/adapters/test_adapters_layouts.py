"""The table of docs/method.md that compares the layouts, from the adapters themselves."""

import pytest
import torch
from tiny import PROJECT
from torch import nn

from lorun.adapters import AdaptedDenoiser

LAYERS = {
    "linear, 64 to 64": nn.Linear(64, 64, bias=False),
    "1 x 1, 64 to 64": nn.Conv2d(64, 64, 1, bias=False),
    "3 x 3, 64 to 64": nn.Conv2d(64, 64, 3, bias=False),
    "3 x 3, 16 to 16": nn.Conv2d(16, 16, 3, bias=False),
    "3 x 3, 4 to 16": nn.Conv2d(4, 16, 3, bias=False),
    "2 x 2, stride 2, 32 to 64": nn.Conv2d(32, 64, 2, stride=2, bias=False),
    "2 x 2, transposed, 64 to 32": nn.ConvTranspose2d(64, 32, 2, stride=2, bias=False),
}


def measured(layer, layout):
    """Rank r, parameters of an adapter at gamma = 10, and the rank of the change as a matrix of (out, k^2 in)."""
    torch.manual_seed(0)
    adapted = AdaptedDenoiser(nn.Sequential(layer), 1, 10, layout=layout).double()
    [its] = adapted.layers
    with torch.no_grad():
        its.lora_B["stage_1"].weight.normal_()
    change = its.composed_weight() - its.out_first(its.base_layer.weight)
    count = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return its.r["stage_1"], count, int(torch.linalg.matrix_rank(change.flatten(1)))


@pytest.mark.parametrize("name", LAYERS)
def test_the_table_of_layouts_is_true(name):
    layer = LAYERS[name]
    weights = layer.weight.numel()
    r, peft, peft_rank = measured(layer, "peft")
    _, loralib, loralib_rank = measured(layer, "loralib")
    cells = [name, f"{weights:,}", r, *(f"{n:,} ({100 * n / weights:.0f} %)" for n in (peft, loralib))]
    line = f"| {' | '.join(map(str, [*cells, peft_rank, loralib_rank]))} |"
    assert line in (PROJECT / "docs/method.md").read_text(), line
