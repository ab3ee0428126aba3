"""Which engine a model gets, and that fallbacks answer as the model does."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from backends.transformers import tiny

from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers import probe as probe_module
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.backends.transformers.plain import PlainEngine
from rain_decoding.backends.transformers.probe import Probe, choose_engine
from rain_decoding.backends.transformers.rows import RowEngine
from rain_decoding.errors import ConfigError, NumericalError, UnsupportedError
from rain_decoding.types import Decode, LabelProbabilities, Sample


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3", "gpt2"])
def test_attention_models_get_the_trie_without_a_warning(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(choose_engine(tiny.model(kind), 128), TrieEngine)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_get_the_trie(dtype):
    assert isinstance(choose_engine(copy.deepcopy(tiny.model("qwen3")).to(dtype), 128), TrieEngine)


@pytest.mark.parametrize(
    ("kind", "expected"), [("bloom", RowEngine), ("mamba", RowEngine), ("recurrent_gemma", PlainEngine)]
)
def test_other_models_fall_back_and_say_so(kind, expected):
    with pytest.warns(UserWarning, match="'trie' fails"):
        assert isinstance(choose_engine(tiny.model(kind), 128, name=kind), expected)


def test_recurrent_models_take_their_cache_token_by_token():
    with pytest.warns(UserWarning):
        engine = choose_engine(tiny.model("mamba"), 128)
    assert isinstance(engine, RowEngine)
    assert engine.stepwise


@pytest.mark.parametrize("kind", ["bloom", "mamba", "recurrent_gemma"])
def test_fallbacks_answer_as_without_any_cache(kind):
    codec = HFCodec(tiny.byte_level_tokenizer(), eos_ids=[1])
    with pytest.warns(UserWarning):
        chosen = choose_engine(tiny.model(kind), 128)
    answers = []
    for engine in (chosen, PlainEngine(tiny.model(kind), 128)):
        backend = LocalBackend(kind, engine, codec)
        answers.append(conversation(backend))
    (sampled, decoded, labels), (plain_sampled, plain_decoded, plain_labels) = answers
    assert [each.token_set for each in sampled] == [each.token_set for each in plain_sampled]
    assert decoded == plain_decoded
    assert np.allclose(labels, plain_labels, atol=1e-5)


def conversation(backend):
    """Samples after a prompt, a rollout from one of them after a rewind, a judgement."""
    owner, prompt = backend.new_owner(), tiny.tokens(9)
    sampled = answer(backend, Sample(prompt, length=3, seeds=(1, 2, 3)), owner)
    branch = (*prompt, *sampled[1].token_set.tokens)
    backend.retain(owner, [branch])
    decoded = answer(backend, Decode(branch, max_tokens=8, seed=4), owner)
    labels = answer(backend, LabelProbabilities((*branch, 5, 6), labels=(2, 3), keep=len(prompt)), owner)
    backend.finish(owner, [branch])
    return sampled, decoded, labels


def answer(backend, request, owner):
    handle = backend.submit(request, owner)
    while True:
        for reply in backend.step():
            if reply.handle is handle:
                assert reply.error is None, reply.error
                return reply.value


@pytest.mark.parametrize(
    ("kind", "engine", "expected"),
    [("llama", "rows", RowEngine), ("llama", "none", PlainEngine), ("llama", "trie", TrieEngine)],
)
def test_an_engine_can_be_asked_for(kind, engine, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(choose_engine(tiny.model(kind), 128, engine=engine), expected)


def test_an_engine_asked_for_that_fails_is_an_error():
    with pytest.raises(UnsupportedError, match=r"bloom.*engine='auto'"):
        choose_engine(tiny.model("bloom"), 128, engine="trie", name="bloom")


def test_an_unknown_engine_is_an_error():
    with pytest.raises(ConfigError, match=r"'tree'.*auto, trie"):
        choose_engine(tiny.model("llama"), 128, engine="tree")


def test_a_model_that_gives_nan_is_an_error():
    model = copy.deepcopy(tiny.model("llama"))
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(NumericalError, match="NaN"):
        choose_engine(model, 128)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_the_probe_notices_a_wrong_mask(kind, monkeypatch):
    monkeypatch.setattr(
        probe_module.TrieEngine, "_attention", lambda engine, nodes, *rest: (None, nullcontext())
    )
    assert "its logits deviate by" in Probe(tiny.model(kind), kind).problem(
        lambda: TrieEngine(tiny.model(kind), 128)
    )


def test_the_probe_notices_a_window_that_is_not_kept(monkeypatch):
    from rain_decoding.backends.transformers import engine as engine_module

    monkeypatch.setattr(engine_module, "attention_layers", lambda config: {"full_attention": None})
    assert "its logits deviate by" in Probe(tiny.model("mistral"), "mistral").problem(
        lambda: TrieEngine(tiny.model("mistral"), 128)
    )


def test_the_memory_limit_does_not_make_the_probe_fail():
    engine = choose_engine(tiny.model("llama"), 128, max_kv_slots=4)
    assert isinstance(engine, TrieEngine)
    assert engine.max_kv_slots == 4
