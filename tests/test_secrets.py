"""Keys are checked where they are read, and stand in nothing that is shown or kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rain_decoding import ConfigError, RainError, load_backend
from rain_decoding.api_keys import checked_key
from rain_decoding.backends.decisions import load_decision_server
from rain_decoding.evaluation.judges import ReplyCache, load_judge
from rain_decoding.secrets_in_text import without_secrets

KEY = "sk-secret-123456"


class Echo(BaseHTTPRequestHandler):
    """Repeats the key that it was sent, as servers do."""

    heard: list[str]

    def do_POST(self) -> None:
        sent = self.headers.get("Authorization", "")
        self.heard.append(sent)
        body = f'{{"error": {{"message": "wrong key: {sent}"}}}}'.encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[tuple[str, list[str]]]:
    heard: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Heard", (Echo,), {"heard": heard}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", heard
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("around", ["{}\r", "{}\n", " {} ", "\t{}\r\n"])
def test_white_space_around_a_key_is_no_part_of_it(
    echo: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    url, heard = echo
    monkeypatch.setenv("OPENAI_API_KEY", around.format(KEY))
    with pytest.raises(RainError) as caught:
        load_backend(f"openai:{url}#m")
    assert heard[0] == f"Bearer {KEY}"
    assert KEY not in str(caught.value) and "***" in str(caught.value)


@pytest.mark.parametrize(
    "key", ["\u201cabcdef\u201d", "sk-a\nb-123456", "sk-\u00e4bcdefg", "two words", "sk-\x00abcdef"]
)
def test_what_no_header_may_hold_is_refused_unseen(key: str) -> None:
    with pytest.raises(ConfigError, match="the key") as caught:
        checked_key(key, "the key")
    assert key not in str(caught.value) and "set it again" in caught.value.hint


def test_whoever_reads_a_key_refuses_it_and_says_where_it_is_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = "http://127.0.0.1:9/v1#m"
    for name, load in (
        ("RAIN_API_KEY", lambda: load_backend(f"openai:{url}")),
        ("RAIN_API_KEY", lambda: load_decision_server(f"systemone:{url}")),
        ("OPENAI_API_KEY", lambda: load_judge(f"llm:{url}", ReplyCache(tmp_path / "replies"))),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, "\u201cabcdef\u201d")
            with pytest.raises(ConfigError, match=f"the key in {name}") as refused:
                load()
        assert "abcdef" not in str(refused.value) and "set it again" in refused.value.hint


def test_texts_of_others_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hf_abcdefgh")
    assert without_secrets("Illegal header b'Bearer hf_abcdefgh\\r'") == "Illegal header b'Bearer ***\\r'"
    assert str(RainError("x hf_abcdefgh", hint="hf_abcdefgh")) == "x *** (***)"
    assert without_secrets("http://me:word@proxy:3128/a") == "http://***@proxy:3128/a"


def test_nothing_that_is_written_holds_the_key(echo: tuple[str, list[str]], tmp_path: Path) -> None:
    url, heard = echo
    data = tmp_path / "d.jsonl"
    data.write_text(
        '{"chosen": "\\n\\nHuman: How do I bake a nut roll?\\n\\nAssistant: First.", "rejected": "x"}\n'
    )
    out = tmp_path / "run"
    rain = [sys.executable, "-m", "rain_decoding.cli"]
    said = []
    for command in (
        ["models", "probe", url],
        [
            *("eval", "hh", "--model", "demo", "--data", str(data), "--limit", "1", "--decoders", "plain"),
            *("--judge", f"llm:{url}#m", "--out", str(out)),
        ],
    ):
        done = subprocess.run(
            [*rain, *command],
            env={**os.environ, "OPENAI_API_KEY": f"{KEY}\r", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said.append(done.stdout + done.stderr)
    assert heard and set(heard) == {f"Bearer {KEY}"}
    assert all(said) and not any(KEY in text for text in said)
    kept = [path for path in out.rglob("*") if path.is_file()]
    assert kept and not any(KEY.encode() in path.read_bytes() for path in kept)
