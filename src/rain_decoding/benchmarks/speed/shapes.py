"""Randomly initialised Llama models of well-known shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from rain_decoding.backends.transformers.loading import parse_device, parse_dtype
from rain_decoding.errors import ConfigError

CONTEXT = 4096
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 2048,
    },
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "llama-7b": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    "llama-13b": {
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "vocab_size": 32000,
    },
}
"""By name, what makes the shape: Llama 3.2 1B, Llama 2 7B and 13B, and one for tests."""
ROOM = 1.2
"""Memory needed, as a multiple of the weights: keys and values and the work of a step come to them."""


def random_model(shape: str, *, device: str | None = None, dtype: str | None = None) -> Any:
    """A Llama of this shape with random weights; bfloat16 on a GPU and float32 on a CPU, unless said otherwise.

    Raises `ConfigError` for an unknown shape and for one that does not fit into the memory that is free.
    """
    if shape not in SHAPES:
        raise ConfigError(f"unknown shape {shape!r}", hint=f"shapes: {', '.join(SHAPES)}")
    place = parse_device(device)
    kind = parse_dtype(dtype or ("float32" if place.type == "cpu" else "bfloat16"), place)
    config = LlamaConfig(max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=1, **SHAPES[shape])
    _check_memory(shape, config, place, kind)
    torch.manual_seed(0)
    with place:
        return AutoModelForCausalLM.from_config(config, dtype=kind).eval()


def _check_memory(shape: str, config: LlamaConfig, device: torch.device, dtype: Any) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    needed = ROOM * sum(weight.numel() * weight.element_size() for weight in model.parameters())
    free = free_bytes(device)
    if free is not None and needed > free:
        raise ConfigError(
            f"{shape} in {str(dtype).removeprefix('torch.')} needs {needed / 1e9:.1f} GB, and {device} has "
            f"{free / 1e9:.1f} GB free",
            hint="use a smaller --shape, another --device, or --dtype bfloat16",
        )


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.is_file():
        return None
    (available,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(available.split()[1]) * 1024
