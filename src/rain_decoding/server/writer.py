"""How an API writes its answers: whole ones, and server-sent events."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from rain_decoding.server.answer import Answer
from rain_decoding.web.errors import ApiError


def event(data: dict[str, Any], name: str = "") -> bytes:
    """A server-sent event in ASCII: some clients take more than CR and LF for the end of a line."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class Writer(ABC):
    """Writes the response to one request; what it gives of a stream is sent at once.

    A stream is `begin`, then `release` and in the end `end` for each answer, then `finish`; or `failed` at any place.
    """

    def __init__(self, answer: Answer):
        self.answer = answer

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """The response of a request that is not streamed."""

    @abstractmethod
    def begin(self) -> Iterable[bytes]:
        """What comes before all text."""

    @abstractmethod
    def release(self, index: int, text: str, events: list[dict[str, Any]]) -> Iterator[bytes]:
        """Text that was judged, or only events of the trace."""

    @abstractmethod
    def end(self, index: int) -> Iterator[bytes]:
        """An answer is complete."""

    @abstractmethod
    def finish(self) -> Iterator[bytes]:
        """All are."""

    @abstractmethod
    def failed(self, error: ApiError) -> Iterator[bytes]:
        """There will be no more."""

    def silence(self) -> bytes:
        """What keeps the connection alive while the search is silent."""
        return b": searching\n\n"
