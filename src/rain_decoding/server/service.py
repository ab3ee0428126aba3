"""What the endpoints of one server share."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from fastapi import Request

from rain_decoding.server.config import ServerConfig
from rain_decoding.server.metrics import Metrics
from rain_decoding.server.request_parser import RequestParser
from rain_decoding.server.schemas import ChatBody, CompletionBody
from rain_decoding.server.traces import TraceStore
from rain_decoding.server.worker import Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """One server: who reads requests, who answers them, who counts."""

    config: ServerConfig
    parser: RequestParser
    worker: Worker
    metrics: Metrics
    traces: TraceStore = field(default_factory=TraceStore)
    created: int = field(default_factory=lambda: int(time.time()))

    def note_prompt(self, request: Request, body: ChatBody | CompletionBody) -> None:
        """Put the prompt into the log, if the operator wants that."""
        if self.config.log_prompts:
            log.info("prompt", extra={"request_id": request.state.request_id, "prompts": body.prompts})
