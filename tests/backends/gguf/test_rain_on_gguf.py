"""RAIN on llama.cpp agrees with RAIN on transformers: same weights, same seed, same answers at the same cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from backends.gguf.files import load

from rain_decoding import RainDecoder, SearchConfig
from rain_decoding.backends import load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.microworld import example_prompts
from rain_decoding.types import Completion, Sample, TopTokens

PROMPTS = [*example_prompts("sensitive", 3), *example_prompts("benign", 2)]


@pytest.fixture(scope="module")
def llama(demo_file: Path) -> LocalBackend:
    return load(demo_file)


@pytest.fixture(scope="module")
def demo() -> LocalBackend:
    """One to itself: what others pinned would count in the peak."""
    backend = load_backend("demo")
    assert isinstance(backend, LocalBackend)
    return backend


def answers(backend: Backend, preset: str) -> list[Completion]:
    decoder = (
        PlainDecoder(backend)
        if preset == "plain"
        else RainDecoder(backend, criterion="harmlessness", config=SearchConfig.preset(preset))
    )
    completions = []
    for prompt in PROMPTS:
        backend.clear()
        completions.append(decoder.generate(prompt, seed=1, max_tokens=40))
    return completions


@pytest.mark.parametrize("preset", ["plain", "balanced", "paper-hh"])
def test_the_same_answers_at_the_same_cost(llama: LocalBackend, demo: LocalBackend, preset: str) -> None:
    """The margins of these prompts' draws are above the engines' difference, 1e-5 of a logit."""
    for ours, reference in zip(answers(llama, preset), answers(demo, preset), strict=True):
        assert (ours.text, ours.finish_reason) == (reference.text, reference.finish_reason)
        assert ours.score == pytest.approx(reference.score, abs=1e-4)
        assert replace(ours.usage, seconds=0) == replace(reference.usage, seconds=0)


def test_the_same_candidates(llama: LocalBackend, demo: LocalBackend) -> None:
    for prompt in PROMPTS:
        prefix = demo.codec.encode(f"Human: {prompt}\n\nAssistant:")
        for request in (TopTokens(prefix, 10), Sample(prefix, 4, (1, 2, 3), top_k=15)):
            ours, reference = (value(backend, request) for backend in (llama, demo))
            assert [c.token_set for c in ours] == [c.token_set for c in reference]
            assert [c.probability for c in ours] == pytest.approx(
                [c.probability for c in reference], rel=1e-3
            )


def value(backend: Backend, request: TopTokens | Sample) -> list:
    owner = backend.new_owner()
    backend.submit(request, owner)
    replies = []
    while not replies:
        replies = backend.step()
    backend.finish(owner)
    return replies[0].value


def test_batches_and_one_by_one_agree(llama: LocalBackend) -> None:
    decoder = RainDecoder(llama, criterion="harmlessness", config=SearchConfig.preset("balanced"))
    together = decoder.generate_batch(PROMPTS, seed=1, max_tokens=40)
    assert [each.text for each in together] == [each.text for each in answers(llama, "balanced")]
