"""transformers' own greedy decoding with its own cache, on the same weights: the other plain decoding."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rain_decoding.backends.base import Codec
from rain_decoding.backends.endings import holds_marker
from rain_decoding.types import Stop, Tokens


@dataclass
class StopLikeOurs:
    """A stopping criterion of `generate`: an end of sequence or a marker, row by row, as our decoders stop."""

    codec: Codec
    stops: list[Stop]
    first: float | None = None
    """When the first token was there (`time.perf_counter`)."""
    ended: list[int | None] = field(default_factory=list)
    """Per row, its length in tokens when it ended, padding included."""

    def __post_init__(self) -> None:
        self.ended = [None] * len(self.stops)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        rows = input_ids.tolist()
        self.first = self.first or time.perf_counter()
        for index, (row, stop) in enumerate(zip(rows, self.stops, strict=True)):
            if self.ended[index] is None and self._ends(row, stop):
                self.ended[index] = len(row)
        return torch.tensor([end is not None for end in self.ended], device=input_ids.device)

    def _ends(self, row: list[int], stop: Stop) -> bool:
        return row[-1] in self.codec.eos or holds_marker(self.codec, tuple(row), stop, new=1)


@torch.inference_mode()
def generate(
    model: Any, codec: Codec, prompts: Sequence[Tokens], markers: Sequence[tuple[str, ...]], max_tokens: int
) -> tuple[list[Tokens], StopLikeOurs]:
    """Answer the prompts greedily in one batch, padded on the left; the answers' tokens, and when they came."""
    width, pad = max(map(len, prompts)), min(codec.eos)
    rows = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    stopping = StopLikeOurs(codec, [Stop(each, width) for each in markers])
    output = _greedy(model, rows, mask, max_tokens, pad_token_id=pad, stopping_criteria=[stopping]).tolist()
    return [tuple(row[width:end]) for row, end in zip(output, stopping.ended, strict=True)], stopping


@torch.inference_mode()
def generate_exactly(model: Any, prompt: Tokens, tokens: int) -> None:
    """Decode so many tokens greedily, whatever they are."""
    _greedy(model, [list(prompt)], [[1] * len(prompt)], tokens, min_new_tokens=tokens, pad_token_id=0)


def _greedy(
    model: Any, rows: list[list[int]], mask: list[list[int]], tokens: int, **options: Any
) -> torch.Tensor:
    return model.generate(
        input_ids=torch.tensor(rows, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=tokens,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=None,
        **options,
    )
