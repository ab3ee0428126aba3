"""Attention by segments: queries of different texts attend apart, each group only to the slots it sees.

One packed forward costs queries times all slots, most of which are masked. Linear layers stay packed; here the
queries are split into groups, and each attends to the union of what its members see. Groups of like size are padded
to one batch, so that a step makes few calls. The result is the same for any grouping.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rain_decoding.backends.transformers.masks import additive

NAME = "rain_segments"
WORTH_IT = 0.7
"""Segments are used where they leave at most this share of the query-slot pairs (unless every step is split)."""
LONG = 1024
"""A buffer of so many slots is too much to read for however few queries."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`queries` int64 `[q]`: positions in the step; `slots` int64 `[k]`: what they see together."""

    queries: np.ndarray
    slots: np.ndarray


def split(visible: np.ndarray, groups: Sequence[Hashable], least_pairs: int) -> list[Segment]:
    """Segments for a mask bool `[queries, slots]`, one per group; empty where splitting does not pay.

    Steps with fewer query-slot pairs than `least_pairs`, and fewer slots than `LONG`, are not split; 0 splits all.
    """
    if visible.size < least_pairs and visible.shape[1] < LONG:
        return []
    members: dict[Hashable, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[group].append(position)
    segments = [
        Segment(np.array(positions), np.flatnonzero(visible[positions].any(axis=0)))
        for positions in members.values()
    ]
    pairs = sum(len(segment.queries) * len(segment.slots) for segment in segments)
    return [] if least_pairs and pairs > WORTH_IT * visible.size else segments


@dataclass(frozen=True, slots=True)
class Batch:
    """`size` segments, padded. `queries` int64 `[size * q]`, `slots` int64 `[size * k]`; `masks`, one for each kind of
    layer, are what is added to the scores, `[size, 1, q, k]`."""

    size: int
    queries: torch.Tensor
    slots: torch.Tensor
    masks: list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Batches:
    """All queries of a step. Query i stands at `places[i]` of the batches' padded queries, one after the other."""

    parts: list[Batch]
    places: torch.Tensor


def batches(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], dtype: torch.dtype, device: torch.device
) -> Batches:
    """Segments of like size together. `masks` are bool `[queries, slots]`, one for each kind of layer."""
    alike: dict[int, list[Segment]] = defaultdict(list)
    for segment in segments:
        alike[len(segment.queries).bit_length()].append(segment)
    parts, places, before = [], np.empty(len(masks[0]), dtype=np.int64), 0
    for each in alike.values():
        queries, is_query = _padded([segment.queries for segment in each])
        slots, is_slot = _padded([segment.slots for segment in each])
        places[queries[is_query]] = before + np.flatnonzero(is_query)
        before += queries.size
        seen = [mask[queries[:, :, None], slots[:, None, :]] & is_slot[:, None, :] for mask in masks]
        parts.append(
            Batch(
                len(each),
                torch.from_numpy(queries.ravel()).to(device),
                torch.from_numpy(slots.ravel()).to(device),
                [additive(mask[:, None], dtype, device) for mask in seen],
            )
        )
    return Batches(parts, torch.from_numpy(places).to(device))


def _padded(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The rows as int64 `[rows, longest]`, each filled up with its first entry, and which entries are their own."""
    own = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
    table = np.repeat([row[0] for row in rows], own.shape[1]).reshape(own.shape)
    table[own] = np.concatenate(rows)
    return table, own


_current: ContextVar[Batches] = ContextVar("batches")


def placeholder(kind: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What the model is given as the mask of one kind of layer; its length tells the kind, on any device."""
    return torch.zeros(1, 1, 1, kind + 1, dtype=dtype, device=device)


@contextmanager
def attending(config: Any, prepared: Batches) -> Iterator[None]:
    """Let the model whose decoder has `config` attend by segments meanwhile."""
    usual, token = config._attn_implementation, _current.set(prepared)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
        _current.reset(token)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in a layer; every batch goes through its own sdpa function.

    `query` `[1, heads, queries, size]`, `key` and `value` `[1, kv heads, slots, size]`, the mask a `placeholder`;
    returns `[1, queries, heads, size]`.
    """
    usual = ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert attention_mask is not None
    kind, device, prepared, parts = attention_mask.shape[-1] - 1, query.device, _current.get(), []
    for batch in prepared.parts:
        queries, slots = batch.queries.to(device), batch.slots.to(device)
        part, _ = usual(
            module,
            _gathered(query, queries, batch.size),
            _gathered(key, slots, batch.size),
            _gathered(value, slots, batch.size),
            batch.masks[kind].to(device),
            **options,
        )
        parts.append(part.flatten(0, 1))
    padded = torch.cat(parts) if len(parts) > 1 else parts[0]
    return padded.index_select(0, prepared.places.to(device))[None], None


def _gathered(states: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """From `[1, heads, n, width]` those at `places`, as `[size, heads, n, width]`."""
    return states[0].index_select(1, places).unflatten(1, (size, -1)).transpose(0, 1)


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
