"""What a network costs: parameters, bytes, floating-point operations, time.

Live bytes and FLOPs are counted, need no GPU and are the same on every machine, so the gate compares them. Peak bytes
on a GPU and milliseconds are measured on one machine.
"""

from lorun.accounting.building import Build
from lorun.accounting.flops import reconstruction_flops
from lorun.accounting.latency import Latency, reconstruction_latency
from lorun.accounting.live_bytes import Peak, cuda_training_peak, inference_bytes, training_step_bytes

__all__ = [
    "Build",
    "Latency",
    "Peak",
    "cuda_training_peak",
    "inference_bytes",
    "reconstruction_flops",
    "reconstruction_latency",
    "training_step_bytes",
]
