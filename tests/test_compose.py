"""compose.yaml holds together: its services, and options that `rain serve` knows. Docker is not needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from rain_decoding.cli.serve import serve

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")


def with_vllm() -> str:
    """The file with the commented service in the place of its like."""
    comment = re.search(r"^  # llama:\n(?:  # .*\n)+", TEXT, re.MULTILINE)
    assert comment is not None
    service = re.sub(r"^  # ", "  ", comment[0], flags=re.MULTILINE)
    return re.sub(r"^  llama:\n(?:    .*\n)+", service, TEXT.replace(comment[0], ""), flags=re.MULTILINE)


@pytest.mark.parametrize("text", [TEXT, with_vllm()], ids=["llama-server", "vllm"])
def test_rain_waits_for_the_engine_and_asks_it_where_it_listens(text: str) -> None:
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    rain, (needed,) = services["rain"], services["rain"]["depends_on"]
    engine = services[needed]
    port = engine["command"][engine["command"].index("--port") + 1]
    assert f":{port}/" in engine["healthcheck"]["test"][-1], "what waits for health needs a health check"
    assert "ports" not in engine, "nobody else reaches the engine"
    options = read(rain["command"])
    assert options["model"] == f"openai:http://{needed}:{port}/v1"
    assert options["api_key_file"] == Path("/run/secrets", *rain["secrets"])
    assert int(rain["stop_grace_period"].removesuffix("s")) > options["grace_seconds"]


@pytest.mark.parametrize("text", [TEXT, with_vllm()], ids=["llama-server", "vllm"])
def test_images_are_named_by_digest(text: str) -> None:
    """A tag may be another image tomorrow. Which digest, the operator says: without it, nothing starts."""
    by_digest = re.compile(r"[\w./-]+@(sha256:[0-9a-f]{64}|\$\{[A-Z]+_DIGEST:\?[^}]+\})")
    for service in yaml.safe_load(text)["services"].values():
        named = service["image"] if "image" in service else service["build"]["args"]["BASE"]
        assert by_digest.fullmatch(named), named
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (.*)$", dockerfile, re.MULTILINE) == ["${BASE}"]


def test_the_image_listens_where_compose_looks() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    command, name, *arguments = yaml.safe_load(entry)
    assert (command, name) == ("rain", "serve")
    options = read(arguments)
    (ports,) = yaml.safe_load(TEXT)["services"]["rain"]["ports"]
    assert options["host"] == "0.0.0.0" and ports.endswith(f":{options['port']}")
    assert f"EXPOSE {options['port']}\n" in dockerfile and f":{options['port']}/readyz" in dockerfile


def read(arguments: list[str]) -> dict[str, Any]:
    """The options of `rain serve` with these arguments."""
    app = typer.Typer(add_completion=False)
    app.command()(serve)
    return typer.main.get_command(app).make_context("serve", list(arguments)).params
