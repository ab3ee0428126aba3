"""The command, with the demo model loaded once for all tests."""

from __future__ import annotations

from typing import Any

import pytest
from cli.command import Rain, runner

import rain_decoding.cli.listings
import rain_decoding.decoding.decoder
from rain_decoding import load_backend
from rain_decoding.backends.local import LocalBackend


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: Any) -> Rain:
    def load(model: str, **options: Any) -> Any:
        if model == "demo" and not options:
            demo = request.getfixturevalue("demo")
            monkeypatch.setattr(demo, "close", lambda: None)  # the next test has it, too
            return demo
        return load_backend(model, **options)

    monkeypatch.setattr(rain_decoding.decoding.decoder, "load_backend", load)
    monkeypatch.setattr(rain_decoding.cli.listings, "load_backend", load)
    return runner(monkeypatch, capsys)


@pytest.fixture
def demo_rain(rain: Rain, demo: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> Rain:
    """The same, for commands that evaluate the demo model."""
    from rain_decoding.evaluation import answering

    monkeypatch.setattr(answering, "model", lambda setting: demo)
    answering.decoders.cache_clear()
    return rain
