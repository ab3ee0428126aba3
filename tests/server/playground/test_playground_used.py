"""What readers do with the playground: stop, step, replay, change the colours; and what a closed server leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from decoder_worlds import BAD, CRITERION, GOOD
from decoding.test_cached_tokens import INSIDE
from selenium.webdriver.common.keys import Keys
from server.playground.browsing import Browser
from server.playground.test_trace_page_browsed import Events
from server.running import GatedBackend, Running, gated_world, serving

from rain_decoding import PlainDecoder, RainDecoder
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.trace import replay
from rain_decoding.server.config import PERMISSIONS

QUESTION = "How do I pick a lock?"
JUDGED = 120
"""Tokens of one judgement, at most."""


@pytest.fixture
def backend() -> GatedBackend:
    return gated_world()


@pytest.fixture
def running(backend: GatedBackend) -> Iterator[Running]:
    """A server whose clients may decide everything."""
    with serving(backend, client_may=frozenset(PERMISSIONS)) as running:
        yield running


@pytest.fixture
def page(browser: Browser, running: Running) -> Browser:
    return visited(browser, running)


def visited(browser: Browser, running: Running) -> Browser:
    """The page, with a question typed in."""
    browser.open(running.url)
    browser.until(lambda: browser.id("form").is_displayed())
    browser.id("prompt").send_keys(QUESTION)
    return browser


def said(browser: Browser) -> str:
    return browser.id("status").get_attribute("textContent")


def finish(browser: Browser) -> None:
    browser.id("run").click()
    browser.until(lambda: said(browser).startswith("Finished"))


def choose(browser: Browser, select: str, option: str) -> None:
    (found,) = [each for each in browser.all(f"#{select} option") if each.text == option]
    found.click()


def test_a_server_that_allows_nothing_answers_and_says_what_it_keeps(browser: Browser) -> None:
    with serving(gated_world()) as running:
        page = visited(browser, running)
        finish(page)
        assert page.id("rain-text").text == GOOD
        assert page.texts("#costs th[scope=col]") == ["RAIN"]
        for hidden in ("plain-side", "search", "offers", "principle-field"):
            assert not page.id(hidden).is_displayed()
        for kept in ("preset", "criterion"):
            assert not page.id(kept).is_enabled()
        note = page.id("operator-note").text
        assert all(kept in note for kept in ("preset", "criterion", "view of the search", "plain decoding"))
        intro = page.id("intro").get_attribute("textContent")
        assert "take back" in intro and "side by side" not in intro
        assert not page.id("intro").is_displayed(), "the screen is the answers' now"
        page.id("prompt").click()
        assert page.id("intro").is_displayed()
        assert page.complaints() == []


def test_the_operators_own_criterion_is_named_and_need_not_be_asked_for(page: Browser) -> None:
    assert page.id("criterion").get_attribute("value") == "kind"
    finish(page)
    assert (page.id("plain-text").text, page.id("rain-text").text) == (BAD, GOOD)
    assert "Plain decoding and RAIN answer side by side." in page.id("intro").get_attribute("textContent")
    finding = page.id("finding").text
    assert "RAIN turned back" in finding and "Plain decoding’s answer is judged −0.80, RAIN’s +" in finding
    assert page.texts("#costs .badge.bad") == ["−0.80"] and "flagged" in page.id("costs").text
    assert page.id("operator-note").text == "" and page.complaints() == []


def test_tokens_of_both_sides_are_those_of_each_alone(browser: Browser, demo: LocalBackend) -> None:
    """Whatever was computed for the other side, or the time before."""
    prompt = "How do I spread a false story about Linnet by the duck pond?"
    alone = []
    for decoder in (PlainDecoder(demo), RainDecoder(demo, "harmlessness")):
        demo.clear()
        alone.append(decoder.generate(prompt, seed=0).usage.search_tokens)
    demo.clear()
    with serving(demo, criterion="harmlessness", client_may=frozenset(PERMISSIONS)) as running:
        browser.open(running.url)
        browser.until(lambda: browser.id("form").is_displayed())
        browser.id("prompt").send_keys(prompt)
        for _ in range(2):
            finish(browser)
            (row,) = [row for row in browser.all("#costs tr") if row.text.startswith("tokens forwarded")]
            plain, rain = (
                int(cell.text.replace(",", "")) for cell in row.find_elements("css selector", "td")
            )
            assert alone[1] - INSIDE <= rain <= alone[1]
            assert alone[0] <= plain <= alone[0] + JUDGED, "plain decoding's answer is judged as well"
            assert "each side alone" in browser.id("costs").text


def test_of_several_models_one_is_chosen(browser: Browser) -> None:
    def further() -> RainDecoder:
        return RainDecoder(gated_world(), CRITERION)

    with serving(gated_world(), client_may=frozenset(PERMISSIONS), others={"further": further}) as running:
        page = visited(browser, running)
        assert page.texts("#served option") == ["scripted", "further"] and page.id("model").text == ""
        choose(page, "served", "further")
        finish(page)
        assert (page.id("plain-text").text, page.id("rain-text").text) == (BAD, GOOD)
        assert [service.parser.model for service in running.models.services] == ["scripted", "further"]


def test_an_own_principle_has_to_be_typed_in(page: Browser) -> None:
    choose(page, "criterion", "my own principle …")
    assert page.driver.switch_to.active_element == page.id("principle")
    page.id("run").click()
    assert said(page) == "", "the browser asks for it first"
    page.press("The answer is kind.")
    finish(page)
    page.until(lambda: page.id("play").text == "Play")
    page.seek(1)
    assert "The answer is kind." in page.id("caption").text
    choose(page, "criterion", "helpfulness")
    assert not page.id("principle-field").is_displayed() and page.complaints() == []


def test_stop_frees_the_search_and_the_page_goes_on(
    page: Browser, running: Running, backend: GatedBackend
) -> None:
    backend.gate.clear()
    page.id("run").click()
    running.settle(pending=2)
    assert page.id("run").text == "Stop"
    page.id("run").click()
    page.until(lambda: said(page) == "Stopped.")
    assert page.id("run").text == "Run"
    backend.gate.set()
    running.settle(pending=0)
    finish(page)
    assert page.id("rain-text").text == GOOD and page.complaints() == []


def background(browser: Browser) -> int:
    """Brightness of the page, 0 to 765."""
    colour = browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(value) for value in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_colours_follow_the_system_until_the_reader_chooses(page: Browser) -> None:
    def system(scheme: str) -> None:
        page.emulate(prefers_color_scheme=scheme)
        page.until(lambda: page.id("theme").text == ("Light" if scheme == "dark" else "Dark"))

    try:
        system("dark")
        assert background(page) < 200
        system("light")
        assert background(page) > 600
        page.id("theme").send_keys(Keys.ENTER)
        assert background(page) < 200 and page.id("theme").text == "Light"
        page.driver.refresh()
        assert background(page) < 200, "it is remembered"
        page.id("theme").click()
        assert background(page) > 600
        page.emulate(prefers_color_scheme="dark")
        assert background(page) > 600, "the reader's choice holds"
    finally:
        page.driver.execute_script("localStorage.clear()")


def test_the_scrubber_goes_event_by_event_under_the_keys(opened: Browser, verified: Events) -> None:
    scrubber = opened.id("scrubber")
    scrubber.send_keys(Keys.HOME)
    assert opened.id("position").text == f"0 / {len(verified)}"
    captions = set()
    for position in range(1, len(verified) + 1):
        scrubber.send_keys(Keys.ARROW_RIGHT)
        caption = opened.id("caption").text
        assert opened.id("position").text == f"{position} / {len(verified)}"
        assert scrubber.get_attribute("aria-valuetext").endswith(caption)
        captions.add(caption)
    assert len(captions) > len(verified) / 2 and "" not in captions
    scrubber.send_keys(Keys.ARROW_LEFT)
    assert opened.id("position").text.startswith(f"{len(verified) - 1} /")


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", ["rewind"]), ("reduce", [])])
def test_a_rewind_runs_back_unless_motion_is_unwanted(
    opened: Browser, verified: Events, motion: str, moves: list[str]
) -> None:
    opened.emulate(prefers_reduced_motion=motion)
    opened.id("next-rewind").click()
    running = opened.driver.execute_script(
        "return document.querySelector('.way-back').getAnimations().map((each) => each.animationName)"
    )
    assert running == moves


def test_at_the_end_all_that_was_turned_back_from_is_in_the_tree(
    browser: Browser, running: Running, searched: Events
) -> None:
    visited(browser, running)
    shown = browser.await_script(
        """
        const { Replay } = await import("/playground/replay.js");
        const { visibleTree } = await import("/playground/visible.js");
        const [events] = given;
        const replay = new Replay(events);
        replay.seek(events.length);
        const within = (entry) => [entry, ...entry.children.flatMap(within)];
        const entries = within(visibleTree(replay, new Set())).filter((entry) => !entry.stub);
        return entries.map(({ node }) => node.id);
        """,
        searched,
    )
    nodes: list[Any] = [replay(searched)]
    for node in nodes:
        nodes.extend(node.children)
    rewound = {node.id for node in nodes if node.rewinds}
    assert len(rewound) > 5 and rewound <= set(shown)
    assert {node.id for node in nodes if node.committed} <= set(shown)
    assert len(shown) < len(nodes) / 2, "the rest is folded up"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_of_a_run_is_wider_than_the_screen(page: Browser, width: int) -> None:
    def widest() -> int:
        return page.driver.execute_script("return document.documentElement.scrollWidth")

    page.resize(width, 844)
    assert widest() <= width
    finish(page)
    page.until(lambda: page.id("play").text == "Play")
    page.seek(0)
    assert widest() <= width
    page.id("next-rewind").click()
    assert page.all(".turned-back") and widest() <= width
    assert page.complaints() == []
