"""An answer as a picture: what was said, how it was judged, and what the search turned back from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape

from rain_decoding.answer_html import SHOWN, Said, found
from rain_decoding.errors import InputError

WIDTH, MARGIN, LINE = 860, 20, 24
"""In pixels: of the picture, around the text, and from line to line."""
LETTERS = 88
"""In a line, about."""
STYLE = """
text { font: 15px system-ui, sans-serif; white-space: pre }
.page { fill: #fff; stroke: #d0d7de } .asked { fill: #1f2328; font-weight: 600 }
.kept { fill: #1a7f37 } .left { fill: #b3261e; text-decoration: line-through } .mark { fill: #b3261e }
.score { font: 13px ui-monospace, monospace }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; stroke: #30363d } .asked { fill: #e6edf3 } .kept { fill: #3fb950 } .left, .mark { fill: #ff7b72 }
}
"""


def write_answer_picture(path: str | Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Write the SVG of a trace. Raises `InputError` where the file cannot be written."""
    try:
        Path(path).write_text(answer_picture(events), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the picture cannot be written: {error}", hint="choose another file") from error


def answer_picture(events: Sequence[Mapping[str, Any]]) -> str:
    """The picture of a complete trace as SVG. It loads nothing."""
    asked = wrap(str(events[0]["messages"][-1]["content"]), LETTERS)
    lines = [*((MARGIN, "asked", line) for line in asked), *_lines(events)]
    height = 2 * MARGIN + LINE * len({number for number, _ in _numbered(lines)})
    rows = "".join(
        f'<text class="{kind}" x="{x}" y="{MARGIN + LINE * number + LINE // 2}">{escape(text)}</text>\n'
        for number, (x, kind, text) in _numbered(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' role="img">\n<title>An answer and what was turned back from</title>\n<style>{STYLE}</style>\n'
        f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n{rows}</svg>\n'
    )


Piece = tuple[int, str, str]
"""Where a text begins in its line, in pixels, how it looks, and the text; the first of a line begins at `MARGIN`."""


def _numbered(pieces: Sequence[Piece]) -> Iterator[tuple[int, Piece]]:
    number = -1
    for piece in pieces:
        number += piece[0] == MARGIN
        yield number, piece


def _lines(events: Sequence[Mapping[str, Any]]) -> Iterator[Piece]:
    """What was said, each in lines of its own: what was left before what took its place."""
    for said, left in found(events):
        yield from _line(said, "kept", "✓")
        for one in left[:SHOWN]:
            yield from _line(one, "left", "↩")
        if more := left[SHOWN:]:
            yield MARGIN, "mark score", f"       ↩ and {len(more)} more"


def _line(said: Said, kind: str, mark: str) -> Iterator[Piece]:
    score = "     " if said.score is None else f"{said.score:+.2f}"
    colour = "kept" if kind == "kept" else "mark"
    for number, line in enumerate(wrap(said.text.strip(), LETTERS)):
        yield MARGIN, f"{colour} score", "" if number else f"{score}  {mark}"
        yield MARGIN + 85, kind, line
