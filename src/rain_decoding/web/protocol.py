"""HTTP/1.1 as uvicorn speaks it, with limits on connections and on how long a request's head may take to arrive."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rain_decoding.web.errors import unavailable
from rain_decoding.web.guard import HEAD_BYTES

log = logging.getLogger(__name__)

HEAD_SECONDS = 15.0
MAX_CONNECTIONS = 1000
REFUSED = 32
"""Connections beyond the limit that are told so when they ask, and not at once."""
REFUSED_SECONDS = 1.0


class Protocol(H11Protocol):
    """Closes connections that do not get to the end of a request's head.

    At the limit a new connection takes the place of the one that has been idle for longest; if none is, it gets a 503.
    """

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        # uvicorn itself would count requests in progress, too, and let idle connections be.
        self.most_connections, self.limit_concurrency = config.limit_concurrency, None
        self.idle_since = self.loop.time()
        self._refused = False
        self._late: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        others: list[Any] = [
            one for one in self.connections if one is not self and not one.transport.is_closing()
        ]
        if self.most_connections is None or len(others) < self.most_connections:
            self._expect_head(HEAD_SECONDS)
        elif idle := [one for one in others if one.idle and not one._refused]:
            log.warning("too many connections: an idle one is closed", extra={"limit": self.most_connections})
            min(idle, key=lambda one: one.idle_since).transport.abort()
            self._expect_head(HEAD_SECONDS)
        else:
            log.warning("too many connections: a new one is refused", extra={"limit": self.most_connections})
            self._refused = True
            self._expect_head(REFUSED_SECONDS)
            if len(others) >= self.most_connections + REFUSED:
                self._refuse()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._refuse()
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head(HEAD_SECONDS)
        else:
            self._forget_timer()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_timer()
        super().connection_lost(exc)

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        response = unavailable("the server has too many connections", "too_many_connections").response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        lines = [b"HTTP/1.1 503 Service Unavailable", *(name + b": " + value for name, value in headers)]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()

    def _expect_head(self, seconds: float) -> None:
        if self._late is None:
            self._late = self.loop.call_later(seconds, self.transport.close)

    def _forget_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def uvicorn_config(app: Any, *, max_connections: int = MAX_CONNECTIONS, **options: Any) -> uvicorn.Config:
    """How our servers are run: with the limits that the documentation names, and logs of their own."""
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        limit_concurrency=min(max_connections, _connections_possible()),
        **options,
    )


def _connections_possible() -> int:
    """Connections that leave open files for the model and its server; beyond, none could be accepted and closed."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS * 1000 if files == resource.RLIM_INFINITY else max(1, files * 3 // 4)
