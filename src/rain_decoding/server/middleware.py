"""What every request passes: an id, a log line, a span and a count."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rain_decoding.server.metrics import Metrics
from rain_decoding.server.protocols.errors import error_response
from rain_decoding.server.telemetry import OTHER, Tracing
from rain_decoding.web.errors import translated

log = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids of clients that are taken over into answers and logs."""

QUIET = ("/healthz", "/readyz", "/metrics")
"""Routes that machines ask every few seconds: counted, not logged."""


def route_of(scope: Scope) -> str:
    """The path of the route that took the request, as it was declared, wherever the application is mounted.

    What is none is `OTHER`: a client must not make new labels and names.
    """
    return getattr(scope.get("route"), "path", OTHER)


class RequestRecord:
    """Outermost: gives the request its id and state, and records how it went."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing):
        self.app, self.metrics, self.tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if SANE_ID.fullmatch(asked) else uuid.uuid4().hex
        facts: dict[str, Any] = {"request_id": request_id, "status": 0}
        started = time.perf_counter()
        state = {"request_id": request_id, "started": started, "facts": facts, "key": ""}
        scope.setdefault("state", {}).update(state)

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if left_out := scope["state"].get("left_out"):
                    headers["x-rain-left-out"] = ", ".join(left_out)
            await send(message)

        with self.tracing.span(scope, facts):
            try:
                await self.app(scope, receive, recorded)
            except Exception as error:
                log.exception("request failed", extra={"request_id": request_id})
                if not facts["status"]:
                    await error_response(scope, translated(error))(scope, receive, recorded)
            finally:
                facts["route"] = route_of(scope)
                self._record(scope, facts, time.perf_counter() - started)

    def _record(self, scope: Scope, facts: dict[str, Any], seconds: float) -> None:
        route = facts["route"]
        self.metrics.requests.labels(route, str(facts["status"])).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        if route in QUIET:
            return
        log.info(
            "request",
            extra={"method": scope["method"], "path": scope["path"], "seconds": round(seconds, 4), **facts},
        )
