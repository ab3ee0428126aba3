"""An answer as HTML, with what the search turned back from struck through: how notebooks show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

SHOWN = 6
"""Texts left at one place that are shown; the paper's search leaves dozens."""


def answer_html(text: str, trace: Sequence[Mapping[str, Any]], withheld: str, notes: Iterable[str]) -> str:
    """A fragment of HTML, everything in it escaped.

    Args:
        text: The answer.
        trace: Events of its search, as `decoding.trace` describes them; may be empty.
        withheld: What the answer stands in place of.
        notes: What is said below it.
    """
    body = _struck(withheld) + escape(text) if withheld else "".join(_as_found(text, trace))
    return (
        f'<div style="white-space: pre-wrap">{body}</div>'
        f'<div style="opacity: .65; font-size: 85%">{escape(" · ".join(notes))}</div>'
    )


class Said(NamedTuple):
    """A text that the search came to, and how the judge called the answer up to its end; None: not judged."""

    text: str
    score: float | None = None


def found(trace: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Said, list[Said]]]:
    """The committed texts in order, first the prompt's, which is empty; each with those that were left behind it."""
    parents: dict[int, int] = {}
    texts: dict[int, str] = {0: ""}
    scores: dict[int, float | None] = {}
    path, turned_back = [0], []
    for event in trace:
        match event["event"]:
            case "expand" | "widen":
                for child in event.get("children") or [event["child"]]:
                    parents[child["id"]] = event["node"]
                    texts[child["id"]] = child.get("text", "")
            case "judge":
                scores[event["node"]] = event["score"]
            case "rewind":
                turned_back.append(event["node"])
            case "commit":
                path.append(event["node"])
    left = defaultdict(list)
    for node in dict.fromkeys(turned_back):
        place, text = node, ""
        while place not in path:
            place, text = parents[place], texts[place] + text
        if text:
            left[place].append(Said(text, scores.get(node)))
    for node in path:
        yield Said(texts[node], scores.get(node)), left[node]


def _as_found(text: str, trace: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The answer in the pieces that were committed, behind each what was left there."""
    pieces = list(found(trace))
    start = "".join(said.text for said, _ in pieces).find(text)
    if start < 0:
        yield escape(text)
        return
    place = -start
    for said, left in pieces:
        yield escape(text[max(place, 0) : max(place + len(said.text), 0)])
        yield from (_struck(*one) for one in left[:SHOWN])
        if more := left[SHOWN:]:
            yield f"<i> (and {len(more)} more)</i>"
        place += len(said.text)


def _struck(text: str, score: float | None = None) -> str:
    title = "" if score is None else f' title="judged {score:+.2f}"'
    return f'<del style="color: #b3261e"{title}>{escape(text)}</del>'
