"""Attention masks over slots, for every kind of layer that a decoder may have."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rain_decoding.errors import UnsupportedError

Layers = dict[str, int | None]
"""Kind of attention layer -> its window or chunk in tokens (None: full attention)."""


def attention_layers(config: Any) -> Layers:
    """The kinds of attention layers in a decoder's config. Raises `UnsupportedError` for kinds unknown here.

    A window longer than a probe sequence would go unnoticed by the probe, so kinds are checked by name.
    """
    if "local" in (getattr(config, "attention_layers", None) or ()):
        raise UnsupportedError("local attention layers", hint="use engine='rows'")
    window, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    single = "sliding_attention" if window else "chunked_attention" if chunk else "full_attention"
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or [single])
    sizes = {"full_attention": None, "sliding_attention": window, "chunked_attention": chunk}
    if unknown := [kind for kind in kinds if kind not in sizes]:
        raise UnsupportedError(
            f"layers of the unsupported kind {', '.join(unknown)}", hint="use engine='rows'"
        )
    return {kind: sizes[kind] for kind in kinds}


def within_reach(
    kind: str, size: int | None, mask: np.ndarray, queries: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """`mask` (bool `[queries, keys]`) restricted to what a layer of this kind sees.

    `queries` and `keys` are the depths of the tokens in their sequences, 1 for the first.
    """
    if size is None:
        return mask
    if kind == "sliding_attention":
        return mask & (queries[:, None] - keys[None, :] < size)
    return mask & ((queries[:, None] - 1) // size == (keys[None, :] - 1) // size)


def additive(mask: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What is added to the scores of attention: 0 where the bool mask is true, else the least number of `dtype`.

    Eager attention takes nothing else, and sdpa would make it of a bool mask in every layer.
    """
    least = np.float32(torch.finfo(dtype).min)
    return torch.from_numpy(np.where(mask, np.float32(0), least)).to(device, dtype)
