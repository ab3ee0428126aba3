"""HTTP/1.1 as uvicorn speaks it, with limits on connections and on how long a request's head may take to arrive."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rain_decoding.web.errors import unavailable
from rain_decoding.web.guard import HEAD_BYTES

log = logging.getLogger(__name__)

HEAD_SECONDS = 15.0
MAX_CONNECTIONS = 1000
BACKLOG = 64
"""Connections that asyncio accepts at once, before one of them is counted."""
SPARE = 32
"""Connections beyond the limit that are told so; further ones are cut off."""
REFUSED_SECONDS = 1.0
"""Time for a connection beyond the limit to ask what is not answered."""
LINGER_SECONDS = 2.0
"""For so long what still arrives after the answer is thrown away: else the system resets the connection, and the client
never reads why it was refused."""


class Lingering:
    """A transport that, where more may arrive, ends its own side first when it is closed."""

    def __init__(self, transport: Any, more_may_arrive: Callable[[], bool]):
        self._transport, self._more_may_arrive = transport, more_may_arrive
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing() or not self._more_may_arrive():
            self._transport.close()
            return
        self.lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)


class Server(uvicorn.Server):
    """Closes connections that were being made while it shut down, too: uvicorn would serve them as long as they ask."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.server_state.ending = True  # type: ignore[attr-defined]
        await super().shutdown(sockets)


class Protocol(H11Protocol):
    """Closes connections that do not get to the end of a request's head.

    At the limit a new connection takes the place of the one that has been idle for longest; if none is, it gets a 503.
    """

    transport: Any

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        # uvicorn itself would count requests in progress, too, and let idle connections be.
        self.most_connections, self.limit_concurrency = config.limit_concurrency, None
        self.idle_since = self.loop.time()
        self._refused = False
        self._late: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is being answered, nor one refused."""
        return not self._refused and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Lingering(transport, self._more_may_arrive))  # type: ignore[arg-type]
        if getattr(self.server_state, "ending", False):
            self.transport.close()
            return
        others: list[Any] = [one for one in self.connections if one is not self]
        live = [one for one in others if not one.transport.is_closing()]
        most = self.most_connections
        if most is None or len(live) < most:
            self._expect_head(HEAD_SECONDS)
        elif idle := [one for one in live if one.idle]:
            log.warning("too many connections: an idle one is closed", extra={"limit": most})
            min(idle, key=lambda one: one.idle_since).transport.abort()
            self._expect_head(HEAD_SECONDS)
        else:
            log.warning("too many connections: a new one is refused", extra={"limit": most})
            self._refused = True
            self._expect_head(REFUSED_SECONDS)
            if len(others) >= most + SPARE:
                transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
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

    def _more_may_arrive(self) -> bool:
        """Whether the client may be in the middle of a request."""
        return self._refused or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _refuse(self) -> None:
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
        backlog=BACKLOG,
        limit_concurrency=min(max_connections, _connections_possible()),
        **options,
    )


def _connections_possible() -> int:
    """Connections that leave open files for the model and its server; beyond, none could be accepted and closed."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS * 1000 if files == resource.RLIM_INFINITY else max(1, files // 2)
