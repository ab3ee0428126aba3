"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch
import transformers

from rain_decoding.version import __version__


def describe(model: Any) -> dict[str, Any]:
    """The machine, the versions, and where and how the model runs."""
    device = model.device
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rain_decoding": __version__,
    }


def bytes_per_slot(model: Any) -> int:
    """Bytes of one token's keys and values in all layers."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
