"""What the endpoints of one server share."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from fastapi import Request

from rain_decoding.prompting import Prompt
from rain_decoding.server.config import ServerConfig
from rain_decoding.server.exchange import Exchange
from rain_decoding.server.metrics import Metrics
from rain_decoding.server.reading import PromptReader
from rain_decoding.server.request_parser import RequestParser
from rain_decoding.server.schemas import ChatBody, CompletionBody
from rain_decoding.server.traces import TraceStore
from rain_decoding.server.worker import Worker
from rain_decoding.web.bodies import client_of
from rain_decoding.web.errors import queue_timeout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """One model of a server: who reads requests, who answers them, who counts."""

    config: ServerConfig
    parser: RequestParser
    worker: Worker
    metrics: Metrics
    reader: PromptReader
    traces: TraceStore
    created: int = field(default_factory=lambda: int(time.time()))

    async def read(self, request: Request, body: ChatBody | CompletionBody) -> Exchange:
        """Have a request's prompts read and its answers queued, if there is room for them. Raises `ApiError`."""
        unread = self.parser.parse(body)
        self.note_prompt(request, body)
        self.worker.admit(len(unread))
        client = client_of(request.scope)
        limit = body.rain.max_seconds or self.config.max_seconds
        try:
            async with asyncio.timeout(limit):
                answers = [one.with_prompt(await self.reader.read(client, one.read)) for one in unread]
        except TimeoutError:
            raise queue_timeout() from None
        return Exchange(self.worker, answers, request.state.request_id, request.state.started)

    async def read_prompt(self, request: Request, body: ChatBody) -> Prompt:
        """A request's prompt, for which no answer is wanted. Raises `ApiError` and `InputError`."""
        (unread,) = self.parser.parse(body)
        self.note_prompt(request, body)
        return await self.reader.read(client_of(request.scope), unread.read)

    def note_prompt(self, request: Request, body: ChatBody | CompletionBody) -> None:
        """Put the prompt into the log, if the operator wants that."""
        if self.config.log_prompts:
            log.info("prompt", extra={"request_id": request.state.request_id, "prompts": body.prompts})
