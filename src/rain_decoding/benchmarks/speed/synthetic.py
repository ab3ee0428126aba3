"""A model of no weights whose next tokens are as different as asked for: for searches that are recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from rain_decoding.backends.base import Codec
from rain_decoding.backends.scripted import ScriptedEngine
from rain_decoding.config import PAPER_ENDINGS, SearchConfig
from rain_decoding.search.randomness import derive_seed, uniforms
from rain_decoding.types import Tokens

ENDING_SHARE = 0.12
"""Share of punctuation among the tokens: a rollout ends after eight or nine."""


def choices_for(distinct: int, draws: int = 9) -> int:
    """Equally probable tokens of which a greedy token and `draws` drawn ones hold about `distinct` on average.

    `distinct` from 1 to `draws` + 1, of which the last would take endlessly many and is missed by 0.2.
    """

    def expected(choices: int) -> float:
        return 1 + (choices - 1) * (1 - (1 - 1 / choices) ** draws)

    return min(range(1, 200), key=lambda choices: abs(expected(choices) - distinct))


class SyntheticEngine(ScriptedEngine):
    """Where a token set of the answer begins there are `choices` equally probable tokens, elsewhere a single one.

    Which ones is drawn by the tokens before. `start` is to be set to the prompt's length. The answer never ends.
    Implements `backends.base.Engine` for a search of this configuration.
    """

    start = 0

    def __init__(self, codec: Codec, size: int, config: SearchConfig, *, choices: int, context: int):
        super().__init__(self.row, size, context)
        self.choices = choices
        texts = [(token, codec.decode((token,))) for token in range(size)]
        self.words = np.array([token for token, text in texts if re.fullmatch(r" [a-z]+", text)])
        self.endings = np.array([token for token, text in texts if text and text in PAPER_ENDINGS])
        self.begins = frozenset(_begins(config, context))

    def row(self, tokens: Tokens) -> np.ndarray:
        """Logits after `tokens`."""
        draw = uniforms(derive_seed(0, tokens, "synthetic"))
        logits = np.full(self.vocabulary_size, -np.inf, dtype=np.float32)
        if len(tokens) - self.start in self.begins:
            logits[draw.choice(self.words, self.choices, replace=False)] = 0.0
        else:
            logits[draw.choice(self.endings if draw.random() < ENDING_SHARE else self.words)] = 0.0
        return logits


def _begins(config: SearchConfig, limit: int) -> Iterable[int]:
    """How many tokens into the answer the token sets begin."""
    depth = position = 0
    while position < limit:
        yield position
        position += config.token_set_length(depth)
        depth += 1
