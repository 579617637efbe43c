"""The residual U-Net of USRNet: its wiring and its sizes, with adapters too."""

import pytest
import torch

from lorun.adapters import AdaptedDenoiser
from lorun.denoisers import DENOISERS
from lorun.denoisers.resunet import ResUNet
from lorun.plugins import usrnet


def in_usrnet(name):
    """The name of a weight in the network of the baseline."""
    part, _, rest = name.partition(".")
    if part in ("head", "tail"):
        return name
    rest = rest.replace("first", "res.0").replace("second", "res.2")
    if part == "body":
        return f"body.{rest}"
    level, _, rest = rest.partition(".")
    if part == "decoder":  # after the transposed convolution
        place, _, rest = rest.partition(".")
        return f"up.{level}.{int(place) + 1}.{rest}"
    return {"encoder": f"down.{level}.{rest}", "down": f"down.{level}.2.{rest}", "up": f"up.{level}.0.{rest}"}[part]


@torch.no_grad()
def test_is_the_network_of_usrnet_but_for_the_residual():
    torch.manual_seed(0)
    theirs, ours = usrnet.ResUNet(3, (4, 6, 8, 8)).double(), ResUNet(3, (4, 6, 8, 8), noise_map=True).double()
    state = theirs.state_dict()
    assert sorted(map(in_usrnet, ours.state_dict())) == sorted(state)
    ours.load_state_dict({name: state[in_usrnet(name)] for name in ours.state_dict()})
    z = torch.rand(2, 3, 13, 22, dtype=torch.float64)
    sigma = torch.tensor(0.1, dtype=torch.float64)
    torch.testing.assert_close(ours(z, sigma) - z, theirs(z, sigma))


# Kernels: (side, in, out, number, rank at 10 %)
TINY = [  # USRNet-tiny's network: three channels and a noise map, two blocks of two convolutions on both ways
    (3, 4, 16, 1, 1),  # head
    (3, 16, 3, 1, 1),  # tail
    (3, 16, 16, 8, 2),
    (3, 32, 32, 8, 4),
    (3, 64, 64, 8, 7),
    (3, 64, 64, 4, 7),  # body
    *((2, *pair, 1, r) for a, b, r in [(16, 32, 2), (32, 64, 4), (64, 64, 7)] for pair in [(a, b), (b, a)]),
]
CS = [  # of the profile `paper`: one channel, three blocks
    (3, 1, 23, 1, 1),
    (3, 23, 1, 1, 1),
    (3, 23, 23, 12, 3),
    (3, 46, 46, 12, 5),
    (3, 92, 92, 12, 10),
    (3, 92, 92, 6, 10),
    *((2, *pair, 1, r) for a, b, r in [(23, 46, 3), (46, 92, 5), (92, 92, 10)] for pair in [(a, b), (b, a)]),
]


@pytest.mark.parametrize(
    ("kernels", "make", "base", "loralib", "peft"),
    [
        (TINY, lambda: DENOISERS.parse({"name": "resunet"}).build(3, noise_map=True), 588_784, 131_167, 73_639),
        (CS, lambda: ResUNet(1, (23, 46, 92, 92), 3), 1_767_274, 384_992, 215_405),
    ],
)
def test_sizes_by_hand(kernels, make, base, loralib, peft):
    by_hand = {
        "loralib": sum(r * k * k * (a + b) * number for k, a, b, number, r in kernels),
        "peft": sum(r * (k * k * a + b) * number for k, a, b, number, r in kernels),
    }
    assert sum(k * k * a * b * number for k, a, b, number, _ in kernels) == base
    assert by_hand == {"loralib": loralib, "peft": peft}
    for layout, count in by_hand.items():
        denoiser = make()
        assert sum(p.numel() for p in denoiser.parameters()) == base
        adapted = AdaptedDenoiser(denoiser, 2, 10, layout=layout)
        assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 2 * count
