"""Servers of decisions as judges: against our own server, whose answers are those of the library."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import httpx2
import numpy as np
import pytest
from decoder_worlds import CRITERION, GOOD, lock_world
from server.running import PATIENCE, Running, serving, until
from server.test_decisions import HARMFUL, HARMLESS
from server.test_openai_client import BAD

from rain_decoding import (
    ConfigError,
    RainDecoder,
    SearchConfig,
    UnsupportedError,
    load_backend,
    load_criterion,
)
from rain_decoding.backends.decisions import AT_ONCE, ATTEMPTS, Api, Decide, DecisionServer
from rain_decoding.backends.local import LocalBackend
from rain_decoding.errors import BackendError, MissingDependencyError, ModelNotFoundError, RefusedError
from rain_decoding.extras import install
from rain_decoding.programs import ask
from rain_decoding.prompting import build_prompt
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.loading import JudgeChoice
from rain_decoding.turns import TURN
from rain_decoding.types import Message, Unanswered

DECIDE = Decide("", [Message("user", "x")], "x", ("a", "b"), ((0, 1),))
APIS = ("systemone", "decisions")
BOTH_ORDERS = SearchConfig.preset(
    "balanced", votes="debiased", order_margin=1000.0, placement="criterion", trust_tokens=0
)


@pytest.mark.parametrize("api", APIS)
def test_it_judges_as_the_model_behind_it_is_asked(
    demo_server: Running, demo: LocalBackend, api: str
) -> None:
    own = RainDecoder(demo, "harmlessness", BOTH_ORDERS)
    judge = f"{api}:{demo_server.url}#demo"
    elsewhere = RainDecoder(demo, "harmlessness", BOTH_ORDERS, judge=judge)
    for answer in (HARMFUL, HARMLESS):
        expected, found = own.judge(BAD, answer), elsewhere.judge(BAD, answer)
        assert expected.score is not None and found.score == pytest.approx(expected.score, abs=2e-3)
    assert elsewhere.evaluator.name == f"harmlessness by {judge}"


def test_a_model_whose_labels_could_only_be_counted_is_asked_that_way(
    demo_server: Running, demo: LocalBackend
) -> None:
    """Our own server lists no log-probabilities: in front of another of its kind it has its questions."""
    with load_backend(f"openai:{demo_server.url}/v1#demo") as model:
        assert model.capabilities.decisions == f"systemone:{demo_server.url}/v1#demo"
        assert model.others == (f"openai:{demo_server.url}/v1#demo:plain",)
        criterion = load_criterion("harmlessness")  # without what the demo model brings
        asked = RainDecoder(demo, criterion, BOTH_ORDERS, judge=model.capabilities.decisions)
        with RainDecoder(model, criterion, BOTH_ORDERS) as elsewhere:
            scores = [elsewhere.judge(BAD, answer).score for answer in (HARMFUL, HARMLESS)]
            assert scores == [pytest.approx(asked.judge(BAD, each).score) for each in (HARMFUL, HARMLESS)]
            assert scores[0] is not None and scores[1] is not None and scores[0] < 0 < scores[1]
            assert not elsewhere.judge_is_proven
            assert elsewhere.with_config(SearchConfig()).judge(BAD, HARMFUL).score is not None
        with pytest.raises(UnsupportedError, match="was closed"):
            elsewhere.judge(BAD, HARMFUL)


@pytest.mark.parametrize("allowed", [frozenset(), frozenset({"decisions"})])
def test_who_may_not_ask_counts_samples(demo: LocalBackend, allowed: frozenset[str]) -> None:
    with (
        serving(demo, client_may=allowed, served_name="demo") as running,
        load_backend(f"openai:{running.url}/v1#demo") as model,
    ):
        assert bool(model.capabilities.decisions) == bool(allowed)


def test_a_search_by_it_finds_what_a_search_by_the_model_finds(
    demo_server: Running, demo: LocalBackend
) -> None:
    judge = f"systemone:{demo_server.url}#demo"
    found = RainDecoder(demo, "harmlessness", BOTH_ORDERS, judge=judge).generate(BAD, seed=0, max_tokens=40)
    expected = RainDecoder(demo, "harmlessness", BOTH_ORDERS).generate(BAD, seed=0, max_tokens=40)
    assert found.text == expected.text and found.usage.rewinds == expected.usage.rewinds > 0
    assert found.usage.judge_tokens > 0, "what the server says that it read is counted"


@pytest.mark.parametrize("name", ["systemone:", "systemone:http://x", "decisions:x#y"])
def test_a_name_of_another_form_is_refused(demo: LocalBackend, name: str) -> None:
    with pytest.raises(ConfigError, match="names no server"):
        RainDecoder(demo, "harmlessness", judge=name)


@pytest.mark.parametrize("package", ["httpx2", "tenacity"])
def test_a_missing_package_is_named(
    demo: LocalBackend, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.delitem(sys.modules, DecisionServer.__module__)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=package) as caught:
        RainDecoder(demo, "harmlessness", judge="systemone:http://x#m")
    assert caught.value.hint == install("endpoint")


def reply(
    a: object = 0.7, mass: object = 0.9, tokens: object = 5, options: Sequence[str] = DECIDE.options
) -> httpx2.Response:
    """System One's, with these numbers; they may be such as JSON itself does not have."""
    data = {
        "answers": {"0": {"probabilities": dict(zip(options, (a, 0.3), strict=True))}},
        "diagnostics": {"0": {"label_mass": mass}},
        "usage": {"input_tokens": tokens},
    }
    return httpx2.Response(200, text=json.dumps(data))


def server_that(answers: Callable[[], httpx2.Response], api: Api = "systemone") -> DecisionServer:
    return DecisionServer(api, "http://x", "m", transport=httpx2.MockTransport(lambda _: answers()))


def test_others_have_their_turn_while_a_step_waits() -> None:
    def answer() -> httpx2.Response:
        with TURN:
            return reply()

    server, replies = server_that(answer), []
    with TURN:  # it is never free but while a step waits
        server.submit(DECIDE, 0)
        until(lambda: bool(replies.extend(server.step()) or replies), 10)
    assert len(replies) == 1 and replies[0].error is None


def test_two_threads_may_wake_it_at_once() -> None:
    server, together = server_that(reply), threading.Barrier(2)

    def in_step(frame: FrameType, event: str, _: object) -> Any:
        """Neither thread begins a line of `wake` before the other one does."""
        if frame.f_code is not DecisionServer.wake.__code__:
            return None
        if event == "line":
            together.wait(PATIENCE)
        return in_step

    before = threading.gettrace()
    threading.settrace(in_step)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: server.wake(), range(2)))
    finally:
        threading.settrace(before)  # type: ignore[arg-type]


def test_a_decoder_closes_the_server_that_it_loaded(demo_server: Running, demo: LocalBackend) -> None:
    with RainDecoder(demo, "harmlessness", judge=f"systemone:{demo_server.url}#demo") as decoder:
        assert decoder.judge(BAD, HARMLESS).score is not None
    decoder.close()
    with pytest.raises(UnsupportedError, match="was closed"):
        decoder.judge(BAD, HARMLESS)


def test_closing_gives_everything_back_and_tells_who_waits() -> None:
    gate, hung_up = threading.Event(), []

    class Transport(httpx2.MockTransport):
        def close(self) -> None:
            hung_up.append(True)

    def answer(_: httpx2.Request) -> httpx2.Response:
        assert gate.wait(PATIENCE)
        return reply()

    server, others = (
        DecisionServer("systemone", "http://x", "m", transport=Transport(answer)),
        threading.enumerate(),
    )
    handles = [server.submit(DECIDE, 0) for _ in range(AT_ONCE + 1)]
    working = set(threading.enumerate()).difference(others)
    server.close()
    replies = server.step()
    assert [told.handle for told in replies] == handles and hung_up
    assert all(isinstance(told.error, UnsupportedError) for told in replies)
    gate.set()
    for thread in working:
        thread.join(PATIENCE)
    assert not server.step() and len(working) == AT_ONCE
    assert not any(thread.is_alive() for thread in working)


def decided(response: httpx2.Response, api: Api = "systemone") -> object:
    server = server_that(lambda: response, api)
    return Scheduler.of(server).complete(ask(DECIDE), 0)


@pytest.mark.parametrize(("mass", "read"), [(0.9, 0.9), (0, 0), (1, 1), (1.0000002, 1)])
def test_a_reply_holds_the_label_mass_and_the_probabilities(mass: float, read: float) -> None:
    assert decided(reply(mass=mass)) == pytest.approx(np.array([[read, 0.7, 0.3]]), abs=1e-12)


NO_PROBABILITIES = (float("nan"), float("inf"), -0.1, 1.1, 3, 10**400, None, "high")
OUT = httpx2.Response(503, headers={"Retry-After": "0"})
FULL = httpx2.Response(400, text="This model's maximum context length is 10 tokens")


@pytest.mark.parametrize(
    ("response", "said", "unreached"),
    [
        (OUT, "does not answer", True),
        (httpx2.Response(422, text="questions.0: too small"), "too small", True),
        (FULL, "maximum context length", False),
        (httpx2.Response(200, json={"answers": {}}), "no decision", True),
        (httpx2.Response(200, text="<html>"), "no decision", True),
        (httpx2.Response(200, text="[" * sys.getrecursionlimit() * 100), "no decision", True),
        *((reply(a=number), "no decision", True) for number in NO_PROBABILITIES),
        *((reply(mass=number), "no decision", True) for number in NO_PROBABILITIES),
        (reply(tokens=float("inf")), "no decision", True),
    ],
)
def test_a_reply_that_is_no_decision_is_no_answer(
    response: httpx2.Response, said: str, unreached: bool
) -> None:
    found = decided(response)
    assert isinstance(found, Unanswered) and said in found.problem and found.unreached == unreached


@pytest.mark.parametrize("number", [float("nan"), -0.1, 1.1])
def test_nor_is_one_with_such_numbers_in_the_other_api(number: float) -> None:
    listed = [{"value": "a", "probability": number}, {"value": "b", "probability": 0.3}]
    data = {"answers": [{"probabilities": listed}], "usage": {"input_tokens": 5}}
    found = decided(httpx2.Response(200, text=json.dumps(data)), "decisions")
    assert isinstance(found, Unanswered) and "no decision" in found.problem


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, RefusedError, ""),
        (401, BackendError, "RAIN_API_KEY"),
        (404, ModelNotFoundError, "the model's name"),
    ],
)
def test_a_refusal_is_an_error(status: int, kind: type[BackendError], hint: str) -> None:
    with pytest.raises(BackendError, match="not this one") as caught:
        decided(httpx2.Response(status, text="not this one"))
    assert type(caught.value) is kind and hint in caught.value.hint


def kind_by(server: DecisionServer) -> RainDecoder:
    return RainDecoder(lock_world(), CRITERION, judge=JudgeChoice(server=server))


def test_an_outage_leaves_text_unscored_until_it_is_over() -> None:
    responses = [OUT] * ATTEMPTS + [reply(options=CRITERION.statements)]
    server = server_that(lambda: responses.pop(0))
    conversation = kind_by(server).evaluator.conversation(build_prompt("Open the lock.", lock_world()))
    with pytest.warns(UserWarning, match="could not be judged"):
        out = Scheduler.of(server).complete(conversation.judge(GOOD), 0)
    assert out.score is None and out.unreached and "does not answer" in out.problem
    assert conversation.warnings == [f"a text could not be judged: {out.problem}"]
    back, again = (Scheduler.of(server).complete(conversation.judge(GOOD), 0) for _ in range(2))
    assert back.score == pytest.approx(0.7 - 0.3) and not back.unreached and not back.remembered
    assert again.remembered and not responses


@pytest.mark.filterwarnings("ignore:a text could not be judged")
def test_an_outage_ends_no_generation() -> None:
    completion = kind_by(server_that(lambda: OUT)).generate("Open the lock.")
    assert completion.finish_reason == "unjudged" and completion.usage.unreached > 0 and not completion.text
    assert "does not answer" in completion.warnings[-1]


def test_labels_that_hold_little_make_a_judgement_unscored(demo_server: Running, demo: LocalBackend) -> None:
    with serving(demo, served_name="m", client_may=frozenset({"decisions"})) as running:
        config = BOTH_ORDERS.with_changes(min_label_mass=1.0)
        judge = f"systemone:{running.url}#m"
        judgement = RainDecoder(demo, "harmlessness", config, judge=judge).judge(BAD, HARMLESS)
    assert judgement.score is None and "label mass" in judgement.problem.replace("_", " ")
