"""Threads that share a model: every answer is what it is alone. Processes that fork are told that they cannot."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
from backends.openai.stub import served
from decoder_worlds import babble_world, lock_world

from rain_decoding import (
    BackendError,
    ContextLengthError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    UnsupportedError,
)
from rain_decoding.backends.base import Backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.scheduler import Scheduler, Task
from rain_decoding.turns import TURN, Turn

PATIENCE = 60
QUESTIONS = (
    "How do I bake a nut roll at the summer fair?",
    "How do I build a rabbit hutch beside the chapel?",
    "How do I spread a false story about Linnet by the duck pond?",
    "Where does the baker live?",
)


def test_a_turn_goes_round() -> None:
    turn, order, line = Turn(), [], []

    def wait(number: int) -> None:
        with turn:
            with turn:  # taken again, and released once
                pass
            order.append(number)

    turn.acquire()
    for number in range(5):
        line.append(threading.Thread(target=wait, args=[number]))
        line[-1].start()
        while len(turn._waiting) <= number:
            pass
    with turn.passed():
        for thread in line:
            thread.join(PATIENCE)
    assert order == list(range(5))
    taken = []
    thread = threading.Thread(target=lambda: taken.append(turn.try_acquire()))
    thread.start()
    thread.join(PATIENCE)
    assert taken == [False]
    turn.release()
    assert turn.try_acquire()


class Told(Exception):  # noqa: N818
    """What a caller's own function raises."""


def raising() -> bool:
    raise Told


def cancelled_text(decoder: Decoder, question: str) -> str:
    """What is released before the caller leaves."""
    with decoder.stream(question, max_tokens=24) as stream:
        released = "".join(commit.text for commit in islice(stream, 2))
    assert stream.completion is not None and stream.completion.finish_reason in ("cancelled", "stop")
    return released


def dropped_text(decoder: Decoder, question: str) -> str:
    """The same, where nobody closes the stream."""
    return next(decoder.stream(question, max_tokens=24)).text


def error_of(work: Callable[[], object]) -> str:
    try:
        work()
    except Exception as error:
        return type(error).__name__
    return "none"


def works(backend: Backend) -> list[Callable[[], Any]]:
    """Things to do with a model that end in something that can be compared."""
    plain = PlainDecoder(backend, temperature=0.7)
    rain, thorough = RainDecoder(backend), RainDecoder(backend, config=SearchConfig.preset("thorough"))
    done: list[Callable[[], Any]] = []
    for question in QUESTIONS:
        done += [
            lambda q=question: rain.generate(q, max_tokens=24).text,
            lambda q=question: plain.generate(q, max_tokens=24, seed=3).text,
            lambda q=question: [commit.text for commit in thorough.stream(q, max_tokens=16)],
            lambda q=question: [
                found.text for found in rain.generate_batch([q, q + " Tell me."], max_tokens=8)
            ],
            lambda q=question: cancelled_text(plain, q),
            lambda q=question: dropped_text(plain, q),
            lambda q=question: round(rain.judge(q, "First, heat the oven.").score or 0.0, 4),
            lambda q=question: error_of(lambda: plain.generate(q, cancelled=raising)),
        ]
    return [*done, lambda: error_of(lambda: rain.generate("weigh " * 5000))]


def test_answers_are_what_they_are_alone(demo: LocalBackend) -> None:
    todo = works(demo)
    alone = [work() for work in todo]
    assert {Told.__name__, ContextLengthError.__name__} <= {
        found for found in alone if isinstance(found, str)
    }
    passes = demo.counters.forward_passes
    for work in todo:
        work()
    one_by_one = demo.counters.forward_passes - passes
    rounds = -(-200 // len(todo))
    demo.clear()
    passes = demo.counters.forward_passes
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda work: work(), todo * rounds))
    assert len(found) >= 200 and found == alone * rounds
    gc.collect()
    assert demo.pending == 0 and not Scheduler.of(demo).tasks
    assert demo.counters.forward_passes - passes < one_by_one * rounds, "steps are shared"


def test_threads_share_an_endpoint() -> None:
    with served(lock_world()) as (_, backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = PlainDecoder(backend, prompt_format="text")
        todo = [
            lambda text=text, seed=seed: plain.generate(text, max_tokens=12, seed=seed).text
            for text in ("How do I open a lock? ", "Well? ", "What is it? ")
            for seed in range(3)
        ]
        alone = [work() for work in todo]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda work: work(), todo * 5)) == alone * 5
        assert backend.pending == 0


def test_a_failing_step_is_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = babble_world()
    entered, gate = threading.Barrier(3, timeout=PATIENCE), threading.Event()

    def step() -> Any:
        assert gate.wait(PATIENCE)
        raise BackendError("the model broke")

    monkeypatch.setattr(backend, "step", step)

    def ask() -> str:
        stream = PlainDecoder(backend).stream("Well?")
        entered.wait()
        return error_of(lambda: list(stream))

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask) for _ in range(2)]
        entered.wait()
        gate.set()
        assert [each.result(PATIENCE) for each in asked] == ["BackendError"] * 2


def test_ctrl_c_in_one_thread_is_an_error_in_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = babble_world()
    scheduler = Scheduler.of(backend)
    mine, theirs = (PlainDecoder(backend).stream("Well?") for _ in range(2))

    def step() -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(backend, "step", step)
        with pytest.raises(KeyboardInterrupt):
            next(mine)
    assert mine.completion is not None and mine.completion.finish_reason == "cancelled"
    with pytest.raises(BackendError, match="another thread"):
        next(theirs)
    assert not scheduler.tasks and backend.pending == 0


def test_garbage_is_given_back_before_the_next_step() -> None:
    backend = babble_world()
    stream = PlainDecoder(backend).stream("Well?")
    next(stream)
    with TURN:  # as if a step were going on in which it is collected
        del stream
        gc.collect()
        assert len(Scheduler.of(backend).tasks) == 1
    PlainDecoder(backend).generate("Well?", max_tokens=3)
    assert not Scheduler.of(backend).tasks and backend.pending == 0


def nothing() -> Iterator[Any]:
    yield from ()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_told_to_load_its_own_model() -> None:
    backend = babble_world()
    decoder = PlainDecoder(backend)
    assert decoder.generate("Well?").text
    streams = [decoder.stream("Well?")]
    child = os.fork()
    if not child:
        code = 1
        try:
            uses: list[Callable[[], object]] = [
                lambda: decoder.generate("Well?"),
                lambda: next(streams[0]),
                lambda: Scheduler.of(backend).start(Task(nothing(), 1)),
                lambda: backend.pin((1, 2)),
            ]
            refused = [error_of(use) for use in uses]
            streams.clear()
            fine = PlainDecoder(babble_world()).generate("Well?").text
            code = 0 if fine and set(refused) == {UnsupportedError.__name__} else 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
