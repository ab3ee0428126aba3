"""`rain trace --html`: one file that needs nothing else, and that no text can break out of."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from cli.command import Rain

from rain_decoding import InputError
from rain_decoding.decoding.trace import read_trace, write_trace
from rain_decoding.server.trace_page import PLAYGROUND, trace_page, write_trace_page
from rain_decoding.web.page import SHARED

HOSTILE = (
    "</script><script>window.broken = 1</script><!-- <script> --><img src=x onerror='window.broken = 1'>"
)


def with_text(events: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The events with a text in every place that a model or a reader writes."""
    changed = json.loads(json.dumps(events))
    changed[0]["messages"][-1]["content"] = changed[-1]["text"] = text
    for event in changed:
        for part in (event, *event.get("children", ())):
            part.update({key: text for key in ("text", "judged") if key in part})
    return changed


class Elements(HTMLParser):
    """The elements of a page with their attributes and contents, as a browser would part them."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("", {}, []))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def contents(self, wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(data)) for tag, attributes, data in self.found if tag == wanted]


def test_the_page_asks_for_nothing(verified: list[dict[str, Any]]) -> None:
    addresses = [
        value
        for _, attributes, _ in Elements(trace_page(verified)).found
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster")
    ]
    assert addresses == ["data:,"], "the empty icon"


def test_all_modules_are_in_the_page(verified: list[dict[str, Any]]) -> None:
    page = trace_page(verified)
    for module in (*PLAYGROUND.glob("*.js"), *SHARED.glob("*.js")):
        assert module.read_text(encoding="utf-8").split("\n", 1)[0] in page, (
            f"{module.name} is never imported"
        )


@pytest.mark.parametrize("text", ["A plain text.", HOSTILE, "\u2028 é 漢 🙂 \\u003c &lt; \x85"])
def test_the_events_come_back_whatever_they_hold(verified: list[dict[str, Any]], text: str) -> None:
    events = with_text(verified, text)
    scripts = Elements(trace_page(events)).contents("script")
    assert [attributes.get("type") for attributes, _ in scripts] == ["application/json", "module"]
    assert [json.loads(line) for line in scripts[0][1].split("\n")] == events


def test_the_policy_allows_the_page_s_own_script_and_style_only(verified: list[dict[str, Any]]) -> None:
    elements = Elements(trace_page(with_text(verified, HOSTILE)))
    (policy,) = [a["content"] for a, _ in elements.contents("meta") if "http-equiv" in a]
    assert policy is not None and "unsafe" not in policy and "default-src 'none'" in policy
    allowed = re.findall("'sha256-(.+?)'", policy)
    inline = [elements.contents("style")[0][1], elements.contents("script")[1][1]]
    assert allowed == [b64encode(sha256(text.encode()).digest()).decode() for text in inline]


def test_an_unwritable_page_is_an_input_error(verified: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_trace_page(tmp_path / "missing" / "page.html", verified)


def test_the_command_writes_the_page(rain: Rain, searched: list[dict[str, Any]], tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", searched)
    result = rain("trace", tmp_path / "trace", "--html", tmp_path / "page.html")
    assert (result.code, result.out) == (0, "")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == trace_page(read_trace(tmp_path / "trace"))


def test_the_command_writes_no_page_of_what_does_not_fit_together(
    rain: Rain, searched: list[dict[str, Any]], tmp_path: Path
) -> None:
    write_trace(tmp_path / "trace", [searched[0], {"event": "rewind", "node": 99, "root": 0}, searched[-1]])
    result = rain("trace", tmp_path / "trace", "--html", tmp_path / "page.html")
    assert result.code == 2 and "the trace is inconsistent" in result.err
    assert not (tmp_path / "page.html").exists()
