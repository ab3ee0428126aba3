"""The playground of a real server in a real browser: a key, a prompt, two streams, a rewind, a trace out and in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cli.command import start
from server.playground.browsing import Browser
from server.playground.conftest import SENSITIVE

from rain_decoding import SearchConfig
from rain_decoding.decoding.rain_decoder import UNPROVEN
from rain_decoding.decoding.trace import read_trace, replay
from rain_decoding.microworld import find_request

KEY = "an-open-secret"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server of the demo model listens that wants a key and lets clients decide."""
    keys = tmp_path_factory.mktemp("server") / "keys"
    keys.write_text(KEY, encoding="utf-8")
    process = start("serve", "--open", "--port", "0", "--api-key-file", keys, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if '"serving"' in line:
                yield f"http://127.0.0.1:{json.loads(line)['port']}/"
                break
        else:
            pytest.fail("the server did not start")
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def connected(browser: Browser, address: str) -> Browser:
    """The page after its key was given."""
    browser.open(address)
    browser.until(lambda: browser.id("key").is_displayed())
    browser.id("key").send_keys(KEY + "\n")
    browser.until(lambda: browser.id("form").is_displayed())
    browser.complaints()  # that the first request was refused
    return browser


def download(browser: Browser, folder: Path) -> Path:
    """The trace that is shown, as a file."""
    behavior = {"behavior": "allow", "downloadPath": str(folder)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
    browser.id("download").click()
    trace = folder / "search.jsonl"
    browser.until(lambda: trace.exists() and trace.stat().st_size)  # first the browser makes an empty one
    return trace


def run(browser: Browser) -> None:
    """Run the prompt, to the end of both answers and of the replay that keeps up with them."""
    browser.id("run").click()
    browser.until(lambda: browser.id("status").get_attribute("textContent").startswith("Finished"))
    browser.until(lambda: browser.id("download").is_enabled())
    browser.until(lambda: browser.id("play").text == "Play")


def test_a_prompt_streams_on_both_sides_and_its_trace_goes_out_and_in(
    connected: Browser, address: str, tmp_path: Path
) -> None:
    browser = connected
    browser.id("prompt").send_keys(SENSITIVE)
    run(browser)
    plain, searched = browser.id("plain-text").text, browser.id("rain-text").text
    assert plain and searched and plain != searched
    assert "rewind" in browser.id("status").get_attribute("textContent")

    browser.id("next-rewind").click()
    assert browser.all(".turned-back")

    trace = download(browser, tmp_path)
    events = read_trace(trace)
    assert events[-1]["text"] == searched and replay(events).children

    browser.open(address)
    browser.id("file").send_keys(str(trace))
    browser.until(lambda: browser.id("rain-text").text == searched)
    assert not browser.id("plain-side").is_displayed()
    asked = [url for url in browser.requests() if not url.startswith(("data:", "blob:", "about:"))]
    assert asked and all(url.startswith(address) for url in asked)
    assert [text for text in browser.complaints() if "401" not in text] == []


def test_an_own_principle_and_a_preset_reach_the_server(connected: Browser, tmp_path: Path) -> None:
    for name, value in (("criterion", "my own principle …"), ("preset", "fast")):
        (option,) = [o for o in connected.all(f"#{name} option") if o.text == value]
        option.click()
    connected.id("principle").send_keys("The answer is polite.")
    connected.id("prompt").send_keys(SENSITIVE)
    run(connected)
    start_event = read_trace(download(connected, tmp_path))[0]
    # Nobody knows how well a sentence is judged by.
    fast = json.loads(json.dumps(asdict(SearchConfig.preset("fast", **UNPROVEN))))
    assert start_event["criterion"] != "harmlessness" and start_event["config"] == fast
    assert connected.complaints() == []


def test_the_prompts_offered_are_of_the_demo_world(connected: Browser) -> None:
    offers = connected.all(".offer")
    families = set()
    for offer in offers:
        kind, prompt = (part.text for part in offer.find_elements("css selector", "small, span"))
        offer.click()
        assert connected.id("prompt").get_attribute("value") == prompt
        request = find_request(prompt)
        assert request is not None and request.family == kind
        families.add(kind)
    assert families == {"sensitive", "benign", "look-alike"}


def test_an_error_of_the_server_is_said(connected: Browser) -> None:
    connected.id("prompt").send_keys(SENSITIVE)
    connected.driver.execute_script("document.getElementById('seed').value = '1e30'")
    connected.id("run").click()
    connected.until(lambda: connected.id("alert").text)
    assert "seed" in connected.id("alert").text


@pytest.mark.parametrize("name", ["verified", "searched"])
def test_the_page_replays_as_the_library_does(
    connected: Browser, name: str, request: pytest.FixtureRequest
) -> None:
    events: list[dict[str, Any]] = request.getfixturevalue(name)
    every = max(1, len(events) // 40)
    positions = [*range(0, len(events), every), len(events)]
    # Backwards, so that going back is replayed, too.
    replayed = connected.await_script(
        """
        const { Replay } = await import("/playground/replay.js");
        const [events, positions] = given;
        const replay = new Replay(events);
        return positions.toReversed().map((position) => {
          replay.seek(position);
          return [...replay.nodes.values()].map((node) => [
            node.id, node.parent ? node.parent.id : null, node.prior, node.visits, node.value, node.evaluations,
            node.score, node.rollout, node.rewinds, node.committed, node.widened,
          ]);
        });
        """,
        events,
        positions,
    )
    assert isinstance(replayed, list), replayed
    for position, nodes in zip(reversed(positions), replayed, strict=True):
        expected = [described(node) for node in all_nodes(replay(events[:position]))]
        assert sorted(nodes) == sorted(expected)


def described(node: Any) -> list[Any]:
    parent = None if node.parent is None else node.parent.id
    return [
        *(node.id, parent, node.prior, node.visits, node.value, node.evaluations),
        *(node.score, node.rollout, node.rewinds, node.committed, node.widened),
    ]


def all_nodes(root: Any) -> list[Any]:
    nodes = [root]
    for node in nodes:
        nodes.extend(node.children)
    return nodes
