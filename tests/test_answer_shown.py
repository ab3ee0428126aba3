"""How an answer looks in a notebook, in a picture and in a console."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cli.command import Rain, runner

from rain_decoding import Completion, RainDecoder, SearchConfig, Usage
from rain_decoding.answer_html import SHOWN, answer_html
from rain_decoding.answer_picture import LETTERS, answer_picture
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.trace import TracedNode, replay, write_trace

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


def test_the_picture_shows_what_was_said_and_what_was_left(demo: LocalBackend) -> None:
    completion = RainDecoder(demo).generate(PROMPT, trace=True, seed=0)
    picture = ElementTree.fromstring(answer_picture(completion.trace))
    texts = [(str(one.get("class")), one.text or "") for one in picture.iter() if one.tag.endswith("}text")]
    assert " ".join(text for kind, text in texts if kind == "kept") == completion.text
    assert len([kind for kind, _ in texts if kind == "left"]) == completion.usage.rewinds
    assert texts[0] == ("asked", PROMPT)


def test_what_a_picture_shows_is_escaped_and_fits() -> None:
    question = f"{HOSTILE} " * 20
    events = [
        {"event": "start", "messages": [{"role": "user", "content": question}]},
        {"event": "expand", "node": 0, "children": [{"id": 1, "text": question}]},
        {"event": "judge", "node": 1, "score": None},
        {"event": "commit", "node": 1},
    ]
    picture = ElementTree.fromstring(answer_picture(events))
    lines = [one for one in picture.iter() if one.tag.endswith("}text")]
    assert max(len(line.text or "") for line in lines) <= LETTERS
    assert max(float(line.get("y", 0)) for line in lines) < float(picture.get("height", 0))
    said = " ".join(line.text or "" for line in lines if line.get("class") == "asked")
    assert said == question.strip()


def test_the_command_draws_it(demo: LocalBackend, tmp_path: Path, rain: Rain) -> None:
    write_trace(tmp_path / "trace.jsonl", RainDecoder(demo).generate(PROMPT, trace=True, seed=0).trace)
    assert rain("trace", tmp_path / "trace.jsonl", "--svg", tmp_path / "drawn.svg").code == 0
    shown = (Path(__file__).parents[1] / "docs" / "rewind.svg").read_text(encoding="utf-8")
    drawn = (tmp_path / "drawn.svg").read_text(encoding="utf-8")
    assert drawn == shown, "the picture of the README is what its command draws"
    refused = rain("trace", tmp_path / "trace.jsonl", "--svg", tmp_path / "trace.jsonl")
    assert refused.code != 0 and "is the trace file itself" in refused.err


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)
