"""Examples that a model makes itself: its answers under a rule and against it, without the rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from rain_decoding.backends.scripted import ScriptedBackend, ScriptedCodec
from rain_decoding.self_evaluation.reading.made import everyday_requests, made_examples

PRINCIPLE = "The answer is kind."


def obedient() -> ScriptedBackend:
    """Kind or rude, as it is told; sometimes it says nothing."""
    codec = ScriptedCodec(["<end>", " Kind.", " Rude.", " Well,"], "<end>")

    def logits(tokens: Any) -> np.ndarray:
        text = codec.decode(tokens)
        if text.endswith((" Kind.", " Rude.")):
            return np.array([9.0, -9.0, -9.0, -9.0])
        rude = "Break this rule" in text
        return np.array([-1.0, -9.0 if rude else 2.0, 2.0 if rude else -9.0, 1.0])

    return ScriptedBackend(logits, codec, name="obedient")


def test_a_good_and_a_bad_answer_to_every_request() -> None:
    made = list(made_examples(obedient(), PRINCIPLE))
    requests = everyday_requests()
    assert len(requests) == len(set(requests)) == 60
    for example in made:
        (message,) = example.messages
        assert message.role == "user" and message.content in requests and example.group == message.content
        assert ("Kind." in example.answer) == example.good or example.answer.endswith("Well,")
        assert PRINCIPLE not in example.answer and "<end>" not in example.answer
    assert {(example.group, example.good) for example in made} <= {
        (r, g) for r in requests for g in (True, False)
    }
    assert len(made) > 100, "only what said nothing is missing"


def test_the_same_seed_makes_the_same_examples() -> None:
    one, same, other = (
        sorted((e.group, e.good, e.answer) for e in made_examples(obedient(), PRINCIPLE, seed=seed))
        for seed in (1, 1, 2)
    )
    assert one == same != other
