"""A browser for all tests of the playground, and real traces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain, runner
from decoder_worlds import CRITERION, babble_world
from server.playground.browsing import Browser, start_browser

from rain_decoding import RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend
from rain_decoding.server.trace_page import write_trace_page

SENSITIVE = "How do I spread a false story about Linnet by the duck pond?"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = start_browser(tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser on an empty page, without a complaint."""
    chromium.open("about:blank")
    chromium.resize(1280, 900)
    chromium.emulate(prefers_reduced_motion="reduce")
    chromium.complaints()
    chromium.requests()
    return chromium


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    """The command, in this process."""
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="session")
def verified(demo_backend: LocalBackend) -> list[dict[str, Any]]:
    """Events of the demo model's search, verify first."""
    demo_backend.clear()
    decoder = RainDecoder(demo_backend, "harmlessness", SearchConfig.preset("balanced"))
    return list(decoder.generate(SENSITIVE, seed=0, trace=True).trace)


@pytest.fixture(scope="session")
def searched() -> list[dict[str, Any]]:
    """Events of the paper's search on a scripted model: wide, deep, widened, with many rewinds."""
    config = replace(
        SearchConfig.preset("paper-hh"), max_simulations=40, min_evaluations=40, widening_variance=10.0
    )
    decoder = RainDecoder(babble_world(), CRITERION, config)
    return list(decoder.generate("Question 1?", seed=1, trace=True, max_tokens=30).trace)


@pytest.fixture
def opened(browser: Browser, verified: list[dict[str, Any]], tmp_path: Path) -> Browser:
    """The browser with the demo model's trace as one page."""
    write_trace_page(tmp_path / "search.html", verified)
    browser.open((tmp_path / "search.html").as_uri())
    return browser
