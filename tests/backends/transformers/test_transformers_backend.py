"""`LocalBackend` over the trie engine answers as the model itself does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends.transformers import tiny

from rain_decoding.backends.transformers import wrap
from rain_decoding.types import Decode, HiddenStates, LabelProbabilities, Sample, TopTokens

KINDS = ["llama", "mistral", "gemma3", "gpt2"]


@pytest.fixture(params=KINDS)
def backend(request):
    return wrap(tiny.model(request.param), tiny.byte_level_tokenizer(), name=request.param, keep_hidden=True)


def answers(backend, *requests):
    """The replies, in the order of the requests, all worked on together for one owner."""
    owner = backend.new_owner()
    handles = [backend.submit(request, owner) for request in requests]
    values = {}
    while len(values) < len(handles):
        for reply in backend.step():
            assert reply.error is None, reply.error
            values[reply.handle] = reply.value
    return [values[handle] for handle in handles]


def probabilities(name, tokens):
    return torch.softmax(torch.from_numpy(tiny.plain(name, tokens)).double(), dim=-1).numpy()


def generated(name, prompt, count):
    """The model's own greedy continuation."""
    model = tiny.model(name)
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=1,
        pad_token_id=1,
    )
    return tuple(out[0, len(prompt) :].tolist())


def test_label_probabilities_are_those_of_a_fresh_forward(backend):
    trunk = tiny.tokens(12)
    prompts = [(*trunk, *tiny.tokens(7, seed=seed)) for seed in range(4)]
    requests = [LabelProbabilities(prompt, labels=(3, 4, 5), keep=len(trunk)) for prompt in prompts]
    for prompt, value in zip(prompts, answers(backend, *requests), strict=True):
        assert np.allclose(value, probabilities(backend.name, prompt)[[3, 4, 5]], atol=1e-5)
    assert backend.counters.tokens_forwarded == 12 + 4 * 7
    assert backend.counters.peak_kv_slots == 12 + 4 * 7
    assert backend.engine.slots_used == 12


def test_greedy_decoding_is_that_of_generate(backend):
    prompts = [tiny.tokens(9, seed=seed) for seed in range(3)]
    for prompt, value in zip(
        prompts, answers(backend, *(Decode(p, max_tokens=12) for p in prompts)), strict=True
    ):
        assert value.tokens == generated(backend.name, prompt, 12)


def test_the_greedy_sample_is_that_of_generate(backend):
    prompt = tiny.tokens(9)
    (sampled,) = answers(backend, Sample(prompt, length=5, seeds=(1, 2, 3), top_k=0))
    assert sampled[0].token_set.tokens == generated(backend.name, prompt, 5)


def test_sampled_conditionals_are_products_of_the_models_probabilities(backend):
    prompt = tiny.tokens(9)
    (sampled,) = answers(backend, Sample(prompt, length=3, seeds=(1, 2, 3), top_k=0))
    for candidate in sampled:
        text, expected = prompt, 1.0
        for token in candidate.token_set.tokens:
            expected *= probabilities(backend.name, text)[token]
            text = (*text, token)
        assert candidate.probability == pytest.approx(expected, rel=1e-4)


def test_draws_do_not_depend_on_what_runs_beside_them():
    prompt = tiny.tokens(9)
    request = Sample(prompt, length=6, seeds=(1, 2, 3))
    alone, beside = (
        wrap(tiny.model("llama"), tiny.byte_level_tokenizer(), max_kv_slots=limit) for limit in (None, 60)
    )
    (expected,) = answers(alone, request)
    crowd = [Decode(tiny.tokens(8, seed=seed), max_tokens=10, seed=seed) for seed in range(5)]
    found, *_ = answers(beside, request, *crowd)
    assert [each.token_set for each in found] == [each.token_set for each in expected]


def test_top_tokens_after_samples_cost_nothing_new():
    backend = wrap(tiny.model("llama"), tiny.byte_level_tokenizer())
    prompt = tiny.tokens(9)
    answers(backend, Sample(prompt, length=1, seeds=(1,)))
    before = backend.counters.tokens_forwarded
    (top,) = answers(backend, TopTokens(prompt, 3))
    assert backend.counters.tokens_forwarded == before
    assert [each.probability for each in top] == pytest.approx(
        sorted(probabilities("llama", prompt), reverse=True)[:3], rel=1e-4
    )


def test_hidden_states(backend):
    prompt = tiny.tokens(9)
    ((states,),) = answers(backend, HiddenStates(prompt, 5))
    with torch.inference_mode():
        expected = tiny.model(backend.name).base_model(torch.tensor([prompt])).last_hidden_state[0, 5:]
    assert np.allclose(states, expected.numpy(), atol=1e-4)
