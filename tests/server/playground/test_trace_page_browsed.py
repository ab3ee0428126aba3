"""The page of a trace in a real browser: tree, replay, judgements, keyboard, and texts that would break out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys
from server.playground.browsing import Browser
from server.playground.test_trace_page import HOSTILE, with_text

from rain_decoding.decoding.trace import replay, write_trace
from rain_decoding.server.trace_page import write_trace_page

Events = list[dict[str, Any]]


def positions(events: Events, kind: str) -> list[int]:
    """The scrubber's positions at which such an event was the last."""
    return [index + 1 for index, event in enumerate(events) if event["event"] == kind]


def committed_text(events: Events) -> str:
    return "".join(event["text"] for event in events if event["event"] == "commit").strip()


def test_the_answer_and_its_cost_are_shown(opened: Browser, verified: Events) -> None:
    end = verified[-1]
    assert opened.id("question").text == verified[0]["messages"][-1]["content"]
    assert opened.id("rain-text").text == end["text"]
    costs = opened.id("costs").text
    for name in ("search_tokens", "forward_passes", "simulations", "rewinds"):
        assert str(end["usage"][name]) in costs.replace(",", "")
    assert not opened.id("form").is_displayed() and not opened.id("plain-side").is_displayed()
    assert opened.complaints() == []


def test_a_commit_joins_the_committed_path(opened: Browser, verified: Events) -> None:
    assert opened.texts(".card.committed .card-text")[0] == verified[0]["messages"][-1]["content"]
    for position in positions(verified, "commit"):
        opened.seek(position - 1)
        node = f"#node-{verified[position - 1]['node']}"
        assert opened.all(f"{node}.committed") == []
        opened.seek(position)
        assert opened.all(f"{node}.committed.selected") and opened.all(".edge.committed")


def test_the_scrubber_shows_a_rewind_where_it_was(opened: Browser, verified: Events) -> None:
    first, *_ = positions(verified, "rewind")
    opened.seek(first - 1)
    assert opened.all(".turned-back") == []
    opened.seek(first)
    (node,) = [n for n in walk(verified[:first]) if n.rewinds]
    assert opened.texts(".turned-back .card-text") == [node.text.strip()]
    assert opened.texts("#rain-text del") == [node.text]
    assert opened.id("caption").text.startswith("Rewound from")
    assert opened.id("position").text == f"{first} / {len(verified)}"
    assert opened.all(".way-back")[0].get_attribute("d"), "the way back is drawn"
    opened.seek(first + 1)
    assert opened.all(".turned-back") == []


def test_next_rewind_goes_from_one_to_the_next(opened: Browser, verified: Events) -> None:
    found = []
    for _ in positions(verified, "rewind"):
        opened.id("next-rewind").click()
        found.append(int(opened.id("scrubber").get_attribute("value")))
    assert found == positions(verified, "rewind")


def test_text_is_released_as_it_was_committed(opened: Browser, verified: Events) -> None:
    released = set()
    for position in range(len(verified)):
        opened.seek(position)
        shown = opened.texts("#rain-text .released")
        assert shown == [committed_text(verified[:position])]
        released.update(shown)
    assert len(released) > 2


def test_a_selected_node_shows_its_judgement(opened: Browser, verified: Events) -> None:
    judged = next(event for event in verified if event["event"] == "judge" and event["score"] < 0)
    opened.driver.execute_script("arguments[0].click()", opened.id(f"node-{judged['node']}"))
    assert opened.texts("#inspector .judged") == [judged["judged"]]
    assert opened.texts("#inspector .badge") == [f"−{abs(judged['score']):.2f}"]


def test_play_runs_to_the_end_and_stops(opened: Browser, verified: Events) -> None:
    opened.driver.execute_script("const s = document.getElementById('speed'); s.options[3].value = 1000; "
                                 "s.selectedIndex = 3; s.dispatchEvent(new Event('change'))")  # fmt: skip
    opened.seek(2)
    opened.id("play").click()
    opened.until(lambda: opened.id("scrubber").get_attribute("value") == str(len(verified)))
    opened.until(lambda: opened.id("play").text == "Play")
    assert opened.id("rain-text").text == verified[-1]["text"]


def test_the_tree_is_walked_by_keyboard(opened: Browser) -> None:
    tree = opened.id("tree")
    tree.send_keys(Keys.HOME)

    def active() -> Any:
        return opened.id(tree.get_attribute("aria-activedescendant"))

    root = active()
    assert root.get_attribute("aria-level") == "1"
    opened.press(Keys.ARROW_RIGHT)
    assert active().get_attribute("aria-level") == "2"
    opened.press(Keys.ARROW_LEFT)
    assert active().get_attribute("id") == root.get_attribute("id")
    opened.press(Keys.END)
    last, walked = active().get_attribute("id"), []
    opened.press(Keys.HOME)
    for _ in range(100):
        walked.append(active().get_attribute("id"))
        assert active().get_attribute("aria-selected") == "true" and active().get_attribute("aria-label")
        opened.press(Keys.ARROW_DOWN)
        if walked[-1] == last:
            break
    assert active().get_attribute("id") == last and len(walked) == len(set(walked)) > 5


def test_what_was_left_behind_unfolds_and_folds(opened: Browser) -> None:
    before = len(opened.all(".card"))
    stub = opened.all(".stub")[0]
    hidden = int(stub.text.split()[1])
    opened.driver.execute_script("arguments[0].click()", stub)
    assert len(opened.all(".card")) >= before + hidden
    opened.press(Keys.TAB)
    opened.id("tree").send_keys(Keys.ENTER)
    assert len(opened.all(".card")) == before


def test_a_text_cannot_break_out(browser: Browser, verified: Events, tmp_path: Path) -> None:
    write_trace_page(tmp_path / "page.html", with_text(verified, HOSTILE))
    browser.open((tmp_path / "page.html").as_uri())
    browser.id("next-rewind").click()
    assert browser.id("question").text == HOSTILE
    assert browser.texts("#rain-text del") == [HOSTILE]
    assert browser.texts("#inspector .judged") == [HOSTILE]
    assert browser.driver.execute_script("return window.broken") is None
    assert browser.all("img") == [] and browser.complaints() == []


FAINT_TEXTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const linear = channels(colour).slice(0, 3).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const opaque = (colour) => colour.startsWith("rgb(");
const background = (at) => {
  while (!opaque(getComputedStyle(at).backgroundColor)) at = at.parentElement;
  return getComputedStyle(at).backgroundColor;
};
const shown = [...document.querySelectorAll("body *")].filter((at) => at.checkVisibility() &&
  [...at.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
const ratios = shown.map((at) => {
  const [a, b] = [getComputedStyle(at).color, background(at)].map(luminance);
  return [at.textContent, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
});
return [ratios.length, ratios.filter(([, ratio]) => ratio < 4.5)];
"""
"""Texts with less contrast than WCAG's level AA asks for, and how many were looked at."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(opened: Browser, verified: Events, scheme: str) -> None:
    opened.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    for position in (positions(verified, "rewind")[0], len(verified)):
        opened.seek(position)
        looked_at, faint = opened.driver.execute_script(FAINT_TEXTS)
        assert looked_at > 30 and faint == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(opened: Browser, width: int, scheme: str) -> None:
    opened.resize(width, 844)
    opened.emulate(prefers_color_scheme=scheme)
    opened.id("next-rewind").click()
    wide = opened.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    background = opened.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    channels = [int(value) for value in background.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (sum(channels) > 3 * 128) == (scheme == "light")


def test_a_broken_file_is_named_and_the_page_goes_on(
    opened: Browser, searched: Events, tmp_path: Path
) -> None:
    lines = [json.dumps(event) for event in searched]
    broken = {
        "cut.jsonl": ("\n".join(lines[:-1]), "no “end”"),
        "half.jsonl": ("\n".join(lines)[:-20], f"Line {len(lines)} is not a trace event"),
        "odd.jsonl": ("hello", "Line 1 is not a trace event"),
        "apart.jsonl": (
            "\n".join([lines[0], '{"event": "commit", "node": 7}', lines[-1]]),
            "Line 2 contradicts the lines before it",
        ),
    }
    for name, (content, said) in broken.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        opened.id("file").send_keys(str(tmp_path / name))
        opened.until(lambda name=name: name in opened.id("alert").text)
        assert said in opened.id("alert").text
    write_trace(tmp_path / "whole.jsonl", searched)
    opened.id("file").send_keys(str(tmp_path / "whole.jsonl"))
    opened.until(lambda: opened.id("question").text == searched[0]["messages"][-1]["content"])
    assert not opened.id("alert").is_displayed() and opened.complaints() == []


def test_a_dropped_file_is_opened(opened: Browser, searched: Events) -> None:
    content = "".join(json.dumps(event) + "\n" for event in searched)
    opened.driver.execute_script(
        """
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([arguments[0]], "search.jsonl"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        """,
        content,
    )
    opened.until(lambda: opened.id("rain-text").text == searched[-1]["text"])
    assert opened.complaints() == []


def walk(events: Events) -> list[Any]:
    """All nodes that the events built."""
    nodes = [replay(events)]
    for node in nodes:
        nodes.extend(node.children)
    return nodes
