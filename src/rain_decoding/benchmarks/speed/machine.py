"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed.contenders import torch_model
from rain_decoding.version import __version__


def describe(backend: LocalBackend) -> dict[str, Any]:
    """The machine, the versions, and where and how the model runs."""
    model = torch_model(backend)
    return _machine() | _on_llama_cpp(backend) if model is None else describe_model(model)


def describe_model(model: Any) -> dict[str, Any]:
    """The same for a torch model."""
    return _machine() | _on_torch(model)


def _machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rain_decoding": __version__,
    }


def _on_torch(model: Any) -> dict[str, Any]:
    """How a torch model runs."""
    import torch

    device = model.device
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "runtime": f"torch {torch.__version__}",
    }


def _on_llama_cpp(backend: LocalBackend) -> dict[str, Any]:
    engine: Any = backend.engine
    return {
        "threads": engine.threads,
        "device": "llama.cpp",
        "dtype": engine.description,
        "runtime": f"cyllama {version('cyllama')}",
    }


def bytes_per_slot(model: Any) -> int | None:
    """Bytes of one token's keys and values in all layers of a torch model; None for no model."""
    if model is None:
        return None
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize


def resident_bytes() -> int | None:
    """Memory that this process holds; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
