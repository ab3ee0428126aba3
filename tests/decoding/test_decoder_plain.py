"""`PlainDecoder`: its draws follow the model, and on a real model it is transformers' own greedy decoding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from decoder_worlds import scripted
from scipy.stats import chisquare

from rain_decoding import PlainDecoder
from rain_decoding.backends.local import LocalBackend

NEXT = {" a": 0.5, " b": 0.3, " c": 0.15, " d": 0.05}
END = {"<end>": 1.0}
DRAWS = 1500


def one_token_world() -> Any:
    return scripted(lambda text: NEXT if text.endswith(":") else END, list(NEXT))


def expected(temperature: float = 1.0, keep: int = 4) -> dict[str, float]:
    """The distribution at a temperature over the `keep` likeliest tokens, worked out anew."""
    kept = dict(list(NEXT.items())[:keep])
    powers = {text: weight ** (1 / temperature) for text, weight in kept.items()}
    return {text.strip(): power / sum(powers.values()) for text, power in powers.items()}


@pytest.mark.parametrize(
    ("options", "distribution"),
    [
        ({"temperature": 1.0}, expected()),
        ({"temperature": 0.5}, expected(0.5)),
        ({"temperature": 2.0}, expected(2.0)),
        ({"temperature": 1.0, "top_k": 2}, expected(keep=2)),
        # 0.5 + 0.3 is less than 0.9, so the third token is the last one kept.
        ({"temperature": 1.0, "top_p": 0.9}, expected(keep=3)),
    ],
    ids=str,
)
def test_draws_follow_the_models_distribution(
    options: dict[str, Any], distribution: dict[str, float]
) -> None:
    decoder = PlainDecoder(one_token_world(), **options)
    drawn = Counter(decoder.generate("x", seed=seed, max_tokens=1).text for seed in range(DRAWS))
    assert set(drawn) == set(distribution)
    counts = [drawn[text] for text in distribution]
    result = chisquare(counts, DRAWS * np.array(list(distribution.values())))
    assert result.pvalue > 1e-3, drawn


def test_draws_of_different_prompts_are_independent_of_each_other() -> None:
    decoder = PlainDecoder(one_token_world(), temperature=1.0)
    prompts = [f"prompt {number}" for number in range(DRAWS)]
    drawn = Counter(c.text for c in decoder.generate_batch(prompts, max_tokens=1))
    assert chisquare([drawn[t] for t in expected()], DRAWS * np.array([*expected().values()])).pvalue > 1e-3


def test_greedy_ignores_the_seed_and_takes_the_first_of_equals() -> None:
    backend = scripted(lambda text: {" b": 1, " a": 1} if text.endswith(":") else END, [" a", " b"])
    assert {PlainDecoder(backend).generate("x", seed=seed).text for seed in range(4)} == {"a"}


def held_out() -> list[str]:
    from rain_decoding.microworld import example_prompts

    return [*example_prompts("sensitive", 2), *example_prompts("benign", 2), *example_prompts("question", 1)]


def test_greedy_is_transformers_own(demo: LocalBackend) -> None:
    import torch

    model: Any = demo.engine.model  # type: ignore[attr-defined]
    decoder = PlainDecoder(demo)
    for prompt in held_out():
        stream = decoder.stream(prompt, max_tokens=40)
        pieces = "".join(commit.text for commit in stream)
        assert stream.completion is not None
        tokens = stream._session.prompt.tokens
        with torch.inference_mode():
            generated = model.generate(
                torch.tensor([tokens]),
                attention_mask=torch.ones(1, len(tokens)),
                do_sample=False,
                max_new_tokens=40,
            )
        reference = generated[0, len(tokens) :].tolist()
        assert list(stream.completion.tokens) == reference[: len(stream.completion.tokens)]
        assert len(stream.completion.tokens) == len(reference) or stream.completion.finish_reason == "stop"
        assert pieces == stream.completion.text


def test_a_cache_saves_the_prompt(demo: LocalBackend) -> None:
    decoder = PlainDecoder(demo)
    first, second = (decoder.generate(held_out()[0], max_tokens=20) for _ in range(2))
    # Every token is forwarded once, but the last one drawn never (and a pinned start of sequence no more);
    # the second time all is remembered.
    once = first.usage.prompt_tokens + first.usage.completion_tokens - 1
    assert once - 1 <= first.usage.search_tokens <= once
    assert second.usage.search_tokens == 0 and second.text == first.text


def test_a_batch_is_what_each_prompt_gives_alone(demo: LocalBackend) -> None:
    from rain_decoding.microworld import FAMILIES, example_prompts

    prompts = [prompt for family in FAMILIES for prompt in example_prompts(family, 4)][:16]
    decoder = PlainDecoder(demo, temperature=1.0)
    batch = decoder.generate_batch(prompts, seed=5, max_tokens=24)
    after_others = [decoder.generate(prompt, seed=5, max_tokens=24) for prompt in prompts[:3]]
    demo.clear()
    alone = []
    for prompt in prompts:
        alone.append(decoder.generate(prompt, seed=5, max_tokens=24))
        demo.clear()
    assert [c.text for c in batch] == [c.text for c in alone]
    assert [c.text for c in batch[:3]] == [c.text for c in after_others]
    assert len({c.text for c in batch}) > 8
