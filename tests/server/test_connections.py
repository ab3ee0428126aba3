"""Many connections, the end of a server, and the log of both: others are served, and every line is JSON and counted."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import openai
import pytest
from cli.command import SOURCE
from decoder_worlds import GOOD
from server.running import PATIENCE, QUESTION, Running, gated_world, serving, until
from server.test_many_at_once import ask, background, endless

from rain_decoding.server.logs import CountingHandler, JsonFormatter
from rain_decoding.web import protocol
from rain_decoding.web.protocol import uvicorn_config

BODY = {"model": "scripted", "messages": QUESTION, "seed": 0}


@contextmanager
def idle(running: Running, count: int) -> Iterator[list[socket.socket]]:
    """So many connections on which nothing is asked."""
    with ExitStack() as stack:
        yield [stack.enter_context(running.connect("")) for _ in range(count)]


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side has closed."""
    connection.settimeout(PATIENCE)
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_idle_connections_lock_nobody_out() -> None:
    with serving(max_connections=5) as running, idle(running, 50):
        assert ask(running).choices[0].message.content == GOOD
        with running.http() as http:
            assert http.get("/readyz").status_code == 200


def test_a_connection_that_is_made_while_the_server_ends_is_closed() -> None:
    """It is in no list yet when the others are closed, and would be served for as long as somebody asks."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nothing is asked")

    async def ended() -> bool:
        server = protocol.Server(uvicorn_config(application))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([])
        ours, theirs = socket.socketpair()
        with theirs:
            await server.shutdown()
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol.Protocol(server.config, server.server_state, {}), ours
            )
            return transport.is_closing()

    assert asyncio.run(ended())


def test_the_oldest_idle_connection_gives_way() -> None:
    with serving(max_connections=3) as running, idle(running, 3) as connections:
        assert running.server is not None
        until(lambda: len(running.server.server_state.connections) == 3)  # type: ignore[union-attr]
        with running.http() as http:
            assert http.get("/healthz").status_code == 200
            assert received(connections[0]) == b""
            assert http.get("/healthz").status_code == 200, "the same connection, which is not the oldest"


def test_where_all_are_busy_a_new_one_is_told_so() -> None:
    backend = gated_world()
    backend.gate.clear()
    with serving(backend, max_connections=2) as running, background(running, 2) as answers:
        running.settle(2)
        with running.connect("GET /healthz HTTP/1.1\nhost: x\n\n") as refused:
            head, _, body = received(refused).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in head.lower()
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        large = b"x" * 2**21
        with running.connect(f"POST / HTTP/1.1\nhost: x\ncontent-length: {len(large)}\n\n") as refused:
            threading.Thread(target=send, args=(refused, large), daemon=True).start()
            assert received(refused).startswith(b"HTTP/1.1 503"), "although its body is still on its way"
        backend.gate.set()
    assert [answer.choices[0].message.content for answer in answers] == [GOOD] * 2


def send(connection: socket.socket, content: bytes) -> None:
    with suppress(OSError):
        connection.sendall(content)


def test_further_ones_are_cut_off_and_all_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REFUSED_SECONDS", 0.2)
    backend = gated_world()
    backend.gate.clear()
    with serving(backend, max_connections=1) as running, background(running, 1):
        running.settle(1)
        assert running.server is not None
        state = running.server.server_state
        with idle(running, 200):
            until(lambda: len(state.connections) <= 1 + protocol.SPARE)
            assert len(state.connections) <= 1 + protocol.SPARE
        until(lambda: len(state.connections) == 1)
        backend.gate.set()


def test_the_limit_leaves_files_for_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol.resource, "getrlimit", lambda _: (256, 256))
    assert uvicorn_config(None).limit_concurrency == 128
    assert uvicorn_config(None, max_connections=10).limit_concurrency == 10


def test_a_refused_body_is_answered_although_it_is_still_sent() -> None:
    with serving(max_body_bytes=1000) as running:
        large = b"x" * 2**22
        head = "POST /v1/completions HTTP/1.1\nhost: x\ncontent-type: application/json\n"
        with running.connect(f"{head}content-length: {len(large)}\n\n") as connection:
            threading.Thread(target=send, args=(connection, large), daemon=True).start()
            assert received(connection).startswith(b"HTTP/1.1 413")


def test_after_the_signal_others_are_told_to_come_back() -> None:
    """New connections, too: the port stays open until what runs has ended."""
    backend = gated_world()
    backend.gate.clear()
    with serving(backend, grace_seconds=PATIENCE) as running, background(running, 1) as answers:
        running.settle(1)
        stopped = running.stop()
        assert running.service is not None
        worker = running.service.worker
        until(lambda: not worker.accepting)
        for _ in range(3):
            with running.http() as http:
                answer = http.post("/v1/chat/completions", json=BODY)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
                ready = http.get("/readyz")
                assert (ready.status_code, ready.json()["reason"]) == (503, "shutting down")
                assert int(answer.headers["retry-after"]) >= 1 and int(ready.headers["retry-after"]) >= 1
                assert http.get("/healthz").status_code == 200
        backend.gate.set()
        stopped.join(PATIENCE)
        assert not stopped.is_alive()
    assert [answer.choices[0].message.content for answer in answers] == [GOOD]


def test_with_nothing_to_finish_it_ends_at_once() -> None:
    with serving(grace_seconds=10 * PATIENCE) as running:
        stopped = running.stop()
        stopped.join(PATIENCE)
        assert not stopped.is_alive()


def test_answers_that_are_given_up_are_counted_once() -> None:
    """504 of a model that hangs, 503 of one that does not end in time."""
    backend = gated_world()
    backend.gate.clear()
    with serving(backend, stuck_seconds=2.0) as running:
        with background(running, 2) as outcomes:
            pass
        assert {outcome.status_code for outcome in outcomes} == {504}
        assert running.metric("rain_failures_total", status="504") == 2
        route = "/v1/chat/completions"
        assert running.metric("rain_requests_total", endpoint=route, status="504") == 2
        backend.gate.set()
        running.settle()
        assert running.metric("rain_answers_total", finish_reason="cancelled") == 0
        assert running.metric("rain_failures_total", status="504") == 2


def test_what_the_end_cancels_is_counted() -> None:
    with serving(endless(), grace_seconds=0.1) as running:
        assert running.service is not None
        failed: list[Any] = []
        running.service.metrics.failed = failed.append  # type: ignore[method-assign]
        chunks = ask(running, stream=True, max_tokens=4000)
        next(chunks)
        running.stop()
        with pytest.raises(openai.APIError):
            list(chunks)
        assert [error.status for error in failed] == [503]


def handler(seconds: float = 100.0) -> tuple[logging.Logger, io.StringIO, CountingHandler]:
    stream = io.StringIO()
    counting = CountingHandler(stream, seconds)
    counting.setFormatter(JsonFormatter())
    logger = logging.Logger("a.library")
    logger.addHandler(counting)
    return logger, stream, counting


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_that_comes_again_is_counted() -> None:
    logger, stream, counting = handler()
    for number in range(1000):
        logger.warning("cannot accept %s", "anything")
        if number % 100 == 0:
            logger.warning("another", extra={"request": number})
    counting.close()
    written = lines(stream)
    assert sum(line["message"] == "another" for line in written) == 10, (
        "what differs in a field is another line"
    )
    same = [line for line in written if line["message"] == "cannot accept anything"]
    assert [line.get("repeated") for line in same] == [None, 999]


def test_after_a_while_it_is_written_with_its_count_without_another_line() -> None:
    logger, stream, _ = handler(0.05)
    for _ in range(3):
        logger.warning("again")
    until(lambda: len(lines(stream)) == 2)
    assert lines(stream)[1]["repeated"] == 2
    logger.warning("again")
    assert "repeated" not in lines(stream)[-1] and len(lines(stream)) == 3


def test_no_more_lines_are_remembered_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rain_decoding.server.logs.MOST_REMEMBERED", 10)
    logger, stream, counting = handler()
    for number in range(100):
        logger.warning("line %d", number)
    assert len(counting._seen) == 10 and len(lines(stream)) == 100


LOGS = """
import logging, sys, threading, warnings
early = logging.getLogger("early")
early.addHandler(logging.StreamHandler()); early.propagate = False
from rain_decoding.server.logs import log_as_json
log_as_json()
early.error("of a library with a handler of its own")
logging.getLogger("late.library").warning("of a library")
logging.getLogger("asyncio").error("of the event loop")
logging.getLogger("uvicorn.error").warning("of uvicorn\\nwith two lines")
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
raise ValueError("nobody caught this")
"""


def test_everything_that_is_logged_is_a_line_of_json() -> None:
    run = subprocess.run(
        [sys.executable, "-c", LOGS],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCE)},
        timeout=PATIENCE,
        check=False,
    )
    written = [json.loads(line) for line in run.stderr.splitlines()]
    loggers = [line["logger"] for line in written]
    assert loggers[:5] == ["early", "late.library", "asyncio", "uvicorn.error", "py.warnings"]
    assert "ZeroDivisionError" in written[5]["exception"] and "nobody caught this" in written[6]["exception"]
