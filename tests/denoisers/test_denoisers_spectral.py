"""Attention among channels: against loops, and what it does to pixels, temperatures and precision."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lorun.denoisers.spectral import SpectralAttention, SpectralBlock, SpectralTransformer

WIDTH, HEADS = 6, 2


def attention(temperatures=(2.0, 0.5)):
    torch.manual_seed(0)
    layer = SpectralAttention(WIDTH, HEADS).double()
    with torch.no_grad():
        layer.temperature.copy_(torch.tensor(temperatures))
    return layer


def tokens(height=5, width=3, batch=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, height, width, WIDTH, dtype=torch.float64, generator=generator)


def without_position(layer):
    with torch.no_grad():
        layer.position[-1].weight.zero_()
    return layer


def pixel_by_pixel(layer, h):
    """What the layer's maps are, by the definition: a list of pixels per channel, channels weighed one by one."""
    q, k, v = (
        [[h[i].flatten(0, 1) @ w for w in of.weight] for i in range(len(h))]
        for of in (layer.query, layer.key, layer.value)
    )
    d = WIDTH // HEADS
    mixed = torch.zeros(len(h), h[0, ..., 0].numel(), WIDTH, dtype=h.dtype)
    for image in range(len(h)):
        for channel in range(WIDTH):
            head = channel // d
            others = range(head * d, (head + 1) * d)
            cosines = [
                sum(a * b for a, b in zip(q[image][channel], k[image][other], strict=True))
                / math.sqrt(sum(a * a for a in q[image][channel]) * sum(b * b for b in k[image][other]))
                for other in others
            ]
            weights = [math.exp(layer.temperature[head] * cosine) for cosine in cosines]
            for weight, other in zip(weights, others, strict=True):
                mixed[image, :, channel] += weight / sum(weights) * v[image][other]
    position = layer.position(torch.stack([torch.stack(of) for of in v]).view(len(h), WIDTH, *h.shape[1:3]))
    return layer.out(mixed).view(h.shape) + position.movedim(1, -1)


@torch.no_grad()
def test_equals_the_definition_written_out():
    layer, h = attention(), tokens()
    torch.testing.assert_close(layer(h), pixel_by_pixel(layer, h))


@torch.no_grad()
def test_shuffled_pixels_give_shuffled_pixels_but_for_the_positional_branch():
    layer, h = attention(), tokens()
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))

    def shuffled(of):
        return of.flatten(1, 2)[:, order].view(of.shape)

    assert not torch.allclose(layer(shuffled(h)), shuffled(layer(h)))
    without_position(layer)
    torch.testing.assert_close(layer(shuffled(h)), shuffled(layer(h)))


@torch.no_grad()
def test_a_pixel_changes_every_other_pixel_and_no_other_image():
    layer, h = without_position(attention()), tokens()
    before = layer(h)
    h[0, 0, 0] += 1
    after = layer(h)
    assert (before[0] != after[0]).any(dim=-1).all()
    assert torch.equal(before[1], after[1])


@torch.no_grad()
def test_a_temperature_is_that_of_its_head():
    h = tokens()
    layers = [without_position(attention(temperatures)) for temperatures in [(2, 0.5), (2, 3), (0, 1e4)]]
    for layer in layers:
        layer.out.weight.copy_(torch.eye(WIDTH))
        layer.out.bias.zero_()
    first, second, extreme = (layer(h) for layer in layers)
    assert torch.equal(first[..., :3], second[..., :3])
    assert not torch.allclose(first[..., 3:], second[..., 3:])
    v = layers[0].value(h)
    torch.testing.assert_close(extreme[..., :3], v[..., :3].mean(-1, keepdim=True).expand(2, 5, 3, 3))  # all alike
    distance = (extreme[..., 3:, None] - v[..., None, 3:]).abs().amax((1, 2))
    assert (distance.amin(-1) < 1e-6).all()  # of each channel, the most similar alone


@torch.no_grad()
def test_contrast_does_not_change_who_attends_to_whom():
    layer, h = without_position(attention()), tokens()
    layer.out.bias.zero_()
    torch.testing.assert_close(layer(1e-3 * h), 1e-3 * layer(h))


class Calls(TorchDispatchMode):
    """The operators called, with the types of what they give."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.found.append((func.overloadpacket.__name__, getattr(result, "dtype", None)))
        return result


@pytest.mark.parametrize("heads", [1, 2])
def test_an_image_in_channels_last_order_is_not_copied(heads):
    block = SpectralBlock(8, heads).to(memory_format=torch.channels_last)
    h = torch.rand(2, 8, 6, 4).contiguous(memory_format=torch.channels_last)
    with Calls() as calls:
        block(h)
    names = [name for name, _ in calls.found]
    assert names.count("bmm") == 2 * heads
    assert not {"clone", "copy_", "_to_copy", "contiguous"} & set(names)
    with Calls() as calls:
        block(h.contiguous())
    assert "clone" in [name for name, _ in calls.found]  # as is seen where there is a copy


def test_lengths_and_softmax_are_not_in_half_precision():
    block = SpectralBlock(8, 2)
    with torch.autocast("cpu", torch.bfloat16), Calls() as calls:
        block(torch.rand(1, 8, 6, 4))
    assert ("bmm", torch.bfloat16) in calls.found
    for name in ("linalg_vector_norm", "div", "_softmax"):
        assert {dtype for called, dtype in calls.found if called == name} == {torch.float32}, name


def test_a_black_image_has_gradients_as_any_other():
    torch.manual_seed(0)
    denoiser = SpectralTransformer(28, width=8)
    z = torch.zeros(1, 28, 16, 16, requires_grad=True)
    denoiser(z).sum().backward()
    assert 0.8 < z.grad.norm() / z.numel() ** 0.5 < 1.2  # close to those of the identity, as at any other image
    assert all(p.grad.isfinite().all() for p in denoiser.parameters())


def test_where_nothing_is_attended_to_gradients_are_finite():
    layer = attention()
    h = torch.zeros(1, 4, 4, WIDTH, dtype=torch.float64, requires_grad=True)
    layer(h).sum().backward()
    assert h.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
