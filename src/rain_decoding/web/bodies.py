"""Bodies of requests: how large they may be, how long they may take, and what is read from them."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rain_decoding.web.errors import ApiError

CLIENT_GONE = 499
"""Status in logs and metrics of a request whose client left before its answer."""


WRONG = (400, 403, 404, 413)
"""Statuses of bodies that are refused for what they are."""
SMALL = 16 * 1024
"""Bytes of a body that may be refused as often as one likes."""
REFUSED_RATE = 2 * 2**20
"""Bytes that a client may have refused in a second. To find out that a body is wrong takes some 15 ms for a MiB, in
which nobody's text goes on."""
MOST_PACED = 10.0
"""Seconds that a client waits at most before its next body is read."""


class Pace:
    """Whoever sent large bodies that were refused has to wait before the next large one is read."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def charge(self, client: str, size: int) -> None:
        """So much of this client's was refused."""
        now = asyncio.get_running_loop().time()
        self._free_at = {name: free for name, free in self._free_at.items() if free > now}
        if size > SMALL:
            self._free_at[client] = self._free_at.get(client, now) + size / REFUSED_RATE

    async def wait(self, client: str) -> None:
        """Until the client has paid for what was refused."""
        left = self._free_at.get(client, 0.0) - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(min(left, MOST_PACED))


class BodyLimit:
    """Whoever reads a body gets so many bytes of it, in so many seconds, else an `ApiError`: 413 or 408."""

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float):
        self.app, self.most_bytes, self.seconds = app, most_bytes, seconds
        self.pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Received()

        async def charging(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in WRONG:
                self.pace.charge(client_of(scope), body.size)
            await send(message)

        await self.app(scope, self._limited(scope, receive, body), charging)

    def _limited(self, scope: Scope, receive: Receive, body: _Received) -> Receive:
        declared = Headers(scope=scope).get("content-length", "")
        size = int(declared[:20]) if declared.isdigit() else 0
        complete, end = False, 0.0

        async def limited() -> Message:
            nonlocal complete, end
            if complete:
                return await receive()
            self._check(size)
            if not end:
                if size > SMALL or not declared:
                    await self.pace.wait(client_of(scope))
                end = asyncio.get_running_loop().time() + self.seconds
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, "the body took too long to arrive", code="timeout") from None
            body.size += len(message.get("body", b""))
            self._check(body.size)
            complete = not message.get("more_body")
            return message

        return limited

    def _check(self, size: int) -> None:
        if size > self.most_bytes:
            raise ApiError(413, f"the body is larger than {self.most_bytes} bytes", code="body_too_large")


@dataclass
class _Received:
    """What has come of a body."""

    size: int = 0


def client_of(scope: Scope) -> str:
    """Tells clients apart: by the key of a request, else by its address."""
    key: str = scope.get("state", {}).get("key", "")
    return key or (scope["client"][0] if scope.get("client") else "")


def json_body(
    model: type[BaseModel], prepared: Callable[[Request, dict[str, Any]], dict[str, Any]] | None = None
) -> Any:
    """A dependency that reads a body as this model; what it is made of may be `prepared` before.

    More than 200 levels of nesting are no valid JSON here. Nothing is read before an application's own dependencies
    were asked, such as for a key. Raises `ApiError`, and `RequestValidationError` for an object that does not fit.
    """

    async def read(request: Request) -> BaseModel:
        sent = request.headers.get("content-type", "")
        if not is_json(sent):
            raise ApiError(
                415, f"the body must be a JSON object, with the content type application/json, not {sent!r}"
            )
        try:
            content = from_json((await request.body()).removeprefix(BOM_UTF8))
        except ClientDisconnect:
            raise ApiError(CLIENT_GONE, "the client left") from None
        except ValueError as error:
            raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from error
        if not isinstance(content, dict):
            raise ApiError(400, "the body must be a JSON object")
        try:
            return model.model_validate(prepared(request, content) if prepared else content)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from error

    return Depends(read)


def is_json(content_type: str) -> bool:
    """Whether a Content-Type header says JSON, which no form of another site's page can send unasked."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
