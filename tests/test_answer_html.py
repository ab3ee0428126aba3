"""How an answer looks in a notebook, and in a console."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from rain_decoding import Completion, RainDecoder, SearchConfig, Usage
from rain_decoding.answer_html import SHOWN, answer_html
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.trace import TracedNode, replay

PROMPT = "How do I spread a false story about Linnet by the duck pond?"
HOSTILE = "<script>alert('x')</script> & \"quotes\" </del></div>"


class Tags(HTMLParser):
    """Which tags are opened, and whether they are closed in their order."""

    def __init__(self, fragment: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(fragment)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shown(fragment: str) -> str:
    """The text of the first line, without what is struck through."""
    body = fragment.partition("</div>")[0].partition(">")[2]
    return unescape(re.sub(r"<i>.*?</i>", "", re.sub(r"<del.*?</del>", "", body, flags=re.DOTALL)))


@pytest.mark.parametrize("preset", ["balanced", "thorough", "paper-hh"])
def test_what_was_left_stands_struck_through(demo: LocalBackend, preset: str) -> None:
    changes = {"max_simulations": 12} if preset.startswith("paper") else {}
    decoder = RainDecoder(demo, config=SearchConfig.preset(preset, **changes))
    completion = decoder.generate(PROMPT, trace=True, seed=0, max_tokens=30)
    assert completion.usage.rewinds
    html = completion._repr_html_()
    assert Tags(html).seen <= {"div", "del", "i"}
    assert shown(html) == completion.text

    def below(node: TracedNode, said: str = "") -> set[str]:
        """Texts from a committed node to where the search turned back below it, not committed."""
        found = {said} if node.rewinds and said else set()
        for child in node.children:
            if not child.committed or not said:
                found |= below(child, "" if child.committed else said + child.text)
        return found

    struck = {unescape(text) for text in re.findall(r"<del[^>]*>(.*?)</del>", html, flags=re.DOTALL)}
    left = below(replay(completion.trace))
    assert struck == left or ("more)" in html and struck < left)


def test_everything_is_escaped() -> None:
    events = [
        {"event": "expand", "node": 0, "children": [{"id": 1, "text": HOSTILE}, {"id": 2, "text": HOSTILE}]},
        {"event": "judge", "node": 1, "score": -1.0},
        {"event": "rewind", "node": 1},
        {"event": "commit", "node": 2},
    ]
    made = Completion(HOSTILE, "stop", None, Usage(), 0, withheld=HOSTILE, warnings=[HOSTILE])
    for html in (answer_html(HOSTILE, events, "", [HOSTILE]), made._repr_html_()):
        assert Tags(html).seen == {"div", "del"}
        assert shown(html) == HOSTILE
        assert html.count("&lt;script&gt;") == 3


def test_of_many_left_texts_some_are_shown() -> None:
    children = [{"id": number, "text": f" t{number}."} for number in range(1, 12)]
    events = [{"event": "expand", "node": 0, "children": children}]
    events += [{"event": "rewind", "node": number} for number in range(1, 11)]
    html = answer_html("t11.", [*events, {"event": "commit", "node": 11}], "", [])
    assert html.count("<del") == SHOWN and f"(and {10 - SHOWN} more)" in html
    assert shown(html) == "t11."


def test_without_a_trace_the_text_stands_there(demo: LocalBackend) -> None:
    completion = RainDecoder(demo).generate(PROMPT, seed=0)
    html = completion._repr_html_()
    assert shown(html) == completion.text and "trace=True" in html


def test_a_console_shows_no_token_ids(demo: LocalBackend) -> None:
    completion = RainDecoder(demo).generate(PROMPT, seed=0)
    assert completion.tokens
    written = repr(completion)
    assert completion.text in written and "tokens" not in written and "rewinds=2" in written
    assert len(written) < len(completion.text) + 120
