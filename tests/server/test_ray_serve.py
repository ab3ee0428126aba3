"""Replicas in a real Ray cluster on this machine: answers, streams, keys, refusals, and clients that leave."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from inspect import signature
from pathlib import Path
from typing import Any

import openai
import pytest
from cli.command import SOURCE
from decoder_worlds import GOOD, SCRIPT
from server.running import QUESTION, Running, gated_world, serving, until

from rain_decoding.errors import ConfigError

KEY = "an-open-secret"

ENDLESS = """
[[next]]
contains = "endless"
after = "It is ("
tokens = { A = 0.9, B = 0.1 }
[[next]]
contains = "endless"
tokens = { " and." = 1 }
"""
FOREVER = [{"role": "user", "content": "Tell me an endless story."}]

if os.environ.get("RAIN_RAY_TESTS") != "1":
    pytest.importorskip("ray", reason="the tests of replicas need the extra ray: make test-ray")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Where a local cluster's proxy listens."""
    import ray
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"USAGE_STATS_ENABLED": "0", "AUTH_MODE": "disabled"}.items():
            patch.setenv(f"RAY_{name}", value)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(SOURCE)}},
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


@pytest.fixture(scope="module")
def replicated(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """Two replicas of an endless and a short answer, each with room for one answer."""
    from ray import serve

    from rain_decoding.server.ray import Arguments, app

    folder = tmp_path_factory.mktemp("replicas")
    config = written(folder, max_concurrent=1, max_queue=0, api_key_file=folder / "keys")
    serve.run(app(Arguments(config=config, replicas=2)))
    return Running(cluster)


def written(folder: Path, **options: Any) -> Path:
    """A file for --config, and what it names."""
    (folder / "model.toml").write_text(ENDLESS + SCRIPT["model.toml"], encoding="utf-8")
    (folder / "kind.toml").write_text(SCRIPT["kind.toml"], encoding="utf-8")
    (folder / "keys").write_text(KEY, encoding="utf-8")
    model = f"scripted:{folder / 'model.toml'}"
    options |= {"model": model, "served_name": "rain", "criterion": folder / "kind.toml"}
    lines = [f"{k} = {v if isinstance(v, int) else repr(str(v))}" for k, v in options.items()]
    (folder / "serve.toml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "serve.toml"


def ask(running: Running, messages: Any = QUESTION, *, key: str = KEY, **options: Any) -> Any:
    options = {"model": "rain", "messages": messages, **options}
    return running.client(key).chat.completions.create(**options)


def test_answers_and_streams_come_through(replicated: Running) -> None:
    answer = ask(replicated, seed=0)
    assert answer.choices[0].message.content == GOOD and answer.rain["rewinds"] > 0
    pieces = [chunk.choices[0].delta.content for chunk in ask(replicated, seed=0, stream=True)]
    assert "".join(filter(None, pieces)) == GOOD


def test_the_keys_of_the_file_are_asked_for(replicated: Running) -> None:
    with pytest.raises(openai.AuthenticationError):
        ask(replicated, key="another")
    with pytest.raises(openai.PermissionDeniedError):
        ask(replicated, extra_body={"rain": {"preset": "fast"}})


def begin(replicated: Running, streams: ExitStack) -> bool:
    """Begin an endless answer; False where the replica that was asked is full."""
    try:
        chunks = streams.enter_context(closing(ask(replicated, FOREVER, stream=True, max_tokens=4000)))
    except openai.RateLimitError:
        return False
    return any(chunk.choices[0].delta.content for chunk in chunks)


def test_each_replica_has_its_own_room_and_a_client_that_leaves_frees_it(replicated: Running) -> None:
    for _ in range(2):
        with ExitStack() as streams:
            for _ in range(2):
                until(lambda streams=streams: begin(replicated, streams))
            for _ in range(4):
                assert not begin(replicated, streams), "both replicas are busy"


def test_arguments_of_the_command_line_are_read() -> None:
    from rain_decoding.server.ray import Arguments, app

    assert signature(app).parameters["arguments"].annotation is Arguments, "else Ray hands over a dict"
    assert Arguments.model_validate({"config": "serve.toml", "replicas": "2", "gpus": "0.5"}).replicas == 2


def test_a_replica_whose_model_hangs_is_not_healthy() -> None:
    from rain_decoding.server.ray import Replica

    backend = gated_world()
    with serving(backend, stuck_seconds=0.02) as running, ThreadPoolExecutor(1) as pool:
        assert running.server is not None and running.service is not None
        replica = Replica()
        replica.app = running.server.config.app  # type: ignore[assignment]
        replica.check_health()
        backend.gate.clear()
        asked = pool.submit(ask, running, model=running.service.parser.model)
        until(lambda: running.service is not None and running.service.worker.stuck)
        with pytest.raises(RuntimeError):
            replica.check_health()
        assert asked.exception(timeout=30) is not None, "its request fails meanwhile"
        backend.gate.set()


def test_what_is_wrong_with_the_file_is_said_before_anything_starts(tmp_path: Path) -> None:
    from rain_decoding.server.ray import Arguments, app

    with pytest.raises(ConfigError, match="no_such_option"):
        app(Arguments(config=written(tmp_path, no_such_option=1)))
    with pytest.raises(ConfigError, match="max_queue = -1"):
        app(Arguments(config=written(tmp_path, max_queue=-1)))
