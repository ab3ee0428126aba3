"""A real LiteLLM proxy: in front of `rain serve`, and with it as a guardrail that repairs.

LiteLLM brings versions of packages that others here do not want, so it has an environment of its own: name its command
in RAIN_LITELLM, or have `litellm` on the path.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from server.running import PATIENCE, Running, until
from server.test_openai_client import BAD

from rain_decoding import PlainDecoder, RainDecoder, load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.microworld import find_request, label

LITELLM = os.environ.get("RAIN_LITELLM") or shutil.which("litellm")
pytestmark = pytest.mark.skipif(LITELLM is None, reason="litellm is not installed")
PAGE = Path(__file__).parents[2] / "docs" / "litellm.md"
KEY = "sk-gateway"
STARTING = 240.0
"""Seconds that the proxy may take to start."""


@pytest.fixture(scope="module")
def proxy(demo_server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """The proxy of the page's configuration."""
    (config,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    folder = tmp_path_factory.mktemp("litellm")
    (folder / "config.yaml").write_text(config.replace("http://127.0.0.1:8000", demo_server.url))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert LITELLM is not None
    command = [LITELLM, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{url}/health/liveliness") or process.poll() is not None, STARTING)
        assert process.poll() is None
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).is_success
    except httpx2.HTTPError:
        return False


def ask(proxy: openai.OpenAI, model: str, **options: Any) -> str:
    messages = [{"role": "user", "content": BAD}]
    wanted: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 60, **options}
    answer = proxy.chat.completions.create(**wanted)
    if not options.get("stream"):
        return str(answer.choices[0].message.content)
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


GUARDED = {"extra_body": {"guardrails": ["rain"]}}


@pytest.mark.parametrize("stream", [False, True])
def test_in_front_of_rain(proxy: openai.OpenAI, demo: LocalBackend, stream: bool) -> None:
    expected = RainDecoder(demo).generate(BAD, max_tokens=60).text
    assert ask(proxy, "aligned", stream=stream) == expected
    assert ask(proxy, "aligned", stream=stream, **GUARDED) == expected, "what is good passes"


@pytest.mark.parametrize("stream", [False, True])
def test_what_another_model_says_is_repaired(proxy: openai.OpenAI, demo: LocalBackend, stream: bool) -> None:
    plain = PlainDecoder(demo).generate(BAD, max_tokens=60).text
    repaired = RainDecoder(demo).generate(BAD, max_tokens=60).text
    assert ask(proxy, "plain") == plain != repaired
    assert ask(proxy, "plain", stream=stream, **GUARDED) == repaired


def test_its_other_apis(proxy: openai.OpenAI, demo_server: Running, demo: LocalBackend) -> None:
    expected = RainDecoder(demo).generate(BAD, max_tokens=60).text
    assert proxy.responses.create(model="aligned", input=BAD, max_output_tokens=60).output_text == expected
    decision = proxy.decisions.create(
        model="aligned", input=BAD, questions=[{"type": "predicate", "instructions": "Is it so?"}]
    )
    (answer,) = decision.answers
    assert answer.type == "predicate" and 0 < answer.probability < 1
    client = anthropic.Anthropic(
        base_url=str(proxy.base_url).removesuffix("/v1/"), api_key=KEY, max_retries=0
    )
    message = client.messages.create(
        model="aligned", max_tokens=60, messages=[{"role": "user", "content": BAD}]
    )
    assert "".join(block.text for block in message.content if block.type == "text") == expected
    body = {
        "model": "aligned",
        "state": BAD,
        "questions": {"so": {"type": "noul", "instructions": "Is it so?", "criteria": None}},
    }
    asked = httpx2.post(
        f"{proxy.base_url}systemone", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=PATIENCE
    )
    with demo_server.http() as http:
        own = http.post("/v1/systemone", json={**body, "model": "demo"}).json()
    assert 0 < own["answers"]["so"]["noul"] < 1
    assert asked.json()["answers"]["so"]["noul"] == own["answers"]["so"]["noul"]


@pytest.mark.parametrize("api", ["systemone", "decisions"])
def test_behind_which_rain_serves(proxy: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    monkeypatch.setenv("RAIN_API_KEY", KEY)
    assert (request := find_request(BAD)) is not None
    url = str(proxy.base_url).rstrip("/")
    backend = load_backend(f"openai:{url}#plain")
    decoder = RainDecoder(backend, "harmlessness", judge=f"{api}:{url}#aligned")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a gateway hides log-probabilities
        plain = PlainDecoder(backend).generate(BAD, max_tokens=60).text
        answer = decoder.generate(BAD, max_tokens=60)
    assert label(request, plain).outcome == "harmful"
    assert answer.usage.rewinds > 0 and label(request, answer.text).outcome == "refused"
