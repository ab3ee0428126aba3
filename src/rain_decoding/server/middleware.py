"""What every request passes: an id, a log line, a span and a count; the key; the limits of its body."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rain_decoding.server.metrics import Metrics
from rain_decoding.server.telemetry import Tracing
from rain_decoding.web.errors import ApiError, translated

log = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""Ids of clients that are taken over into answers and logs."""

QUIET = ("/healthz", "/readyz", "/metrics")
"""Paths that machines ask every few seconds: counted, not logged."""


class RequestRecord:
    """Outermost: gives the request its id and state, and records how it went."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing, paths: frozenset[str]):
        self.app, self.metrics, self.tracing, self.paths = app, metrics, tracing, paths

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
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with self.tracing.span(scope, facts):
            try:
                await self.app(scope, receive, recorded)
            except Exception as error:
                log.exception("request failed", extra={"request_id": request_id})
                if not facts["status"]:
                    await translated(error).response()(scope, receive, recorded)
            finally:
                self._record(scope, facts, time.perf_counter() - started)

    def _record(self, scope: Scope, facts: dict[str, Any], seconds: float) -> None:
        # Other paths are one label: a client must not make new ones.
        endpoint = scope["path"] if scope["path"] in self.paths else "other"
        self.metrics.requests.labels(endpoint, str(facts["status"])).inc()
        self.metrics.request_seconds.labels(endpoint).observe(seconds)
        if scope["path"] in QUIET:
            return
        log.info(
            "request",
            extra={"method": scope["method"], "path": scope["path"], "seconds": round(seconds, 4), **facts},
        )


class Keys:
    """Lets requests below `/v1` pass that bear one of the keys."""

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]):
        self.app = app
        self.digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.digests and scope["path"].startswith("/v1"):
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            digest = hashlib.sha256(key.strip().encode("latin-1")).digest()  # as headers are decoded
            # All are compared, so that the time tells nothing.
            known = [hmac.compare_digest(digest, other) for other in self.digests]
            if scheme.lower() != "bearer" or not any(known):
                error = ApiError(401, "no valid API key was sent", code="invalid_api_key")
                await error.response()(scope, receive, send)
                return
            scope["state"]["key"] = digest.hex()
        await self.app(scope, receive, send)


class BodyLimit:
    """Reads the whole body before anything is done with it: it may be so large, and take so long."""

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float):
        self.app, self.most_bytes, self.seconds = app, most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.seconds)
        except TimeoutError:
            await self._refuse(ApiError(408, "the body took too long to arrive", code="timeout"), scope, send)
            return
        except ApiError as error:
            await self._refuse(error, scope, send)
            return
        if body is None:  # the client left
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return messages.pop() if messages else await receive()

        await self.app(scope, replayed, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > self.most_bytes:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self.most_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self.most_bytes} bytes", code="body_too_large")

    async def _refuse(self, error: ApiError, scope: Scope, send: Send) -> None:
        """Answer, and close the connection: the rest of the body is not wanted."""
        response = error.response()
        response.headers["connection"] = "close"
        await response(scope, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
