"""LoRA on an unfolding network: one peft adapter per stage on one denoiser, which is frozen by default.

Adapter k changes layer W into W + s B_k A_k with rank ceil(min(in, out) * gamma / 100) (LoRun, IEEE TIP 2026).
Configuration, injection, counting and the format of files are peft's. Convolutions may also have loralib's layout.
"""

from lorun.adapters.denoiser import AdaptedDenoiser, adaptable_layers, adapter_config, rank, stage_name
from lorun.adapters.layers import LoralibConv2d, StageConv2d, StageLinear

__all__ = [
    "AdaptedDenoiser",
    "LoralibConv2d",
    "StageConv2d",
    "StageLinear",
    "adaptable_layers",
    "adapter_config",
    "rank",
    "stage_name",
]
