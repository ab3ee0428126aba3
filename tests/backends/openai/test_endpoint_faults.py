"""A server that fails: every failure ends in the right answer after another try, or in one clear error."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from backends.openai.stub import (
    Fault,
    Handler,
    Stub,
    changed,
    only_judgements,
    raw,
    reset,
    served,
    slow,
    status,
)
from decoder_worlds import CRITERION, GOOD, lock_world

from rain_decoding import (
    BackendError,
    ConfigError,
    ContextLengthError,
    EndpointError,
    EndpointTimeoutError,
    MissingDependencyError,
    ModelNotFoundError,
    PlainDecoder,
    RainDecoder,
    RefusedError,
    SearchConfig,
    load_backend,
)
from rain_decoding.backends.base import Handle, Reply
from rain_decoding.backends.openai.backend import EndpointBackend
from rain_decoding.backends.openai.client import event_data
from rain_decoding.backends.openai.facts import Facts
from rain_decoding.backends.retries import LONGEST_WAIT, refusal
from rain_decoding.errors import BadReplyError
from rain_decoding.scheduler import Scheduler, Task
from rain_decoding.types import Decode, LabelProbabilities, Sample, TopTokens, Unanswered


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Stub, EndpointBackend]]:
    with served(lock_world()) as pair:
        yield pair


@pytest.fixture
def lock(server: tuple[Stub, EndpointBackend]) -> Iterator[tuple[Stub, EndpointBackend]]:
    """The server in good order."""
    stub, backend = server
    yield server
    client = backend.endpoint.client
    client.attempts, client.timeout, client.sleep = 3, 5.0, asyncio.sleep
    stub.always = None
    stub.faults.clear()


def ask(backend: EndpointBackend, request: Any) -> tuple[Handle, Reply]:
    handle = backend.submit(request, backend.new_owner())
    found: list[Reply] = []
    while not found:
        found = backend.step()
    (reply,) = found
    assert reply.handle is handle
    return handle, reply


def without(key: str) -> Fault:
    def change(data: dict[str, Any]) -> None:
        for choice in data["choices"]:
            choice.pop(key)

    return changed(change)


def set_logprobs(value: float) -> Fault:
    def change(data: dict[str, Any]) -> None:
        for choice in data["choices"]:
            choice["logprobs"]["top_logprobs"] = [{"A": value, "B": value}]

    return changed(change)


FAULTS: dict[str, Fault] = {
    "429": status(429, Retry_After="0"),
    "500": status(500),
    "503 with a date": status(503, Retry_After="Tue, 24 Nov 2020 16:00:00 GMT"),
    "503 with nonsense": status(503, Retry_After="soon"),
    "reset": reset,
    "slow": slow,
    "half JSON": raw(b'{"choices": ['),
    "no JSON": raw(b"<html>bad gateway</html>"),
    "empty": raw(b""),
    "another JSON": raw(b"[1, 2]"),
    "null": raw(b"null"),
    "error in 200": raw(json.dumps({"error": {"message": "out of memory"}}).encode()),
    "no choices": raw(b'{"choices": []}'),
    "fewer choices": changed(lambda data: data["choices"].pop()),
    "choices without text": without("text"),
    "choices without logprobs": without("logprobs"),
    "text of another type": changed(lambda data: data["choices"][0].update(text=7)),
    "given up": changed(lambda data: data["choices"][0].update(finish_reason="abort")),
}
PROMPT, JUDGED = "Human: Well?\n\nAssistant:", "Human: Well?\n\nAssistant: Sure\n\nIt is ("


def requests(backend: EndpointBackend) -> list[Any]:
    encode = backend.codec.encode
    labels = tuple(encode(label, start=False)[0] for label in "AB")
    return [
        TopTokens(encode(PROMPT), 2),
        Sample(encode(PROMPT), 3, (1, 2, 3)),
        LabelProbabilities(encode(JUDGED), labels),
    ]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_changes_nothing(lock: tuple[Stub, EndpointBackend], name: str) -> None:
    stub, backend = lock
    if name == "slow":
        backend.endpoint.client.timeout = 0.5
    for request in requests(backend):
        handle, expected = ask(backend, request)
        sent = handle.requests
        stub.faults.append(FAULTS[name])
        handle, reply = ask(backend, request)
        assert reply.error is None and handle.requests == sent + 1
        same = np.array_equal if isinstance(request, LabelProbabilities) else lambda a, b: a == b
        assert same(reply.value, expected.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays_is_one_error_and_no_judgement(
    lock: tuple[Stub, EndpointBackend], name: str
) -> None:
    stub, backend = lock
    stub.always = FAULTS[name]
    backend.endpoint.client.attempts = 2
    if name == "slow":
        backend.endpoint.client.timeout = 0.1
    top, sets, labels = requests(backend)
    for request in (top, sets):
        handle, reply = ask(backend, request)
        assert isinstance(reply.error, EndpointTimeoutError) == (name == "slow")
        assert isinstance(reply.error, EndpointError) and reply.error.retryable and reply.error.hint
        assert handle.requests == 2
    _, reply = ask(backend, labels)
    assert reply.error is None and isinstance(reply.value, Unanswered) and "2 attempts" in reply.value.problem


@pytest.mark.parametrize(("most", "found"), [(64, 64), (20, 8), (3, 2), (1, 1)])
def test_as_many_samples_are_asked_for_as_the_server_takes(most: int, found: int) -> None:
    def within(handler: Handler, body: dict[str, Any]) -> None:
        if body.get("n", 1) > most:
            return handler.send({"error": {"message": f"at most {most} are allowed"}}, 400)
        return handler.answer(body)

    with served(lock_world()) as (stub, _):
        stub.always = within
        backend = load_backend(f"openai:{stub.url}#stub")
        assert isinstance(backend, EndpointBackend) and backend.endpoint.facts.samples_per_request == found
        seeds = tuple(range(40))
        _, reply = ask(backend, Sample(backend.codec.encode(PROMPT), 3, seeds))
        assert reply.error is None and reply.value


@pytest.mark.parametrize("name", ["500", "half JSON", "another JSON", "null", "error in 200", "no choices"])
def test_a_fault_while_a_server_is_probed_changes_nothing(name: str) -> None:
    def probed(stub: Stub) -> tuple[Facts, int]:
        stub.asked.clear()
        backend = load_backend(f"openai:{stub.url}#stub", attempts=2, backoff=0.0)
        assert isinstance(backend, EndpointBackend)
        return backend.endpoint.facts, len(stub.asked)

    with served(lock_world()) as (stub, _):
        facts, asked = probed(stub)
        assert facts.top_k and asked >= 8
        for place in range(asked):
            stub.faults += [Handler.answer] * place + [FAULTS[name]]
            assert probed(stub) == (facts, asked + 1)


@pytest.mark.parametrize("preset", ["balanced", "paper-hh"])
def test_what_could_not_be_judged_is_not_released(lock: tuple[Stub, EndpointBackend], preset: str) -> None:
    stub, backend = lock
    settings: dict[str, Any] = {"sentence_tokens": (2, 32)} if preset == "balanced" else {"candidates": 2}
    decoder = RainDecoder(backend, CRITERION, SearchConfig.preset(preset, top_k=5, **settings))
    stub.always = only_judgements(status(500))
    with pytest.warns(UserWarning, match="could not be judged"):
        completion = decoder.generate("Well?")
    assert (completion.text, completion.finish_reason, completion.score) == ("", "unjudged", None)
    assert completion.usage.unscored > 0
    assert any("could not be judged" in warning for warning in completion.warnings)


def test_a_failed_judgement_may_be_asked_again(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    decoder = RainDecoder(backend, CRITERION, SearchConfig.preset("balanced"))
    stub.always = only_judgements(status(500))
    with pytest.warns(UserWarning):
        failed = decoder.judge("Well?", GOOD)
    assert failed.score is None and "500" in failed.problem
    stub.always = None
    assert decoder.judge("Well?", GOOD).score == pytest.approx(0.8)


def test_a_conversation_asks_again_after_a_failed_judgement(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    decoder = RainDecoder(backend, CRITERION, SearchConfig.preset("balanced"))
    conversation = decoder.evaluator.conversation(decoder.build_prompt("Well?"))
    scores = []
    for fault in (status(500), None, status(500)):
        stub.always = fault
        task: Task[Any, Any] = Task(conversation.judge(GOOD), backend.new_owner())
        Scheduler.of(backend).start(task)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while not task.done:
                Scheduler.of(backend).step()
        assert task.result is not None
        scores.append((task.result.score, task.result.remembered))
    assert scores == [(None, False), (pytest.approx(0.8), False), (pytest.approx(0.8), True)]


@pytest.mark.parametrize("value", [float("nan"), 3.0])
def test_nonsense_is_no_judgement(lock: tuple[Stub, EndpointBackend], value: float) -> None:
    stub, backend = lock
    stub.always = set_logprobs(value)
    _, reply = ask(backend, requests(backend)[2])
    assert isinstance(reply.value, Unanswered)


def test_labels_that_are_not_listed_are_no_judgement(lock: tuple[Stub, EndpointBackend]) -> None:
    _, backend = lock
    labels = tuple(backend.codec.encode(label, start=False)[0] for label in "XY")
    _, reply = ask(backend, LabelProbabilities(backend.codec.encode(JUDGED), labels))
    assert isinstance(reply.value, Unanswered) and "no label" in reply.value.problem


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (400, "logprobs must be at most 5", RefusedError),
        (401, "wrong key", BackendError),
        (404, "no such model", ModelNotFoundError),
        (400, "This model's maximum context length is 10 tokens", ContextLengthError),
    ],
)
def test_a_refusal_is_not_tried_again(
    lock: tuple[Stub, EndpointBackend], code: int, message: str, kind: type[Exception]
) -> None:
    stub, backend = lock
    stub.always = lambda handler, _: handler.send({"error": {"message": message}}, code)
    for request in (requests(backend)[0], Decode(backend.codec.encode(PROMPT), 3)):
        handle, reply = ask(backend, request)
        assert type(reply.error) is kind and message in str(reply.error) and handle.requests == 1


def test_the_way_out_that_a_server_of_ours_tells_is_not_told_twice() -> None:
    ours = "the prompt has more tokens than the context of 10 (shorten the prompt)"
    assert str(refusal(400, ours, ours)) == ours
    theirs = str(refusal(400, "it says: context length exceeded", "context length exceeded"))
    assert theirs.count("shorten the prompt") == 1


def test_plain_decoding_ends_in_the_error(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    stub.always = reset
    with pytest.raises(EndpointError, match="3 attempts"):
        PlainDecoder(backend).generate("Well?")
    stub.always = None
    assert PlainDecoder(backend).generate("Well?").text


def test_waits_grow_and_keep_to_what_the_server_asks(lock: tuple[Stub, EndpointBackend]) -> None:
    stub, backend = lock
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    backend.endpoint.client.sleep = sleep
    backend.endpoint.client.attempts = 5
    stub.faults += [status(429, Retry_After="7"), status(429, Retry_After="86400"), status(500), status(500)]
    _, reply = ask(backend, requests(backend)[0])
    assert reply.error is None
    assert waited[:2] == [7.0, LONGEST_WAIT] and waited[2:] == [0.0, 0.0]  # no backoff in these tests


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(EndpointError, match="2 attempts"):
        load_backend("openai:http://127.0.0.1:9/v1#m", attempts=2, backoff=0.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("openai:127.0.0.1/v1", {}),
        ("openai:http://me:secret@127.0.0.1/v1", {}),
        ("openai:http://127.0.0.1/v1", {"attempts": 0}),
        ("openai:http://127.0.0.1/v1", {"device": "cpu"}),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_backend(name, **options)
    assert "secret" not in str(caught.value)


def test_a_model_that_is_not_served() -> None:
    with served(lock_world()) as (stub, _), pytest.raises(ModelNotFoundError, match="stub"):
        load_backend(f"openai:{stub.url}#another")


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-others")
    monkeypatch.setenv("RAIN_API_KEY", "key-of-ours")
    with served(lock_world()) as (stub, backend):
        assert {headers["Authorization"] for headers in stub.headers} == {"Bearer key-of-ours"}
        stub.always = status(401)
        with pytest.raises(BackendError) as caught:
            PlainDecoder(backend).generate("Well?")
        shown = f"{caught.value} {backend.name} {backend.endpoint} {backend.endpoint.client.replicas}"
        assert "key-of" not in shown and "RAIN_API_KEY" in caught.value.hint


def replicas(check: Callable[[list[Stub], EndpointBackend], None]) -> None:
    with served(lock_world()) as (one, _), served(lock_world()) as (other, _):
        backend = load_backend(f"openai:{one.url},{other.url}#stub", attempts=3, backoff=0.0, affinity=24)
        assert isinstance(backend, EndpointBackend)
        for stub in (one, other):
            stub.asked.clear()
        check([one, other], backend)


def test_each_conversation_stays_with_one_of_several_servers() -> None:
    def check(stubs: list[Stub], backend: EndpointBackend) -> None:
        config = SearchConfig.preset("balanced", sentence_tokens=(2, 32))
        decoder = RainDecoder(backend, CRITERION, config, prompt_format="dialogue")
        served_by: dict[str, int] = {}
        for number in range(12):
            for _ in range(2):
                for stub in stubs:
                    stub.asked.clear()
                decoder.generate(f"Well, {number}?")  # the header before it does not count
                (index,) = [index for index, stub in enumerate(stubs) if stub.asked]
                assert served_by.setdefault(str(number), index) == index
        assert set(served_by.values()) == {0, 1}

    replicas(check)


def test_a_broken_server_is_avoided() -> None:
    def check(stubs: list[Stub], backend: EndpointBackend) -> None:
        PlainDecoder(backend).generate("Well?")
        broken, other = sorted(stubs, key=lambda stub: -len(stub.asked))
        assert (len(broken.asked), len(other.asked)) == (1, 0)
        broken.always = status(500)
        for _ in range(4):
            assert PlainDecoder(backend).generate("Well?").text
        assert len(broken.asked) == 2 and len(other.asked) == 4

    replicas(check)


@pytest.mark.parametrize("package", ["httpx2", "tenacity"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=package) as caught:
        load_backend("openai:http://127.0.0.1:9/v1")
    assert "httpx2" in caught.value.hint


SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\n", "\r\n"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_separators_in_texts_end_no_line_of_a_stream(
    lock: tuple[Stub, EndpointBackend], separator: str
) -> None:
    stub, backend = lock

    def say(handler: Any, _: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for text, finish in ((f"one{separator}two{separator}", None), ("", "stop")):
            event = {"choices": [{"text": text, "index": 0, "finish_reason": finish}]}
            handler.wfile.write(f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n".encode())
        handler.wfile.write(b"data: [DONE]\n\n")
        handler.close_connection = True

    stub.always = say
    completion = PlainDecoder(backend, prompt_format="text").generate("Well?", max_tokens=20)
    assert completion.text == f"one{separator}two{separator}"


@pytest.mark.parametrize("cuts", [1, 2, 3, 1000])
def test_events_are_read_whatever_pieces_they_arrive_in(cuts: int) -> None:
    text = "data: a\r\ndata: b\u2028c\n: comment\n\rdata:d\r\n\r\ndata: [DONE]".encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(text), cuts):
            yield text[start : start + cuts]

    async def read() -> list[bytes]:
        return [event async for event in event_data(chunks())]

    assert asyncio.run(read()) == [b"a", "b\u2028c".encode(), b"d", b"[DONE]"]


@pytest.mark.parametrize(
    "fault", [raw(b"no json"), raw(b"[" * 100_000), without("text")], ids=["no JSON", "deep", "no text"]
)
def test_a_bad_reply_to_one_request_says_nothing_of_the_server(
    lock: tuple[Stub, EndpointBackend], fault: Fault
) -> None:
    stub, backend = lock
    stub.always = fault
    for replica in backend.endpoint.client.replicas:
        replica.broken_until = 0.0
    _, reply = ask(backend, requests(backend)[0])
    assert isinstance(reply.error, BadReplyError)
    assert all(replica.broken_until == 0 for replica in backend.endpoint.client.replicas)


@pytest.mark.parametrize("name", ["ALL_PROXY", "http_proxy"])
def test_a_proxy_counts_where_it_is_asked_and_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    stub = Stub(lock_world())
    try:
        monkeypatch.setenv(name, "http://me:word@127.0.0.1:9")
        with pytest.raises(EndpointError, match=r"by the proxy http://\*\*\*@127\.0\.0\.1:9"):
            load_backend(f"openai:{stub.url}#stub", attempts=1, timeout=2.0)
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
        monkeypatch.setitem(sys.modules, "socksio", None)
        with pytest.raises(MissingDependencyError, match="NO_PROXY"):
            load_backend(f"openai:{stub.url}#stub", attempts=1, timeout=2.0)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert load_backend(f"openai:{stub.url}#stub", attempts=1, timeout=5.0).name
    finally:
        stub.close()


def test_a_base_url_without_its_end_is_noticed() -> None:
    stub = Stub(lock_world())
    try:
        for name in ("", "#stub"):
            with pytest.raises(BackendError, match=r"did you mean http://[\d.:]+/v1\?"):
                load_backend(f"openai:{stub.url.removesuffix('/v1')}{name}", attempts=1, timeout=5.0)
    finally:
        stub.close()
