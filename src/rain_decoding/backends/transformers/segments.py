"""Attention by segments: queries of different texts attend apart, each group only to the slots it sees.

One packed forward costs queries times all slots, most of which are masked. Linear layers stay packed; here the
queries are split into groups, and each attends to the union of what its members see. The result is the same for any
grouping.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "rain_segments"
WORTH_IT = 0.7
"""Segments are used where they leave at most this share of the query-slot pairs (unless every step is split)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`queries` int64 `[q]`: positions in the step; `slots` int64 `[k]`: what they see together."""

    queries: torch.Tensor
    slots: torch.Tensor


_current: ContextVar[list[Segment]] = ContextVar("segments")


def split(
    visible: np.ndarray, groups: Sequence[Hashable], device: torch.device, least_pairs: int
) -> list[Segment]:
    """Segments for a mask bool `[queries, slots]`, one per group; empty where splitting does not pay.

    Steps with fewer query-slot pairs than `least_pairs` are not split; 0 splits all.
    """
    if visible.size < least_pairs:
        return []
    members: dict[Hashable, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    rows = [np.array(positions) for positions in members.values()]
    columns = [np.flatnonzero(visible[positions].any(axis=0)) for positions in rows]
    pairs = sum(len(positions) * len(slots) for positions, slots in zip(rows, columns, strict=True))
    if least_pairs and pairs > WORTH_IT * visible.size:
        return []
    return [
        Segment(torch.from_numpy(positions).to(device), torch.from_numpy(slots).to(device))
        for positions, slots in zip(rows, columns, strict=True)
    ]


@contextmanager
def attending(config: Any, segments: list[Segment]) -> Iterator[None]:
    """Let the model whose decoder has `config` attend by segments meanwhile."""
    if not segments:
        yield
        return
    usual, token = config._attn_implementation, _current.set(segments)
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
    """What transformers calls in a layer; each segment goes through its own sdpa function.

    `query` `[1, heads, queries, size]`, `key` and `value` `[1, kv heads, slots, size]`, mask bool
    `[1, 1, queries, slots]`; returns `[1, queries, heads, size]`.
    """
    usual = ALL_ATTENTION_FUNCTIONS["sdpa"]
    assert attention_mask is not None
    output: torch.Tensor | None = None
    for segment in _current.get():
        queries, slots = (tensor.to(query.device) for tensor in (segment.queries, segment.slots))
        part, _ = usual(
            module,
            query.index_select(2, queries),
            key.index_select(2, slots),
            value.index_select(2, slots),
            attention_mask.index_select(2, queries).index_select(3, slots),
            **options,
        )
        if output is None:
            output = part.new_empty(1, query.shape[2], *part.shape[2:])
        output.index_copy_(1, queries, part)
    assert output is not None
    return output, None


ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)
