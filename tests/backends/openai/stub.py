"""An OpenAI-compatible server in a thread, over any local backend's engine; it can be told to fail."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from rain_decoding.backends import sampling
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.openai.backend import EndpointBackend
from rain_decoding.backends.openai.loading import load
from rain_decoding.search.randomness import uniforms

Fault = Callable[["Handler", dict[str, Any]], None]
"""Answers one request to /v1/completions in place of the model."""


class Stub(ThreadingHTTPServer):
    """Serves `model` as "stub". `faults` are used up, one per request; `asked` are the bodies that came."""

    daemon_threads = True

    def __init__(self, model: LocalBackend, *, logprobs: int = 20, most: int = 64):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.logprobs, self.most = model, logprobs, most
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.gone = threading.Event()
        """A client went away before its stream had ended."""
        self.held_after = -1
        """From 0 on, streams stop after so many tokens until the client goes away."""
        self.messages: deque[dict[str, Any]] = deque()
        """What the assistant says to /v1/chat/completions, one per request; the last one stays."""
        self.chats: list[dict[str, Any]] = []
        """Bodies that came there."""
        self.released = threading.Event()
        """Lets go of bodies that a fault holds back."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are meant."""

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            context = self.server.model.context_length
            return self.send({"data": [{"id": "stub", "owned_by": "us", "max_model_len": context}]})
        return self.send({"error": {"message": "no such path"}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/chat/completions" and self.server.messages:
            return self.chat(body)
        if self.path != "/v1/completions":
            return self.send({"error": {"message": "no such path"}}, 404)
        self.server.asked.append(body)
        self.server.headers.append(self.headers)
        if self.server.faults:
            return self.server.faults.popleft()(self, body)
        if self.server.always:
            return self.server.always(self, body)
        return self.answer(body)

    def send(self, data: Any, status: int = 200, **headers: str) -> None:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def chat(self, body: dict[str, Any]) -> None:
        """A whole message; one with a `status` is an error."""
        self.server.chats.append(body)
        said = self.server.messages
        message = said.popleft() if len(said) > 1 else said[0]
        if "status" in message:
            return self.send({"error": {"message": message["content"]}}, message["status"])
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        usage = {"prompt_tokens": 40, "completion_tokens": 7}
        return self.send(
            {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
        )

    def answer(self, body: dict[str, Any], change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """What the model says; `change` alters a reply that is not streamed."""
        if (body.get("logprobs") or 0) > self.server.logprobs or not isinstance(body["prompt"], str):
            return self.send({"error": {"message": "that is not served"}}, 400)
        prompt = self.server.model.codec.encode(body["prompt"])
        if body.get("stream"):
            return self.stream(body, prompt)
        choices = []
        for index in range(min(body.get("n", 1), self.server.most)):
            tokens = list(self.generate(prompt, body, index))
            finish = "stop" if tokens and tokens[-1][3] else "length"
            choices.append(self.choice(tokens, body, index, finish))
        new = sum(len(choice["logprobs"]["tokens"]) if choice["logprobs"] else 1 for choice in choices)
        data = {"choices": choices, "usage": {"prompt_tokens": len(prompt), "completion_tokens": new}}
        if change is not None:
            change(data)
        self.send(data)
        return None

    def stream(self, body: dict[str, Any], prompt: tuple[int, ...]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        finish = "length"
        try:
            for count, token in enumerate(self.generate(prompt, body, 0)):
                if count >= self.server.held_after >= 0 and self.connection.recv(1) == b"":
                    raise ConnectionError("the client went away")
                finish = "stop" if token[3] else "length"
                self.event({"choices": [self.choice([token], body, 0, None)]})
            self.event({"choices": [{"text": "", "index": 0, "finish_reason": finish}]})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.gone.set()
        self.close_connection = True

    def event(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())

    def choice(
        self, tokens: list[Any], body: dict[str, Any], index: int, finish: str | None
    ) -> dict[str, Any]:
        logprobs = None
        if body.get("logprobs") is not None:
            logprobs = {
                "tokens": [text for text, *_ in tokens],
                "token_logprobs": [logprob for _, logprob, *_ in tokens],
                "top_logprobs": [top for _, _, top, _ in tokens],
            }
        text = "".join(token[0] for token in tokens)
        return {"text": text, "index": index, "finish_reason": finish, "logprobs": logprobs}

    def generate(self, prompt: tuple[int, ...], body: dict[str, Any], index: int) -> Iterator[Any]:
        """Text, log-probability, the most probable ones, and whether it is the end, token by token."""
        model, tokens = self.server.model, prompt
        draws = uniforms(body.get("seed", 0) * 1000 + index)
        for _ in range(body["max_tokens"]):
            logits = model.engine.forward([tokens], [0])[0]
            token = int(np.argmax(logits[0]))
            if body.get("temperature", 1.0):
                ids, probs = sampling.conditionals(
                    logits,
                    temperature=body.get("temperature", 1.0),
                    top_k=max(body.get("top_k", 0), 0),
                    top_p=body.get("top_p", 1.0),
                )
                token = int(ids[0, sampling.draw(probs, draws.random(1))[0]])
            listed = sampling.most_probable(sampling.softmax(logits[0]), body.get("logprobs") or 0)
            top = {model.codec.decode([one]): float(np.log(p)) for one, p in listed}
            ended = token in model.codec.eos
            yield model.codec.decode([token]), sampling.log_probability(logits[0], token), top, ended
            if ended:
                return
            tokens = (*tokens, token)


@contextmanager
def served(model: LocalBackend, **options: Any) -> Iterator[tuple[Stub, EndpointBackend]]:
    """A stub and a backend on it that waits no time before it tries again."""
    stub = Stub(model)
    try:
        backend = load(f"{stub.url}#stub", **{"timeout": 5.0, "attempts": 3, "backoff": 0.0, **options})
        stub.asked.clear()
        yield stub, backend
    finally:
        stub.close()


def status(code: int, **headers: str) -> Fault:
    return lambda handler, _: handler.send({"error": {"message": "not now"}}, code, **headers)


def only_judgements(fault: Fault) -> Fault:
    """The fault where the model is asked to judge, and nowhere else."""
    return lambda handler, body: (
        handler.answer(body) if "It is (" not in body["prompt"][-8:] else fault(handler, body)
    )


def raw(body: bytes) -> Fault:
    return lambda handler, _: handler.send(body)


def changed(change: Callable[[dict[str, Any]], None]) -> Fault:
    return lambda handler, body: handler.answer(body, change)


def reset(handler: Handler, body: dict[str, Any]) -> None:
    """Half of a body, then a reset connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.connection.close()


def slow(handler: Handler, body: dict[str, Any]) -> None:
    """A body that does not come."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.server.released.wait()


def cut_stream(tokens: int) -> Fault:
    """The stream breaks off after so many tokens."""

    def fault(handler: Handler, body: dict[str, Any]) -> None:
        handler.answer(body | {"max_tokens": tokens, "cut": True})

    def without_end(handler: Handler, body: dict[str, Any]) -> None:
        event = handler.event

        def kept(data: dict[str, Any]) -> None:
            if data["choices"][0].get("finish_reason"):
                raise OSError("cut")
            event(data)

        handler.event = kept  # type: ignore[method-assign]
        fault(handler, body)

    return without_end
