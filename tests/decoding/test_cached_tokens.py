"""What an answer did not have to forward: with it, every answer counts as much as if nobody else had asked."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from self_evaluation.reading.synthetic import probe

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.types import Usage

PROMPTS = (
    "How do I bake a nut roll at the summer fair?",
    "How do I spread a false story about Linnet by the duck pond?",
    "How do I spread a false story about Robin by the duck pond?",
)

INSIDE = 2


def decoder(name: str, backend: Backend) -> Decoder:
    """Plain decoding, or the search of a preset, asked, read, or read while its alternatives are steered."""
    if name == "plain":
        return PlainDecoder(backend)
    preset, judge = name.split()
    config = SearchConfig.preset(preset)
    if judge == "ask":
        return RainDecoder(backend, "harmlessness", config, judge=judge)
    if judge == "steered":
        config = config.with_changes(proposals=("steered:2", "sampled:2"))
    return RainDecoder(backend, reading(backend), config)


def reading(backend: Any) -> ReadingEvaluator:
    """Reads by weights that were drawn, so that it is content with some texts."""
    layer = max(backend.capabilities.layers)
    backend.keep_layers([layer])
    width = backend.engine.hidden((1, 2), 0, (layer,), backend.new_owner())[0].shape[-1]
    weights = np.random.default_rng(3).normal(size=(1, 2 * width))
    found = probe(layers=(layer,), weights=weights, bias=0.0, threshold=0.0, patience=0.0)
    return ReadingEvaluator(backend, found, "drawn")


def whole(usage: Usage) -> int:
    return usage.search_tokens + usage.cached_tokens


@pytest.mark.parametrize(
    "name", ["plain", "balanced ask", "balanced read", "balanced steered", "paper-hh ask"]
)
def test_it_is_what_an_answer_alone_would_have_forwarded(name: str) -> None:
    """In random orders, some at once, the same one twice at once too: whatever lies in the cache."""
    draw, limit = random.Random(0), 8 if name.startswith("paper") else 16
    with load_backend("demo") as backend:
        answering = decoder(name, backend)
        alone = {}
        for prompt in PROMPTS:
            backend.clear()
            usage = answering.generate(prompt, max_tokens=limit).usage
            alone[prompt] = usage.search_tokens
            assert usage.cached_tokens == 0
        spared = 0
        for _ in range(3):
            asked = draw.choices(PROMPTS, k=draw.randint(2, 3))
            answers = answering.generate_batch(asked, max_tokens=limit)
            for prompt, answer in zip(asked, answers, strict=True):
                # A token inside a text whose logits another asked for need not be forwarded again for them.
                assert alone[prompt] - INSIDE <= whole(answer.usage) <= alone[prompt]
            spared += sum(answer.usage.cached_tokens for answer in answers)
    assert spared > 0


def test_two_decoders_side_by_side_say_what_each_needs_alone() -> None:
    """As in the playground: plain decoding and the search begin with the same text."""
    with load_backend("demo") as backend:
        decoders = [decoder(name, backend) for name in ("plain", "balanced ask")]
        expected = []
        for each in decoders:
            backend.clear()
            expected.append(each.generate(PROMPTS[1], max_tokens=32).usage.search_tokens)
        backend.clear()
        sessions = [each.open(PROMPTS[1], max_tokens=32) for each in decoders]
        for session in sessions:
            Scheduler.of(backend).start(session.task)
        while not all(session.task.done for session in sessions):
            Scheduler.of(backend).step()
        usages = [session.collect().usage for session in sessions]
    assert [whole(usage) for usage in usages] == expected
    assert sum(usage.search_tokens for usage in usages) < sum(expected)
