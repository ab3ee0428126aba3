"""Plain full forwards: the reference every engine is measured against, and the engine of last resort."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from rain_decoding.backends.base import Forwarded, check_layers
from rain_decoding.backends.directions import Directions, ids_of, numbers_of
from rain_decoding.backends.transformers.layers import readable_layers, shifting, tapped
from rain_decoding.types import Layer, Tokens


@torch.inference_mode()
def plain_logits(model: Any, tokens: Tokens) -> np.ndarray:
    """Logits after every token of one sequence, without any cache: float32 `[len(tokens), vocabulary]`."""
    output = model(input_ids=torch.tensor([tokens], device=model.device), use_cache=False)
    return output.logits[0].float().cpu().numpy()


class PlainEngine:
    """Forwards every sequence from its first token on, those of equal length together. Keeps nothing."""

    shares_prefixes = False
    counts_apart = True
    slots_used = 0

    def __init__(self, model: Any, context_length: int, *, max_step_tokens: int = 2048):
        self.vocabulary_size: int = model.config.get_text_config(decoder=True).vocab_size
        self.context_length = context_length
        self.max_step_tokens = max_step_tokens
        self.model = model
        self.directions = Directions()
        self.kept_layers: tuple[Layer, ...] = ()
        selects = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options = {"logits_to_keep": 1} if selects else {}

    @property
    def layers(self) -> tuple[Layer, ...]:
        return readable_layers(self.model)

    @torch.inference_mode()
    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        """See `Engine.forward`; every token is forwarded anew."""
        logits = np.empty((len(sequences), self.vocabulary_size), dtype=np.float32)
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, sequence in enumerate(sequences):
            by_length[len(sequence)].append(index)
        for length, indices in by_length.items():
            rows = max(1, self.max_step_tokens // length)
            for start in range(0, len(indices), rows):
                batch = indices[start : start + rows]
                asked = np.array([sequences[index] for index in batch])
                ids = torch.from_numpy(ids_of(asked)).to(self.model.device)
                with shifting(self.model, self.directions, numbers_of(asked)):
                    output = self.model(input_ids=ids, use_cache=False, **self._options)
                logits[batch] = output.logits[:, -1].float().cpu().numpy()
        counts = [*map(len, sequences)]
        return Forwarded(logits, counts, counts)

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """See `Engine.keep_layers`. They are computed when they are asked for."""
        new = set(layers) - set(self.kept_layers)
        check_layers(type(self.model).__name__, new, self.layers)
        self.kept_layers += tuple(new)

    @torch.inference_mode()
    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        """See `Engine.hidden`; every token is forwarded anew."""
        states: dict[Layer, np.ndarray] = {}

        def take(layer: Layer, all_states: torch.Tensor) -> None:
            states[layer] = all_states[0, start:].float().cpu().numpy()

        with tapped(self.model, layers, take):
            ids = torch.tensor([sequence], device=self.model.device)
            self.model(input_ids=ids, use_cache=False, **self._options)
        return np.stack([states[layer] for layer in layers]), len(sequence), len(sequence)

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None: ...

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None: ...

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None: ...

    def pin(self, tokens: Tokens) -> int:
        return 0

    def clear(self) -> None: ...
