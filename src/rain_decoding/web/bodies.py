"""Bodies of requests: how large they may be, how long they may take, and what is read from them."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
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


class BodyLimit:
    """Whoever reads a body gets so many bytes of it, in so many seconds, else an `ApiError`: 413 or 408."""

    def __init__(self, app: ASGIApp, most_bytes: int, seconds: float):
        self.app, self.most_bytes, self.seconds = app, most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limited = self._limited(scope, receive) if scope["type"] == "http" else receive
        await self.app(scope, limited, send)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        declared = Headers(scope=scope).get("content-length", "")
        size = int(declared[:20]) if declared.isdigit() else 0
        read, complete, end = 0, False, 0.0

        async def limited() -> Message:
            nonlocal read, complete, end
            if complete:
                return await receive()
            end = end or asyncio.get_running_loop().time() + self.seconds
            self._check(size)
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, "the body took too long to arrive", code="timeout") from None
            read += len(message.get("body", b""))
            self._check(read)
            complete = not message.get("more_body")
            return message

        return limited

    def _check(self, size: int) -> None:
        if size > self.most_bytes:
            raise ApiError(413, f"the body is larger than {self.most_bytes} bytes", code="body_too_large")


def json_body(model: type[BaseModel]) -> Any:
    """A dependency that reads a body as this model.

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
            return model.model_validate(content)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from error

    return Depends(read)


def is_json(content_type: str) -> bool:
    """Whether a Content-Type header says JSON, which no form of another site's page can send unasked."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
