"""What a caller puts between a model and the text of one owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from decoder_worlds import WORDS, babble_world

from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.types import Decode, LabelProbabilities, Sample, Stop, Tokens, TopTokens

PROMPT = "Human: Well?\n\nAssistant:"
BANNED, LAST = 5, 7


class Strict:
    """Bans a token, ends texts behind another, and remembers where it was asked."""

    def __init__(self) -> None:
        self.asked: list[Tokens] = []

    def scores(self, sequences: Sequence[Tokens], logits: np.ndarray) -> np.ndarray:
        assert logits.shape == (len(sequences), len(WORDS) + 1) and len({len(s) for s in sequences}) == 1
        self.asked += sequences
        logits = logits.copy()
        logits[:, BANNED] = -np.inf
        return logits

    def ended(self, sequence: Tokens) -> bool:
        return sequence[-1] == LAST


def answers(backend: ScriptedBackend, owner: int, prompt: Tokens) -> list[Any]:
    """Token sets of all kinds, and the probability of the banned token."""
    requests = [
        TopTokens(prompt, 20),
        Sample(prompt, 8, tuple(range(40)), top_k=0),
        *(Decode(prompt, 30, seed=seed, stop=Stop(start=len(prompt))) for seed in range(20)),
        Decode((*prompt, LAST), 30, stop=Stop(start=len(prompt))),
        LabelProbabilities(prompt, (BANNED,)),
    ]
    handles = [backend.submit(request, owner) for request in requests]
    values = {}
    while len(values) < len(handles):
        values |= {reply.handle: reply.value for reply in backend.step()}
    return [values[handle] for handle in handles]


def test_all_text_of_an_owner_is_steered_until_it_is_finished() -> None:
    backend, strict = babble_world(), Strict()
    prompt = backend.codec.encode(PROMPT)
    steered, free = backend.new_owner(), backend.new_owner()
    backend.steer(steered, strict)
    top, sets, *decoded, opened, judged = answers(backend, steered, prompt)
    texts = [c.token_set.tokens for c in (*top, *sets)] + [d.tokens for d in decoded]
    assert not any(BANNED in tokens for tokens in texts)
    assert sum(LAST in tokens for tokens in texts) > 20 and all(LAST not in tokens[:-1] for tokens in texts)
    for candidate in (*top, *sets):
        last = candidate.token_set.tokens[-1]
        assert candidate.token_set.finished == (last == LAST or last in backend.codec.eos)
    assert all(d.reason == "stop" for d in decoded if d.tokens[-1] == LAST)
    assert (opened.tokens, opened.reason) == ((), "stop")
    assert strict.asked and all(sequence[: len(prompt)] == prompt for sequence in strict.asked)
    other = answers(backend, free, prompt)
    assert judged == other[-1] > 0, "labels are not steered"
    assert any(BANNED in d.tokens for d in other[2:-2])
    backend.finish(steered)
    again = answers(backend, steered, prompt)
    assert [d.tokens for d in again[2:-1]] == [d.tokens for d in other[2:-1]]
