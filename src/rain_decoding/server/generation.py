"""The endpoints that generate: whole answers, or a stream of what is released."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from rain_decoding.server.answer import Answer
from rain_decoding.server.models import Models
from rain_decoding.server.schemas import ChatBody, CompletionBody
from rain_decoding.server.worker import Released
from rain_decoding.server.writer import Writer
from rain_decoding.web.bodies import CLIENT_GONE
from rain_decoding.web.errors import ApiError, json_response, translated

log = logging.getLogger(__name__)

T = TypeVar("T")


async def generate(
    models: Models,
    request: Request,
    body: ChatBody | CompletionBody,
    written: Callable[[Answer], Writer],
    prefix: str,
) -> Response:
    """Answer a request. `prefix` is what the response's id begins with. Raises `ApiError`."""
    service = await unless_gone(request, models.serving(body.model))
    exchange = await unless_gone(request, service.read(request, body))
    answer = Answer(service, request, body, prefix, exchange)
    try:
        await unless_gone(request, exchange.opened())
        if body.stream:
            return StreamedAnswer(answer, written(answer))
        await unless_gone(request, answer.collect())
    except BaseException:
        exchange.close()
        raise
    answer.note_usage()
    return json_response(written(answer).whole())


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to; where the client leaves first, stop and raise `ApiError`."""
    running, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ApiError(CLIENT_GONE, "the client left")
        return running.result()
    finally:
        for task in (running, gone):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class StreamedAnswer(StreamingResponse):
    """An answer as it is released. Once it is over, however that came about, nothing of it is searched any more."""

    def __init__(self, answer: Answer, writer: Writer):
        self.answer, self.writer = answer, writer
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(self._events(), headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answer.exchange.close()

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            async for written in self._written():
                yield written
        except Exception as error:
            if not isinstance(error, ApiError):  # what fails in the worker is in the log already
                log.exception("stream failed", extra={"request_id": self.answer.request.state.request_id})
            told = translated(error)
            self.answer.request.state.facts |= {"error": told.message, "status": told.status}
            for written in self.writer.failed(told):
                yield written
        finally:
            self.answer.exchange.close()

    async def _written(self) -> AsyncIterator[bytes]:
        answer, writer = self.answer, self.writer
        for written in writer.begin():
            yield written
        async for news in answer.exchange.news(answer.service.config.keep_alive_seconds):
            if news is None:
                yield writer.silence()
                continue
            index, what = news
            if isinstance(what, Released):
                answer.note_release(what)
                events = answer.events(what.events)
                pieces = writer.release(index, what.text, events) if what.text or events else []
            else:
                answer.end(index, what.completion)
                pieces = writer.end(index)
            for written in pieces:
                yield written
        answer.note_usage()
        for written in writer.finish():
            yield written
