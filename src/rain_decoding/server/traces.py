"""Recent traces, for whoever asked for them."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rain_decoding.decoding.trace import write_trace
from rain_decoding.errors import InputError

log = logging.getLogger(__name__)

MOST = 256
"""Traces kept."""
LARGEST = 64 * 2**20
"""Characters that all of them may hold together."""


OF_THE_ANSWER = ("start", "end")
"""Events that say nothing of the search but `withheld`."""


def keep_trace(folder: Path, name: str, events: Iterable[dict[str, Any]]) -> None:
    """Write a whole trace for the operator; answers go on where the disk does not."""
    try:
        write_trace(folder / f"{name}.jsonl", events)
    except InputError:
        log.exception("a trace could not be kept")


def for_client(event: Mapping[str, Any], *, withheld: bool) -> dict[str, Any]:
    """An event without what is the operator's: files, and what a model's server said when it failed.

    Without `withheld` also without the texts that were not released: neither what was tried and left, nor what was
    replaced.
    """
    shown = dict(event)
    if "config" in shown:
        shown["config"] = {**shown["config"], "calibration": ""}
    if shown.get("problem"):
        shown["problem"] = "not judged; the server's log may say why"
    if withheld:
        return shown
    if event["event"] in OF_THE_ANSWER:
        return {name: "" if name == "withheld" else value for name, value in shown.items()}
    return {**_figures(shown), **{name: shown[name] for name in ("event", "to", "problem") if name in shown}}


def _figures(value: Any) -> Any:
    """What is left of a value without tokens, and with nothing in the place of texts."""
    if isinstance(value, Mapping):
        return {name: _figures(inner) for name, inner in value.items() if name != "tokens"}
    if isinstance(value, (list, tuple)):
        return [_figures(inner) for inner in value]
    return "" if isinstance(value, str) else value


class TraceStore:
    """Traces as JSON lines; the oldest go first. Each belongs to the key that asked for it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._size = 0

    def put(self, trace_id: str, key: str, events: Iterable[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(event) + "\n" for event in events)
        self._kept[trace_id] = key, lines
        self._size += len(lines)
        while len(self._kept) > MOST or self._size > LARGEST:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._size -= len(oldest)

    def get(self, trace_id: str, key: str) -> str | None:
        """The JSON lines; None where there are none for this key."""
        owner, lines = self._kept.get(trace_id, ("", ""))
        return lines if lines and owner == key else None
