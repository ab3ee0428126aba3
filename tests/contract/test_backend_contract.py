"""What every backend of the registry must do. A backend that is added must name a case here."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_worlds import SCRIPT

from rain_decoding import InputError, ModelNotFoundError, UnsupportedError, load_backend
from rain_decoding.backends import BACKENDS
from rain_decoding.backends.base import Backend, Handle, Reply
from rain_decoding.backends.local import LocalBackend
from rain_decoding.types import Decode, Decoded, HiddenStates, LabelProbabilities, Sample, Stop, TopTokens


def _scripted(folder: Path) -> str:
    (folder / "model.toml").write_text(SCRIPT["model.toml"], encoding="utf-8")
    return f"scripted:{folder / 'model.toml'}"


def _tiny_llama(folder: Path) -> str:
    from backends.transformers.tiny import LLAMA_LIKE, byte_level_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(7)
    tokenizer = byte_level_tokenizer()
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    LlamaForCausalLM(LlamaConfig(**(LLAMA_LIKE | ids))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"


def _llama_cpp(folder: Path) -> str:
    from rain_decoding.microworld.export import write_gguf

    write_gguf(folder / "demo.gguf")
    return f"gguf:{folder / 'demo.gguf'}"


def _endpoint(_: Path) -> str:
    from backends.openai.stub import Stub
    from decoder_worlds import lock_world

    return f"openai:{Stub(lock_world()).url}#stub"


CASES: dict[str, Callable[[Path], str]] = {
    "scripted": _scripted,
    "hf": _tiny_llama,
    "gguf": _llama_cpp,
    "openai": _endpoint,
    "demo": lambda _: "demo",
}


def test_every_backend_has_a_case() -> None:
    assert set(CASES) == set(BACKENDS.own)


@pytest.fixture(scope="module", params=list(CASES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    if request.param == "demo":
        return request.getfixturevalue("demo_backend")
    return load_backend(CASES[request.param](tmp_path_factory.mktemp(request.param)))


@pytest.fixture
def backend(loaded: Backend) -> Backend:
    loaded.clear()
    return loaded


def answer(backend: Backend, *requests: Any) -> list[Any]:
    """The values of requests that run at the same time."""
    owner = backend.new_owner()
    handles = [backend.submit(request, owner) for request in requests]
    replies: dict[Handle, Reply] = {}
    while len(replies) < len(handles):
        replies |= {reply.handle: reply for reply in backend.step()}
    backend.finish(owner)
    assert set(replies) == set(handles)
    for reply in replies.values():
        if reply.error is not None:
            raise reply.error
    return [replies[handle].value for handle in handles]


def remote(backend: Backend) -> bool:
    """Whether the model is asked over HTTP: what a step brings is then up to its server."""
    return not isinstance(backend, LocalBackend)


def prompt(backend: Backend, text: str = "Human: Well?\n\nAssistant:") -> tuple[int, ...]:
    return backend.codec.encode(text)


def test_codec_round_trip(backend: Backend) -> None:
    text = "Human: Well?\n\nAssistant: No"
    assert backend.codec.decode(backend.codec.encode(text)) == text
    assert backend.codec.eos and backend.codec.decode(list(backend.codec.eos)) == ""


def test_replies_come_once_for_what_was_submitted(backend: Backend) -> None:
    owner, other = backend.new_owner(), backend.new_owner()
    assert owner != other
    assert backend.step() == []
    kept = backend.submit(TopTokens(prompt(backend), 2), owner)
    dropped = backend.submit(Decode(prompt(backend), 40), other)
    assert backend.pending == 2
    backend.cancel(dropped)
    backend.cancel(dropped)
    assert backend.pending == 1
    replies: list[Reply] = []
    while not replies:
        replies += backend.step()
    replies += [reply for _ in range(45) for reply in backend.step()]
    assert [reply.handle for reply in replies] == [kept] and backend.pending == 0
    if remote(backend):  # a server has tokens of its own, and says how many
        assert kept.requests == 1 and kept.forwarded > 1
    else:
        assert kept.requests == 0 and 0 < kept.forwarded <= len(prompt(backend))
    backend.finish(owner)
    backend.finish(other)


def test_requests_may_join_a_running_batch(backend: Backend) -> None:
    owner = backend.new_owner()
    alone = answer(backend, Decode(prompt(backend), 6, seed=3))[0]
    first = backend.submit(Decode(prompt(backend), 6, seed=3), owner)
    replies = {reply.handle: reply for reply in backend.step()}
    assert len(first.decoded) == 1 or remote(backend)
    assert first.decoded == alone.tokens[: len(first.decoded)]
    backend.submit(Sample(prompt(backend), 3, (1, 2)), owner)
    while len(replies) < 2:
        replies |= {reply.handle: reply for reply in backend.step()}
    assert replies[first].value == alone
    backend.finish(owner)


def test_top_tokens_are_ordered_and_probable(backend: Backend) -> None:
    (candidates,) = answer(backend, TopTokens(prompt(backend), 5))
    keys = [(-candidate.probability, candidate.token_set.tokens) for candidate in candidates]
    assert keys == sorted(keys) and 0 < len(keys) <= 5
    assert all(len(candidate.token_set.tokens) == 1 for candidate in candidates)
    assert all(0 < candidate.probability <= 1 for candidate in candidates)
    assert sum(candidate.probability for candidate in candidates) <= 1 + 1e-6
    (fewer,) = answer(backend, TopTokens(prompt(backend), 1))
    assert fewer == candidates[:1]


def test_samples_are_greedy_first_then_one_per_seed(backend: Backend) -> None:
    request = Sample(prompt(backend), 3, (11, 12, 11), top_k=5)
    (sets,) = answer(backend, request)
    (greedy,) = answer(backend, Decode(prompt(backend), 3))
    assert len(sets) == 4
    assert sets[0].token_set.tokens == greedy.tokens
    assert sets[1] == sets[3], "a draw depends on its seed alone"
    assert all(0 < candidate.probability <= 1 for candidate in sets)
    (drawn,) = answer(backend, Sample(prompt(backend), 3, (12, 11), greedy=False, top_k=5))
    assert [candidate.token_set for candidate in drawn] == [sets[2].token_set, sets[1].token_set]
    for candidate in sets:
        tokens = candidate.token_set.tokens
        ended = [position for position, token in enumerate(tokens) if token in backend.codec.eos]
        assert candidate.token_set.finished == bool(ended)
        assert ended == [len(tokens) - 1] if ended else len(tokens) == 3


def test_the_greedy_conditional_is_the_product_of_its_tokens(backend: Backend) -> None:
    (sets,) = answer(backend, Sample(prompt(backend), 2, (), top_k=0))
    tokens, product = sets[0].token_set.tokens, 1.0
    for position, token in enumerate(tokens):
        (probabilities,) = answer(backend, LabelProbabilities(prompt(backend) + tokens[:position], (token,)))
        product *= float(probabilities[0])
    assert math.isclose(sets[0].probability, product, rel_tol=1e-4)


def test_decode_tests_for_its_end_before_it_draws(backend: Backend) -> None:
    before = backend.counters.tokens_forwarded
    start = prompt(backend)
    marked = Stop(("Human:",), 0)
    replies = answer(backend, Decode(start, 5, endings=":"), Decode(start, 0), Decode(start, 5, stop=marked))
    assert replies == [Decoded((), "ending"), Decoded((), "length"), Decoded((), "stop")]
    assert backend.counters.tokens_forwarded == before


def test_decode_ends_where_it_is_told(backend: Backend) -> None:
    start = prompt(backend)
    (free,) = answer(backend, Decode(start, 12, seed=5))
    assert (len(free.tokens), free.reason) == (12, "length") or free.reason == "stop"
    for length in range(1, len(free.tokens)):
        (cut,) = answer(backend, Decode(start, length, seed=5))
        assert (cut.tokens, cut.reason) == (free.tokens[:length], "length")
    text = backend.codec.decode(start + free.tokens[:3])
    (ended,) = answer(backend, Decode(start, 12, seed=5, endings=text[-1]))
    assert ended.reason in ("ending", "stop") and len(ended.tokens) <= 3


def test_label_probabilities_are_probabilities(backend: Backend) -> None:
    (top,) = answer(backend, TopTokens(prompt(backend), 4))
    labels = tuple(candidate.token_set.tokens[0] for candidate in top)
    (probabilities,) = answer(backend, LabelProbabilities(prompt(backend), labels))
    assert isinstance(probabilities, np.ndarray) and probabilities.dtype == np.float64
    assert (probabilities >= 0).all() and probabilities.sum() <= 1 + 1e-6
    assert probabilities.tolist() == pytest.approx([candidate.probability for candidate in top], rel=1e-4)


def test_answers_do_not_depend_on_what_is_cached(backend: Backend) -> None:
    requests = [Sample(prompt(backend), 3, (1, 2, 3)), Decode(prompt(backend), 5, seed=9)]
    sets, decoded = answer(backend, *requests)
    backend.clear()
    (again,), (other,) = answer(backend, requests[1]), answer(backend, requests[0])
    assert again == decoded
    assert [candidate.token_set for candidate in other] == [candidate.token_set for candidate in sets]
    # Another batch shape, other last bits.
    assert [c.probability for c in other] == pytest.approx([c.probability for c in sets], rel=1e-4)


def test_impossible_requests_are_refused_at_once(backend: Backend) -> None:
    owner = backend.new_owner()
    too_long = prompt(backend) * (backend.context_length // len(prompt(backend)) + 1)
    for prefix in ((), too_long):
        with pytest.raises(InputError):
            backend.submit(TopTokens(prefix, 2), owner)
    with pytest.raises(UnsupportedError, match="layer 999") as caught:
        backend.submit(HiddenStates(prompt(backend), layers=(999,)), owner)
    assert "hashing" in caught.value.hint
    assert backend.pending == 0 and backend.step() == []


def test_finish_and_clear_give_memory_back(backend: Backend) -> None:
    held = backend.counters.kv_slots
    owner = backend.new_owner()
    backend.submit(Sample(prompt(backend), 4, (1, 2, 3, 4)), owner)
    for _ in range(5):
        backend.step()
    assert backend.counters.kv_slots > held or not backend.capabilities.shares_prefixes
    backend.finish(owner)
    assert backend.counters.kv_slots <= held
    backend.clear()


@pytest.mark.parametrize("name", ["", "gpt", "demo:x", "hf:", "hf", "scripted:", "nothing:x", ":", "Demo"])
def test_unknown_names_raise(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        load_backend(name)
    assert "scripted:FILE" in caught.value.hint


def test_files_and_folders_that_hold_no_model(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    for name in (
        f"hf:{tmp_path}",
        f"hf:{tmp_path}/none",
        f"hf:{tmp_path}/file.txt",
        f"scripted:{tmp_path}/none",
        f"gguf:{tmp_path}/none",
        f"gguf:{tmp_path}/file.txt",
    ):
        with pytest.raises(ModelNotFoundError):
            load_backend(name)
