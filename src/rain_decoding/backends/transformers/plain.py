"""Plain full forwards: the reference every engine is measured against, and the engine of last resort."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from rain_decoding.errors import UnsupportedError
from rain_decoding.types import Tokens


@torch.inference_mode()
def plain_logits(model: Any, tokens: Tokens) -> np.ndarray:
    """Logits after every token of one sequence, without any cache: float32 `[len(tokens), vocabulary]`."""
    output = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False)
    return output.logits[0].float().cpu().numpy()


class PlainEngine:
    """Forwards every sequence from its first token on, those of equal length together. Keeps nothing."""

    hidden_states = False
    shares_prefixes = False
    slots_used = 0

    def __init__(self, model: Any, context_length: int, *, max_step_tokens: int = 2048):
        self.vocabulary_size: int = model.config.get_text_config(decoder=True).vocab_size
        self.context_length = context_length
        self.max_step_tokens = max_step_tokens
        self.model = model
        selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options = {"logits_to_keep": 1} if selects else {}

    @torch.inference_mode()
    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """See `Engine.forward`; every token is forwarded anew."""
        logits = np.empty((len(sequences), self.vocabulary_size), dtype=np.float32)
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, sequence in enumerate(sequences):
            by_length[len(sequence)].append(index)
        for length, indices in by_length.items():
            rows = max(1, self.max_step_tokens // length)
            for start in range(0, len(indices), rows):
                batch = indices[start : start + rows]
                ids = torch.tensor([sequences[index] for index in batch], device=self.model.device)
                output = self.model(input_ids=ids, use_cache=False, **self._options)
                logits[batch] = output.logits[:, -1].float().cpu().numpy()
        return logits, [len(sequence) for sequence in sequences]

    def hidden(self, sequence: Tokens, start: int, owner: int) -> tuple[np.ndarray, int]:
        """Not available: raises `UnsupportedError`."""
        raise UnsupportedError("this model gives no hidden states here", hint="use the embedding 'hashing'")

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None: ...

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None: ...

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None: ...

    def pin(self, tokens: Tokens) -> None: ...

    def clear(self) -> None: ...
