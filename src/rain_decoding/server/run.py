"""Runs the application with uvicorn, and shuts it down gently."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import socket

import uvicorn
from fastapi import FastAPI

from rain_decoding.server.logs import LOGGING
from rain_decoding.server.protocol import Protocol
from rain_decoding.server.service import Service
from rain_decoding.web.errors import unavailable

log = logging.getLogger(__name__)

HEADER_BYTES = 32 * 1024
"""What a request's line and headers may hold together."""


class Server(uvicorn.Server):
    """Lets what runs finish within the grace period; then cancels it, and says which."""

    def __init__(self, app: FastAPI, host: str, port: int):
        self.service: Service = app.state.service
        grace = self.service.config.grace_seconds
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=Protocol,
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                h11_max_incomplete_event_size=HEADER_BYTES,
                # Cancelled answers still tell their clients.
                timeout_graceful_shutdown=int(grace) + 5,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port, *_ = listening.getsockname()
                log.info("serving", extra={"model": self.service.parser.model, "host": host, "port": port})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = asyncio.create_task(self._drain())
        await super().shutdown(sockets)
        draining.cancel()

    async def _drain(self) -> None:
        worker, grace = self.service.worker, self.service.config.grace_seconds
        worker.accepting = False
        running = [answer.request_id for answer in worker.pending]
        log.info("shutting down", extra={"finishing": running, "grace_seconds": grace})
        await asyncio.sleep(grace)
        cancelled = worker.fail_all(unavailable("the server is shutting down", "shutting_down"))
        log.warning("cancelled", extra={"requests": [answer.request_id for answer in cancelled]})


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    logging.config.dictConfig(LOGGING)
    Server(app, host, port).run()
