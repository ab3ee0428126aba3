"""Servers that were not at hand, in the shapes of their replies: what the probe finds, and the same values from all.

Made after vllm/entrypoints/openai/completion/{protocol,serving}.py and vllm/entrypoints/serve/tokenize; sglang/srt/
entrypoints/openai/{protocol,serving_completions,serving_score}.py; ollama/openai/openai.go; router/src/lib.rs of
text-generation-inference; and OpenAI's API reference. All stand-ins serve the same four tokens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import log
from typing import Any

import httpx2
import numpy as np
import pytest

from rain_decoding import UnsupportedError
from rain_decoding.backends.base import Counters
from rain_decoding.backends.openai.client import Client, Meter
from rain_decoding.backends.openai.codec import EndpointCodec
from rain_decoding.backends.openai.endpoint import Endpoint
from rain_decoding.backends.openai.facts import Facts
from rain_decoding.backends.openai.labels import Labels
from rain_decoding.backends.openai.probe import Probe
from rain_decoding.backends.openai.proposals import Proposals
from rain_decoding.backends.openai.tokenizer import Tokenizer
from rain_decoding.types import LabelProbabilities, Message, TopTokens

NEXT = {"A": 0.6, "B": 0.25, "C": 0.1, "D": 0.05}
"""What comes next, whatever came before."""
IDS = {text: 70 + place for place, text in enumerate(NEXT)}
Answer = tuple[int, Any]


def lists(top: int, chosen: str = "A", named: list[int] | None = None, ids: bool = False) -> dict[str, Any]:
    """Log-probabilities as lists side by side."""
    shown = {text: log(p) for text, p in list(NEXT.items())[:top]} | {chosen: log(NEXT[chosen])}
    if named:
        shown = {text: log(NEXT[text]) for text in NEXT if IDS[text] in named or text == chosen}
    name = (lambda text: f"token_id:{IDS[text]}") if ids else (lambda text: text)
    return {
        "text_offset": [0],
        "tokens": [name(chosen)],
        "token_logprobs": [log(NEXT[chosen])],
        "top_logprobs": [{name(text): value for text, value in shown.items()}],
    }


def objects(top: int) -> dict[str, Any]:
    """Log-probabilities as objects, as in chat completions."""
    listed = [
        {"token": text, "logprob": log(p), "bytes": list(text.encode())}
        for text, p in list(NEXT.items())[:top]
    ]
    return {"content": [listed[0] | {"top_logprobs": listed}], "refusal": None}


@dataclass
class StandIn:
    """A server by what it answers to a path and a body; `asked` are the paths with bodies."""

    answer: Callable[[str, dict[str, Any]], Answer]
    model: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else {}
        self.asked.append((request.url.path, body))
        status, data = self.answer(request.url.path, body)
        return httpx2.Response(status, json=data)

    def client(self) -> Client:
        client = Client(["http://there/v1"], attempts=1)
        client._http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return client


def choices(body: dict[str, Any], logprobs: Any = None, text: str = "A", **more: Any) -> Answer:
    one = {"text": text, "logprobs": logprobs, "finish_reason": "length", **more}
    listed = [one | {"index": index} for index in range(body.get("n") or 1)]
    usage = {"prompt_tokens": 7, "completion_tokens": len(listed), "total_tokens": 7 + len(listed)}
    return 200, {"id": "cmpl", "object": "text_completion", "choices": listed, "usage": usage}


MISSING: Answer = (404, {"detail": "Not Found"})


def vllm(path: str, body: dict[str, Any], *, newer: bool = True) -> Answer:
    match path:
        case "/v1/models":
            return 200, {"data": [{"id": "m", "owned_by": "vllm", "root": "org/m", "max_model_len": 512}]}
        case "/version":
            return 200, {"version": "0.33.0"}
        case "/tokenize" if "messages" in body:
            return 200, {"count": 3, "max_model_len": 512, "tokens": [1, 2, 3], "token_strs": None}
        case "/tokenize":
            ids = {"<|turn|>": [9], " five": [77]}.get(body["prompt"])
            ids = ids or [IDS.get(letter, ord(letter)) for letter in body["prompt"]]
            return 200, {"count": len(ids), "max_model_len": 512, "tokens": ids, "token_strs": None}
        case "/detokenize":
            return 200, {"prompt": "<|turn|>user a<|turn|>assistant"}
        case "/v1/completions":
            if (body.get("logprobs") or 0) > 20:
                return 400, {
                    "error": {
                        "message": "Requested sample logprobs of 64, which is greater than max allowed: 20"
                    }
                }
            named = body.get("logprob_token_ids") if newer else None
            allowed = body.get("allowed_token_ids")
            if named == [77]:  # the probe's question
                top = {
                    "tokens": ["token_id:70"],
                    "token_logprobs": [-0.5],
                    "top_logprobs": [{"token_id:70": -0.5, "token_id:77": -3.0}],
                }
                return choices(body, top)
            if allowed == [77]:
                return choices(
                    body, {"tokens": ["token_id:77"], "token_logprobs": [-3.0], "top_logprobs": [{}]}
                )
            chosen = next((text for text in NEXT if allowed == [IDS[text]]), "A")
            ids = bool(body.get("return_tokens_as_token_ids"))
            return choices(body, lists(body["logprobs"], chosen, named, ids) if "logprobs" in body else None)
    return MISSING


def older_vllm(path: str, body: dict[str, Any]) -> Answer:
    return vllm(path, body, newer=False)


def sglang(path: str, body: dict[str, Any]) -> Answer:
    match path:
        case "/v1/models":
            return 200, {"data": [{"id": "m", "owned_by": "sglang", "root": "org/m", "max_model_len": 512}]}
        case "/get_server_info":
            return 200, {"version": "0.5.23", "tp_size": 1}
        case "/tokenize":
            ids = [IDS.get(letter, ord(letter)) for letter in body["prompt"]]
            return 200, {"tokens": ids, "count": len(ids), "max_model_len": 512}
        case "/v1/score":
            assert body["query"] == "" and body.get("apply_softmax", False) is False
            by_id = {IDS[text]: p for text, p in NEXT.items()}
            scores = [[by_id.get(label, 0.01) for label in body["label_token_ids"]]]
            return 200, {"scores": scores, "model": "m", "usage": {"prompt_tokens": 7}, "object": "scoring"}
        case "/v1/chat/completions":
            top = objects(body["top_logprobs"]) if body.get("logprobs") else None
            message = {"role": "assistant", "content": "A", "reasoning_content": None, "tool_calls": None}
            return 200, {
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "logprobs": top,
                        "finish_reason": "length",
                        "matched_stop": None,
                    }
                ]
            }
        case "/v1/completions":
            return choices(body, lists(body["logprobs"]) if "logprobs" in body else None, matched_stop=None)
    return MISSING


def openai_chat(path: str, body: dict[str, Any]) -> Answer:
    if path == "/v1/models":
        return 200, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "system"}]}
    if path == "/v1/chat/completions":
        top = objects(body["top_logprobs"]) if body.get("logprobs") else None
        message = {"role": "assistant", "content": "A", "refusal": None}
        return 200, {
            "choices": [{"index": 0, "message": message, "logprobs": top, "finish_reason": "length"}]
        }
    return 404, {
        "error": {
            "message": "This is a chat model and not supported in the v1/completions endpoint.",
            "type": "invalid_request_error",
            "param": "model",
            "code": None,
        }
    }


def ollama(path: str, body: dict[str, Any]) -> Answer:
    if path == "/v1/models":
        return 200, {
            "object": "list",
            "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "library"}],
        }
    if path == "/api/version":
        return 200, {"version": "0.13.0"}
    if path == "/v1/chat/completions":
        top = objects(body["top_logprobs"]) if body.get("logprobs") else None
        message = {"role": "assistant", "content": "A"}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        return 200, {
            "choices": [{"index": 0, "message": message, "logprobs": top, "finish_reason": "length"}],
            "usage": usage,
        }
    assert path != "/v1/completions", "wraps the prompt into the chat template"
    return MISSING


def tgi(path: str, body: dict[str, Any]) -> Answer:
    if path == "/v1/models":
        return 200, {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "org/m"}]}
    if path == "/info":
        return 200, {"model_id": "org/m", "version": "3.3.4", "max_total_tokens": 512}
    if path == "/v1/completions":
        if not isinstance(body["prompt"], str):
            return 422, {"error": "Input validation error", "error_type": "validation"}
        drawn = (body.get("seed") or 0) % 4
        return choices({}, text="ABAA"[drawn] if body.get("temperature") == 1.0 else "A")
    return MISSING


FULL = Facts(
    "m", alias="org/m", context_length=512, samples_per_request=64, top_k=True, seed=True,
    tokenizer=True,
)  # fmt: skip
VLLM = replace(FULL, server="vllm", version="0.33.0", chat="render", logprobs=20)
EXPECTED = {
    vllm: replace(VLLM, labels="logprob_token_ids"),
    older_vllm: replace(VLLM, labels="allowed_token_ids"),
    sglang: replace(
        FULL,
        server="sglang",
        version="0.5.23",
        chat="prefill",
        logprobs=64,
        labels="/v1/score",
        thinking_switch=True,
    ),
    openai_chat: Facts("m", completions=False, chat="plain", logprobs=20, labels="top_logprobs"),
    ollama: Facts(
        "m", "ollama", "0.13.0", completions=False, chat="prefill", logprobs=20, labels="top_logprobs"
    ),
    tgi: Facts("m", "tgi", "3.3.4", context_length=512, top_k=True, seed=True, labels="samples"),
}


@pytest.mark.parametrize("server", EXPECTED, ids=lambda server: server.__name__)
def test_the_probe_finds_what_a_server_can_do(server: Any) -> None:
    facts = asyncio.run(Probe(StandIn(server).client(), Meter(Counters()), "m").run())
    assert facts == EXPECTED[server]


def endpoint(server: Any) -> tuple[StandIn, Endpoint]:
    stand_in, facts = StandIn(server), EXPECTED[server]
    client, codec = stand_in.client(), EndpointCodec(has_chat_template=facts.chat != "none")
    return stand_in, Endpoint(client, facts, codec, Tokenizer(client, facts, Meter(Counters())))


def prefix(point: Endpoint, lead: str = "It is (") -> tuple[int, ...]:
    """A prompt in text, or in messages where a server takes nothing else."""
    if point.facts.completions:
        return point.codec.encode(f"Well?\n{lead}")
    return point.codec.encode(
        point.codec.render_chat([Message("user", "Well?")], thinking=False) + lead, start=False
    )


CHAT = "/v1/chat/completions"
ONE_REQUEST = {vllm: "/v1/completions", sglang: "/v1/score", ollama: CHAT, openai_chat: CHAT}


@pytest.mark.parametrize("server", EXPECTED, ids=lambda server: server.__name__)
def test_label_probabilities_are_the_same_from_all(server: Any) -> None:
    stand_in, point = endpoint(server)
    prompt = prefix(point, "" if server is openai_chat else "It is (")
    said: list[str] = []

    def ask(*labels: str) -> Any:
        ids = tuple(point.codec.intern(label) for label in labels)
        request = LabelProbabilities(prompt, ids)
        return asyncio.run(Labels(point, request, Meter(Counters()), said.append).probabilities())

    found = ask("A", "B")
    if server is tgi:  # draws: within five standard errors, and said
        assert found == pytest.approx([0.75, 0.25], abs=5 * 0.09) and "samples" in said[0]
        return
    assert isinstance(found, np.ndarray) and found.tolist() == pytest.approx([0.6, 0.25])
    stand_in.asked.clear()
    ask("A", "B")
    if server in ONE_REQUEST:
        assert [path for path, _ in stand_in.asked] == [ONE_REQUEST[server]]  # token ids are remembered
    assert not said


def test_labels_that_are_not_listed_are_asked_for_alone() -> None:
    _, point = endpoint(older_vllm)
    point = replace(point, facts=replace(point.facts, logprobs=1))
    request = LabelProbabilities(prefix(point), tuple(point.codec.intern(label) for label in "ACD"))
    found = asyncio.run(Labels(point, request, Meter(Counters()), print).probabilities())
    assert found.tolist() == pytest.approx([0.6, 0.1, 0.05])


def test_a_label_that_cannot_be_asked_for_is_at_most_the_last_listed() -> None:
    _, point = endpoint(sglang)
    point = Endpoint(
        point.client, Facts("m", logprobs=2, labels="top_logprobs"), point.codec, point.tokenizer
    )
    said: list[str] = []
    request = LabelProbabilities(prefix(point), tuple(point.codec.intern(label) for label in "AC"))
    found = asyncio.run(Labels(point, request, Meter(Counters()), said.append).probabilities())
    assert found.tolist() == pytest.approx([0.6, 0.15]) and "missing from the 2 listed" in said[0]


@pytest.mark.parametrize("server", [vllm, sglang, ollama, openai_chat], ids=lambda server: server.__name__)
def test_top_tokens_are_the_same_from_all(server: Any) -> None:
    _, point = endpoint(server)
    request = TopTokens(prefix(point, ""), 3)
    found = asyncio.run(Proposals(point, Meter(Counters())).top_tokens(request))
    texts = [point.codec.decode(candidate.token_set.tokens) for candidate in found]
    assert texts == ["A", "B", "C"]
    assert [candidate.probability for candidate in found] == pytest.approx([0.6, 0.25, 0.1])
    hot = TopTokens(prefix(point, ""), 2, temperature=2.0)  # nothing is left unlisted
    found = asyncio.run(Proposals(point, Meter(Counters())).top_tokens(hot))
    roots = np.sqrt(list(NEXT.values()))
    assert [candidate.probability for candidate in found] == pytest.approx((roots / roots.sum())[:2].tolist())


def test_what_is_not_listed_is_not_guessed() -> None:
    _, point = endpoint(sglang)
    point = replace(point, facts=Facts("m", logprobs=3))
    with pytest.raises(UnsupportedError, match="temperature 2"):
        asyncio.run(
            Proposals(point, Meter(Counters())).top_tokens(TopTokens(prefix(point), 2, temperature=2.0))
        )


def test_an_answer_that_has_begun_is_continued_or_refused() -> None:
    _, sgl = endpoint(sglang)
    chat = sgl.codec.encode(sgl.codec.render_chat([Message("user", "Well?")], thinking=True), start=False)
    path, body = sgl.prompt((*chat, *sgl.codec.encode(" Yes, but", start=False)))
    assert path == "chat/completions" and body["chat_template_kwargs"] == {"enable_thinking": True}
    assert body["messages"] == [
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": " Yes, but"},
    ]
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
    _, plain = endpoint(openai_chat)
    begun = prefix(plain, "It is (")
    with pytest.raises(UnsupportedError) as caught:
        plain.prompt(begun)
    assert "judge" in caught.value.hint
    assert plain.prompt(prefix(plain, ""))[1]["messages"] == [{"role": "user", "content": "Well?"}]
    with pytest.raises(UnsupportedError, match="chat only"):
        plain.prompt(plain.codec.encode("Well?"))


def test_rendered_chats_bring_their_own_beginning() -> None:
    _, point = endpoint(vllm)
    assert point.prompt(point.codec.encode("<|turn|>a", start=False))[1]["add_special_tokens"] is False
    assert "add_special_tokens" not in point.prompt(point.codec.encode("Human: a"))[1]


def test_where_a_server_renders_chats_itself_their_labels_are_listed() -> None:
    stand_in, point = endpoint(sglang)
    chat = point.codec.render_chat([Message("user", "Well?")], thinking=False) + "It is ("
    request = LabelProbabilities(point.codec.encode(chat, start=False), (point.codec.intern("A"),))
    found = asyncio.run(Labels(point, request, Meter(Counters()), print).probabilities())
    assert found.tolist() == pytest.approx([0.6])
    assert [path for path, _ in stand_in.asked] == [CHAT]
