"""`rain serve` as a command: its configuration, its warnings, signals."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import openai
import pytest
from cli.command import Rain, runner
from decoder_worlds import GOOD
from server.running import PATIENCE, QUESTION, serving_process

import rain_decoding.server.run

ENDLESS = """
[[next]]
after = "It is ("
tokens = { A = 0.9, B = 0.1 }
[[next]]
tokens = { " and." = 1 }
"""


class Served:
    """What `rain serve` would have served."""

    def __call__(self, app: Any, host: str, port: int, told: Any = None) -> None:
        self.models, self.host, self.port = app.state.models, host, port
        self.service = self.models.first


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served()
    monkeypatch.setattr(rain_decoding.server.run, "serve", served)
    return served


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


@pytest.fixture
def model(script: Path) -> list[str | Path]:
    return ["serve", "--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml"]


def test_what_loading_has_to_say_is_in_the_log(script: Path) -> None:
    """The judge of this model has no room for examples, and warns of it before anything is served."""
    with serving_process("--model", f"scripted:{script / 'model.toml'}") as running:
        assert any("no examples" in entry["message"] for entry in running.log)
        assert all("level" in entry for entry in running.log), "all lines are JSON"


def test_it_listens_at_the_loopback_and_allows_nothing(
    rain: Rain, served: Served, model: list[str | Path]
) -> None:
    result = rain(*model)
    assert (result.code, result.err) == (0, "")
    assert (served.host, served.port) == ("127.0.0.1", 8000)
    assert served.service.config.client_may == frozenset()
    assert served.service.config.cors_origins == ()


def test_options_from_a_file_and_the_command_line_wins(
    rain: Rain, served: Served, model: list[str | Path], tmp_path: Path
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(
        'port = 9000\nmax-queue = 7\nmax_tokens = 40\nclient-may = "budget, trace"\nset = ["hold_back=0"]\n'
        'cors-origin = ["https://a.example"]\nplayground = false\n'
    )
    assert rain(*model, "--config", file, "--port", "9001").code == 0
    config = served.service.config
    assert served.port == 9001
    assert (config.max_queue, config.max_tokens, config.playground) == (7, 40, False)
    assert config.client_may == {"budget", "trace"} and config.cors_origins == ("https://a.example",)
    assert served.service.parser.decoders.operator.config.hold_back == 0


@pytest.mark.parametrize("text", ["prot = 1", "config = 'x'", "port = ", "port = 'many'"])
def test_a_broken_file_is_wrong_usage(
    rain: Rain, served: Served, model: list[str | Path], tmp_path: Path, text: str
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    assert rain(*model, "--config", file).code == 2


def test_a_wrong_value_of_a_file_is_said_with_the_file(
    rain: Rain, served: Served, model: list[str | Path], tmp_path: Path
) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("client-may = 'everything'")
    result = rain(*model, "--config", file)
    assert result.code == 2 and f"{file}: client_may = " in result.err.replace("\n", "")


def test_clients_know_the_model_by_a_name_without_a_path(
    rain: Rain, served: Served, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    criterion = ["--criterion", script / "kind.toml"]
    scripted = f"scripted:{script / 'model.toml'}"
    assert rain("serve", scripted, *criterion).code == 0
    assert served.models.names == ["model"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(script / "config"))
    assert rain("models", "add", "kind", scripted).code == 0
    assert rain("serve", "kind", *criterion).code == 0
    assert served.models.names == ["kind"]
    assert rain("serve", "kind", "--model", "demo").code == 2


def test_any_name_is_taken_where_the_operator_says_so(script: Path) -> None:
    arguments = [
        f"scripted:{script / 'model.toml'}",
        "--criterion",
        script / "kind.toml",
        "--served-name",
        "kind",
    ]
    with serving_process(*arguments, "--any-model") as running:
        answer = running.client().chat.completions.create(model="gpt-4o", messages=QUESTION)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == GOOD
        with pytest.raises(openai.PermissionDeniedError, match="client-may plain"):
            running.client().chat.completions.create(model="x:plain", messages=QUESTION)  # type: ignore[arg-type]


def test_unknown_permissions_and_missing_keys_are_wrong_usage(
    rain: Rain, served: Served, model: list[str | Path], tmp_path: Path
) -> None:
    assert rain(*model, "--client-may", "everything").code == 2
    assert rain(*model, "--api-key-file", tmp_path / "none").code == 2


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(rain: Rain) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = rain("serve", "--model", "hf:/no/such/model", "--port", str(port))
    assert result.code == 2 and f"cannot listen on 127.0.0.1, port {port}" in result.err


def test_warnings_where_others_can_reach_it(
    rain: Rain, served: Served, model: list[str | Path], tmp_path: Path
) -> None:
    result = rain(*model, "--host", "0.0.0.0", "--open")
    assert "without --api-key-file" in result.err and "clients on 0.0.0.0 may set" in result.err
    keys = tmp_path / "keys"
    keys.write_text("key\n")
    assert rain(*model, "--host", "0.0.0.0", "--api-key-file", keys).err == ""


def test_a_signal_lets_it_finish_and_it_says_what_it_cancelled(script: Path, tmp_path: Path) -> None:
    (script / "endless.toml").write_text(ENDLESS)
    arguments = ["--model", f"scripted:{script / 'endless.toml'}", "--criterion", script / "kind.toml"]
    with serving_process(*arguments, "--served-name", "endless", "--grace-seconds", "0.2") as running:
        chunks = running.client().chat.completions.create(
            model="endless",
            messages=QUESTION,  # type: ignore[arg-type]
            stream=True,
            max_tokens=4000,
            extra_headers={"x-request-id": "long-one"},
        )
        assert any(chunk.choices[0].delta.content for chunk in chunks)
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
        running.process.wait(PATIENCE)
        assert running.process.returncode in (0, -signal.SIGTERM)
        assert running.logged(message="shutting down")["finishing"] == ["long-one"]
        assert running.logged(message="cancelled")["requests"] == ["long-one"]
        assert "Traceback" not in json.dumps(running.log)


def test_the_command_serves_the_script(script: Path) -> None:
    arguments = ["--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml"]
    with serving_process(*arguments, "--served-name", "kind") as running:
        answer = running.client().chat.completions.create(model="kind", messages=QUESTION)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == GOOD
