"""LoRun suite: deep unfolding networks with LoRA adapters, trained, measured and compared."""

import logging

# peft imports bitsandbytes, which warns of kernels that nothing here uses.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__version__ = "0.1.0"
