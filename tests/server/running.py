"""Servers to test: in a thread of this process, or as a process of their own."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from cli.command import start
from decoder_worlds import CRITERION, SCRIPT
from fastapi import FastAPI

from rain_decoding import RainDecoder, SearchConfig
from rain_decoding.backends.base import Reply
from rain_decoding.backends.scripted import Rule, ScriptedBackend
from rain_decoding.server.app import create_app
from rain_decoding.server.config import ServerConfig
from rain_decoding.server.models import Models
from rain_decoding.server.run import Server
from rain_decoding.server.service import Service

PATIENCE = 60.0
"""Seconds after which a test that waits has failed."""

QUESTION = [{"role": "user", "content": "How do I pick a lock?"}]


def until(condition: Callable[[], bool], seconds: float | None = None) -> None:
    """Wait for what another thread or process is about to do, by default `PATIENCE` seconds at most."""
    end = time.monotonic() + (PATIENCE if seconds is None else seconds)
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


class GatedBackend(ScriptedBackend):
    """Works only while the gate is open, and raises where it is told to."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def step(self) -> list[Reply]:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return super().step()


def gated_world() -> GatedBackend:
    """The model of `SCRIPT`, behind a gate."""
    rules = tomllib.loads(SCRIPT["model.toml"])["next"]
    backend = GatedBackend.from_rules([Rule(**rule) for rule in rules])
    assert isinstance(backend, GatedBackend)
    return backend


@dataclass
class Running:
    """A server and how to talk to it. `service` is there where it runs in this process."""

    url: str
    service: Service | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    server: Server | None = None
    thread: threading.Thread | None = None

    @property
    def models(self) -> Models:
        """What a server in this process serves."""
        assert self.server is not None
        return self.server.models

    def stop(self) -> threading.Thread:
        """As a signal to stop; the thread ends when the server has."""
        assert self.server is not None and self.thread is not None
        self.server.should_exit = True
        return self.thread

    def connect(self, head: str, body: bytes = b"") -> socket.socket:
        """A connection on which so much was sent: lines of a head without its end, and what follows."""
        address = urlsplit(self.url)
        assert address.hostname is not None and address.port is not None
        connection = socket.create_connection((address.hostname, address.port), PATIENCE)
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        return connection

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)

    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=PATIENCE)

    def metric(self, name: str, **labels: str) -> float:
        """A sample of `/metrics`, 0 where it was never counted."""
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{name}{{{inner}}} " if inner else f"{name} "
        with self.http() as http:
            lines = http.get("/metrics").text.splitlines()
        return next((float(line[len(wanted) :]) for line in lines if line.startswith(wanted)), 0.0)

    def settle(self, pending: int = 0) -> None:
        """Wait until so many answers are queued or running."""
        assert self.service is not None
        worker = self.service.worker
        until(lambda: len(worker.pending) == pending)

    def logged(self, **fields: Any) -> dict[str, Any]:
        """The entry of the log with these fields, once it is there."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [entry for entry in self.log if fields.items() <= entry.items()]
            return bool(found)

        until(look)
        return found[-1]


@contextmanager
def serving(
    backend: Any = None,
    *,
    criterion: Any = CRITERION,
    preset: str = "balanced",
    search: SearchConfig | None = None,
    tracer_provider: Any = None,
    others: Mapping[str, Callable[[], RainDecoder]] = MappingProxyType({}),
    **config: Any,
) -> Iterator[Running]:
    """A server in a thread. Without a backend, on the model of `SCRIPT`."""
    decoder = RainDecoder(backend or gated_world(), criterion, search)
    app = create_app(
        decoder, ServerConfig(**config), preset=preset, tracer_provider=tracer_provider, others=others
    )
    with running_app(app) as running:
        try:
            yield running
        finally:
            if isinstance(backend, GatedBackend):
                backend.gate.set()


@contextmanager
def running_app(app: FastAPI) -> Iterator[Running]:
    """A server of this application in a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield Running(url, app.state.models.first, server=server, thread=thread)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def serving_process(*arguments: str | Path) -> Iterator[Running]:
    """`rain serve` as a process of its own."""
    process = start("serve", "--port", "0", *arguments, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    running = Running("", process=process)
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            running.log.append(json.loads(line) if line.startswith("{") else {"message": line})
            if running.log[-1]["message"] == "serving":
                running.url = f"http://127.0.0.1:{running.log[-1]['port']}"
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(PATIENCE) and running.url, running.log
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE)
        reader.join(PATIENCE)
        process.stderr.close()
