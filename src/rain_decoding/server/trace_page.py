"""A trace as one self-contained page: the playground's files and the events in one HTML file."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError
from rain_decoding.web.bundle import SHARED, bundle

PLAYGROUND = Path(__file__).with_name("playground")
"""The page's own files."""

STYLE_LINK = '<link rel="stylesheet" href="/playground/style.css">'
SCRIPT_LINK = '<script type="module" src="/playground/page.js"></script>'


def write_trace_page(path: str | Path, events: Sequence[dict[str, Any]]) -> None:
    """Write the page that shows a trace. Raises `InputError` where the file cannot be written."""
    try:
        Path(path).write_text(trace_page(events), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the page cannot be written: {error}", hint="choose another file") from error


def trace_page(events: Sequence[dict[str, Any]]) -> str:
    """The page as HTML. It loads nothing, and runs no script but its own."""
    style = (SHARED / "style.css").read_text(encoding="utf-8")
    sources = [path for folder in (SHARED, PLAYGROUND) for path in folder.glob("*.js")]
    script = bundle({path.stem: path.read_text(encoding="utf-8") for path in sources}, "page")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    page = (PLAYGROUND / "index.html").read_text(encoding="utf-8")
    head, tail = page.split(STYLE_LINK)
    link_free, body = tail.split(SCRIPT_LINK)
    return (
        f'{head}<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>'
        f'{link_free}<script type="application/json" id="embedded-trace">{_embedded(events)}</script>\n'
        f'<script type="module">{script}</script>{body}'
    )


def _embedded(events: Sequence[dict[str, Any]]) -> str:
    """The events as JSON lines that no text in them can end early."""
    lines = (json.dumps(event, ensure_ascii=False) for event in events)
    return "\n".join(lines).replace("<", "\\u003c")


def _hash(content: str) -> str:
    """The content security policy's name of an inline style or script."""
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
