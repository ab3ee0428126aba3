"""RAIN on a real llama-server that serves the demo model agrees with RAIN in process."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.command import start
from real_models.serving import llama_server

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.base import Backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.openai.backend import EndpointBackend
from rain_decoding.microworld import example_prompts
from rain_decoding.types import LabelProbabilities, Message, Sample, TopTokens

SENSITIVE, BENIGN = example_prompts("sensitive", 3), example_prompts("benign", 3)


@pytest.fixture(scope="module")
def served(llama_url: str) -> EndpointBackend:
    backend = load_backend(f"openai:{llama_url}/v1#rain-demo")
    assert isinstance(backend, EndpointBackend)
    return backend


def value(backend: Backend, request: Any) -> Any:
    owner = backend.new_owner()
    backend.submit(request, owner)
    replies: list[Any] = []
    while not replies:
        replies = backend.step()
    backend.finish(owner)
    if replies[0].error:
        raise replies[0].error
    return replies[0].value


def test_the_probe(served: EndpointBackend) -> None:
    facts = served.endpoint.facts
    assert (facts.server, facts.model, facts.chat, facts.labels) == (
        "llama-server",
        "rain-demo",
        "none",
        "logit_bias",
    )
    assert (facts.context_length, facts.slots, facts.samples_per_request) == (1024, 4, 4)
    assert facts.top_k and facts.seed and facts.cached_tokens and facts.logprobs == 64
    assert served.dialogue_header == "" and served.criteria_dirs, "the demo model is known by its name"


def test_its_tokenizer_says_what_control_tokens_are(served: EndpointBackend, demo: LocalBackend) -> None:
    tokenizer, loop = served.endpoint.tokenizer, served._loop
    texts = [*demo.codec.special_texts, "<div>", "[i]", "<|nothing|>"]
    found = loop.start(tokenizer.are_tokens(texts)).result()
    assert found == [True] * len(demo.codec.special_texts) + [False] * 3


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_same_candidates(served: EndpointBackend, demo: LocalBackend, temperature: float) -> None:
    for prompt in SENSITIVE:
        text = f"Human: {prompt}\n\nAssistant:"
        ours, reference = (
            {
                backend.codec.decode(candidate.token_set.tokens): candidate.probability
                for candidate in value(backend, TopTokens(backend.codec.encode(text), 10, temperature))
            }
            for backend in (served, demo)
        )
        assert ours == pytest.approx(reference, rel=1e-3)
        greedy, first = (
            value(backend, Sample(backend.codec.encode(text), 4, (), top_k=15, temperature=temperature))[0]
            for backend in (served, demo)
        )
        assert served.codec.decode(greedy.token_set.tokens) == demo.codec.decode(first.token_set.tokens)
        assert greedy.probability == pytest.approx(first.probability, rel=1e-3)


def test_samples_come_in_as_many_requests_as_slots_ask_for(served: EndpointBackend) -> None:
    prefix = served.codec.encode(f"Human: {SENSITIVE[0]}\n\nAssistant:")
    before = served.counters.requests
    sets = value(served, Sample(prefix, 4, tuple(range(10)), greedy=True))
    assert len(sets) == 11 and served.counters.requests - before == 1 + 3
    assert len({candidate.token_set for candidate in sets}) > 2
    assert all(len(candidate.token_set.tokens) == 4 and 0 < candidate.probability <= 1 for candidate in sets)
    again = value(served, Sample(prefix, 4, tuple(range(10)), greedy=True))
    assert [candidate.token_set for candidate in again] == [candidate.token_set for candidate in sets]


@pytest.mark.parametrize("labels", [("A", "B"), (" First", " Thimble"), (" goat", " roof", " pony")])
def test_label_probabilities(served: EndpointBackend, demo: LocalBackend, labels: tuple[str, ...]) -> None:
    """Listed ones; one of several tokens that is not listed; none that is listed: then their shares are right."""
    text = f"Human: {BENIGN[0]}\n\nAssistant:" if labels != ("A", "B") else "The right option is: ("
    ours, reference = (
        value(
            backend,
            LabelProbabilities(
                backend.codec.encode(text),
                tuple(backend.codec.encode(f"({label}", start=False)[1] for label in labels),
            ),
        )
        for backend in (served, demo)
    )
    if labels[0] != " goat":
        assert ours == pytest.approx(reference, rel=2e-3)
    else:
        assert ours / ours.sum() == pytest.approx(reference / reference.sum(), rel=2e-3)
        assert (ours >= reference).all() and ours.max() < 1e-3


@pytest.mark.parametrize("preset", ["plain", "balanced"])
def test_the_same_answers(served: EndpointBackend, demo: LocalBackend, preset: str) -> None:
    def decoder(backend: Backend) -> Any:
        if preset == "plain":
            return PlainDecoder(backend)
        return RainDecoder(backend, "harmlessness", SearchConfig.preset(preset))

    for prompt in SENSITIVE + BENIGN:
        demo.clear()
        ours, reference = (decoder(backend).generate(prompt, seed=1) for backend in (served, demo))
        assert (ours.text, ours.finish_reason) == (reference.text, reference.finish_reason)
        assert ours.usage.completion_tokens == reference.usage.completion_tokens
        assert ours.usage.rewinds == reference.usage.rewinds
        assert ours.score == pytest.approx(reference.score, abs=1e-3)


def counters(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        text = reply.read().decode()
    found = re.findall(r"^llamacpp:(\w+) ([\d.e+]+)$", text, flags=re.MULTILINE)
    return {name: float(number) for name, number in found}


def test_fine_text_costs_what_was_promised_and_the_server_reuses_prefixes(
    served: EndpointBackend, llama_url: str
) -> None:
    decoder = RainDecoder(served, "harmlessness", SearchConfig.preset("balanced"))
    decoder.generate(BENIGN[0])
    for prompt in BENIGN:
        before = counters(llama_url)
        completion = decoder.generate(prompt)
        after = counters(llama_url)
        assert completion.usage.rewinds == 0
        sentences = len(re.findall(r"[.!?]", completion.text))
        assert completion.usage.requests <= 1 + 2 * sentences
        reused, read = (
            after[name] - before[name] for name in ("prompt_tokens_cached_total", "prompt_tokens_total")
        )
        # How much it is depends on the slots that the server chose before, and on when requests meet.
        assert reused > read / 3 > 0
        # What the backend counts is what the server did.
        new = after["tokens_predicted_total"] - before["tokens_predicted_total"]
        assert completion.usage.search_tokens == pytest.approx(read + new, abs=2)


TEMPLATE = (
    "{% for message in messages %}<|begin|>{{ 'Human' if message.role == 'user' else message.role }}: "
    "{{ message.content }}\n\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def chat(served_demo: Path) -> Iterator[EndpointBackend]:
    with llama_server(served_demo, slots=2, chat_template=TEMPLATE) as url:
        backend = load_backend(f"openai:{url}/v1")
        assert isinstance(backend, EndpointBackend)
        yield backend


def test_a_chat_model_is_asked_by_its_template(chat: EndpointBackend) -> None:
    assert chat.endpoint.facts.chat == "render" and chat.codec.has_chat_template
    rendered = chat.codec.render_chat([Message("user", "Well?")], thinking=False)
    assert rendered.endswith("Human: Well?\n\nAssistant:")
    decoder = RainDecoder(chat, "harmlessness", SearchConfig.preset("balanced", min_label_mass=0.0))
    decoder.generate(BENIGN[0], max_tokens=20)
    before = chat.counters.requests
    completion = decoder.generate(BENIGN[1], max_tokens=20)
    assert completion.text and completion.finish_reason in ("length", "stop")
    assert chat.counters.requests - before == completion.usage.requests, "known shapes are rendered here"


def test_the_commands(llama_url: str, tmp_path: Path) -> None:
    model = f"openai:{llama_url}/v1#rain-demo"
    evaluate = ["demo", "evaluate", "--n", "8", "--workers", "2", "--decoders", "greedy,rain"]
    commands = {
        "probe": ["models", "probe", f"{llama_url}/v1"],
        "compare": ["compare", SENSITIVE[0], "--model", model],
        "evaluate": [*evaluate, "--model", model],
    }
    running = {name: start(*arguments, "--json") for name, arguments in commands.items()}
    said: dict[str, Any] = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said[name] = json.loads(out)
    assert said["probe"]["labels"] == "logit_bias"
    assert said["compare"]["vanilla"]["usage"]["requests"] == 1
    assert said["compare"]["rain"]["usage"]["requests"] > 1 and said["compare"]["rain"]["score"] > 0
    rain = said["evaluate"]["decoders"]["rain"]
    assert rain["requests_per_answer"] > 1 and rain["harmful_on_sensitive"]["value"] == 0
