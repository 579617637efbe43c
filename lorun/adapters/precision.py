"""Store the frozen base in fewer bits, for inference. Adapters and arithmetic stay in full precision.

PyTorch's parametrisations convert a weight back to floats whenever a layer uses it. nf4 is from bitsandbytes.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lorun.adapters.denoiser import AdaptedDenoiser
from lorun.errors import LorunError, one_of

Precision = Literal["float32", "bfloat16", "int8", "nf4"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_BLOCK = 64  # weights that share a scale in nf4


def hold_base(denoiser: AdaptedDenoiser, precision: Precision) -> None:
    """Store the base's weights in `precision`, in place. The lost bits cannot be restored.

    Converts the weights of all convolutions and linear layers, adapted or not; biases and norms stay unchanged.
    float32 changes nothing; bfloat16 rounds; int8 has one scale per output channel (of a transposed convolution, per
    input channel), nf4 one per 64 weights.

    Raises:
        UnknownName: no such precision.
        LorunError: nf4 without bitsandbytes.
    """
    if one_of("precision", precision, PRECISIONS) == "float32":
        return
    make = {"bfloat16": _BFloat16, "int8": _Int8, "nf4": _NF4}[precision]
    for name, layer in list(denoiser.base.named_modules()):
        if type(layer) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear) and "lora_" not in name:
            weight: Tensor = layer.weight  # type: ignore[assignment]
            parametrize.register_parametrization(layer, "weight", make(weight), unsafe=True)  # unsafe: of another dtype


class _BFloat16(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:  # only a tuple may change the dtype
        return (weight.to(torch.bfloat16),)

    def forward(self, held: Tensor) -> Tensor:
        return held.float()


class _Int8(nn.Module):
    """Symmetric, with one scale per output channel."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        greatest = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True)
        scales = greatest.clamp_min(torch.finfo(weight.dtype).tiny) / 127
        return (weight / scales).round().to(torch.int8), scales

    def forward(self, held: Tensor, scales: Tensor) -> Tensor:
        return held.float() * scales


class _NF4(nn.Module):
    """4-bit normal floats (Dettmers et al., QLoRA, NeurIPS 2023)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape = weight.shape
        self.code = _bitsandbytes().get_4bit_type("nf4", device=weight.device)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        packed, state = _bitsandbytes().quantize_4bit(weight.detach().contiguous(), blocksize=_BLOCK, quant_type="nf4")
        return packed, state.absmax

    def forward(self, packed: Tensor, scales: Tensor) -> Tensor:
        state = _bitsandbytes().QuantState(
            scales, shape=self.shape, code=self.code, blocksize=_BLOCK, quant_type="nf4", dtype=torch.float32
        )
        w: Tensor = _bitsandbytes().dequantize_4bit(packed, state)
        return w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes.functional
    except ImportError:
        raise LorunError("precision 'nf4' needs bitsandbytes, which is not installed here") from None
    return bitsandbytes.functional
