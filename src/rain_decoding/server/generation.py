"""The two endpoints that generate: whole answers, or a chunk per release."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from rain_decoding.server.exchange import Exchange
from rain_decoding.server.responses import Shape, rain_object, together, usage_object
from rain_decoding.server.schemas import ChatBody, CompletionBody
from rain_decoding.server.service import Service
from rain_decoding.server.traces import for_client
from rain_decoding.server.worker import Progress
from rain_decoding.types import Completion
from rain_decoding.web.bodies import CLIENT_GONE
from rain_decoding.web.errors import ApiError, json_response, translated

T = TypeVar("T")


async def generate(
    service: Service, request: Request, body: ChatBody | CompletionBody, shape: Shape
) -> Response:
    """Answer a request. Raises `ApiError`."""
    exchange = await _unless_gone(request, service.read(request, body))
    answer = Answer(service, request, body, shape, exchange)
    try:
        await _unless_gone(request, exchange.opened())
        if body.stream:
            return StreamedAnswer(answer)
        await _unless_gone(request, answer.collect())
    except BaseException:
        exchange.close()
        raise
    return json_response(answer.whole())


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
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


@dataclass
class Answer:
    """What has come of a request so far."""

    service: Service
    request: Request
    body: ChatBody | CompletionBody
    shape: Shape
    exchange: Exchange
    completions: dict[int, Completion] = field(default_factory=dict)
    rain: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.id = self.shape.prefix + uuid.uuid4().hex
        self.started = False
        """Whether text was released."""

    async def collect(self) -> None:
        """Wait for all answers."""
        async for news in self.exchange.news():
            assert news is not None
            index, what = news
            if isinstance(what, Progress):
                self.note_release(what)
            else:
                self.end(index, what.completion)

    def note_release(self, progress: Progress) -> None:
        if progress.text and not self.started:
            self.started = True
            seconds = time.perf_counter() - self.request.state.started
            self.service.metrics.first_release.observe(seconds)
            self.request.state.facts["first_release"] = round(seconds, 4)

    def end(self, index: int, completion: Completion) -> None:
        """An answer is complete; its trace is kept for its key."""
        trace_id = None
        if self.body.rain.trace:
            trace_id = self.id if len(self.exchange.requests) == 1 else f"{self.id}-{index}"
            self.service.traces.put(trace_id, self.request.state.key, self._events(completion.trace))
        preset = self.body.rain.preset or self.service.parser.decoders.preset
        if completion.withheld and completion.fallback != "alternative" and not self._may_see_withheld:
            completion = replace(completion, reasoning="")
        self.completions[index] = completion
        self.rain[index] = rain_object(self.exchange.session(index), completion, preset, trace_id)

    @property
    def _may_see_withheld(self) -> bool:
        return "withheld" in self.service.config.client_may

    def _events(self, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Events of the trace as far as the client may see them."""
        return [for_client(event, withheld=self._may_see_withheld) for event in events]

    @property
    def usage(self) -> dict[str, Any]:
        lengths = [
            self.exchange.session(index).usage.prompt_tokens
            for index in range(0, len(self.exchange.requests), self.body.n)
        ]
        return usage_object(lengths, self.completions.values())

    def note_usage(self) -> None:
        """What the log and the span say about the request: nothing that the client wrote."""
        private = {"choices", "warnings", *(["criterion"] if self.body.rain.principle else [])}
        self.request.state.facts |= {
            "model": self.body.model,
            "finish_reasons": [self.completions[index].finish_reason for index in sorted(self.completions)],
            **{name: value for name, value in self.usage.items() if name != "total_tokens"},
            **{f"rain_{name}": value for name, value in self.summary.items() if name not in private},
        }

    @property
    def summary(self) -> dict[str, Any]:
        return together([self.rain[index] for index in sorted(self.rain)])

    def whole(self) -> dict[str, Any]:
        """The response of a request that is not streamed."""
        self.note_usage()
        choices = [self.shape.choice(index, self.completions[index]) for index in sorted(self.completions)]
        summary = self.summary
        if self.body.rain.trace:
            traces = [self._events(self.completions[index].trace) for index in sorted(self.completions)]
            summary = {**summary, "trace": traces[0] if len(traces) == 1 else traces}
        envelope = self.shape.envelope(self.id, self.body.model, chunk=False)
        return {**envelope, "choices": choices, "usage": self.usage, "rain": summary}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Server-sent events: a chunk per release, comments while the search is silent."""
        try:
            async for chunk in self._chunks():
                yield chunk
        except Exception as error:
            told = translated(error)
            self.request.state.facts |= {"error": told.message, "status": told.status}
            yield _event(told.body)
        finally:
            self.exchange.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        for index in range(len(self.exchange.requests)):
            if (start := self.shape.start(index)) is not None:
                yield self._chunk(start)
        async for news in self.exchange.news(self.service.config.keep_alive_seconds):
            if news is None:
                yield b": searching\n\n"
                continue
            index, what = news
            if isinstance(what, Progress):
                self.note_release(what)
                rain = {"events": self._events(what.events)} if what.events else None
                yield self._chunk(self.shape.piece(index, what.text), rain)
            else:
                self.end(index, what.completion)
                completion = self.completions[index]
                for piece in self.shape.rest(index, completion):
                    yield self._chunk(piece)
                yield self._chunk(self.shape.end(index, completion), self.rain[index])
        self.note_usage()
        if self._wants_usage:
            yield self._chunk(None)
        yield b"data: [DONE]\n\n"

    @property
    def _wants_usage(self) -> bool:
        options = self.body.stream_options
        return options is not None and options.include_usage

    def _chunk(self, choice: dict[str, Any] | None, rain: dict[str, Any] | None = None) -> bytes:
        """A chunk with one choice; without one, that with the usage."""
        chunk = self.shape.envelope(self.id, self.body.model, chunk=True)
        chunk["choices"] = [] if choice is None else [choice]
        if self._wants_usage:
            chunk["usage"] = self.usage if choice is None else None
        return _event(chunk if rain is None else {**chunk, "rain": rain})


class StreamedAnswer(StreamingResponse):
    """The answer's chunks. Once it is over, however that came about, nothing of it is searched any more."""

    def __init__(self, answer: Answer):
        self.answer = answer
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(answer.chunks(), headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.answer.exchange.close()


def _event(data: dict[str, Any]) -> bytes:
    """A line of ASCII: some clients take more than CR and LF for the end of one."""
    return f"data: {json.dumps(data)}\n\n".encode()
