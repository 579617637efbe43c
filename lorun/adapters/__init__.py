"""LoRA on an unfolding network: one peft adapter per stage on one frozen denoiser.

Adapter k changes layer W into W + s B_k A_k with s = 1 and rank ceil(min(in, out) * gamma / 100) (LoRun, IEEE TIP
2026). Configuration, injection, saving, loading and counting are peft's.
"""

from lorun.adapters.denoiser import AdaptedDenoiser, adaptable_layers, adapter_config, rank, stage_name
from lorun.adapters.layers import StageConv2d, StageLinear

__all__ = [
    "AdaptedDenoiser",
    "StageConv2d",
    "StageLinear",
    "adaptable_layers",
    "adapter_config",
    "rank",
    "stage_name",
]
