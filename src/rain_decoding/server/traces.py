"""Recent traces, for whoever asked for them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

MOST = 256
"""Traces kept."""
LARGEST = 64 * 2**20
"""Characters that all of them may hold together."""


class TraceStore:
    """Traces as JSON lines; the oldest go first. Each belongs to the key that asked for it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._size = 0

    def put(self, trace_id: str, key: str, events: Iterable[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
        self._kept[trace_id] = key, lines
        self._size += len(lines)
        while len(self._kept) > MOST or self._size > LARGEST:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._size -= len(oldest)

    def get(self, trace_id: str, key: str) -> str | None:
        """The JSON lines; None where there are none for this key."""
        owner, lines = self._kept.get(trace_id, ("", ""))
        return lines if lines and owner == key else None
