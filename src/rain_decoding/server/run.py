"""Runs the application with uvicorn, and shuts it down gently."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from fastapi import FastAPI

from rain_decoding.server.logs import log_as_json
from rain_decoding.server.models import Models
from rain_decoding.web.errors import shutting_down
from rain_decoding.web.protocol import Server as EndingServer
from rain_decoding.web.protocol import uvicorn_config

log = logging.getLogger(__name__)

Told = Callable[[str, str], None]

TICK = 0.05
"""Seconds after which it is looked at again whether all answers have ended."""


class Server(EndingServer):
    """Lets what runs finish within the grace period, in which others are told to come back later; then cancels it, and
    says which."""

    def __init__(self, app: FastAPI, host: str, port: int, told: Told | None = None):
        self.told = told
        self.models: Models = app.state.models
        config = self.models.first.config
        super().__init__(
            uvicorn_config(
                app,
                max_connections=config.max_connections,
                host=host,
                port=port,
                # Cancelled answers still tell their clients.
                timeout_graceful_shutdown=int(config.grace_seconds) + 5,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port, *_ = listening.getsockname()
                model = self.models.first.parser.model
                log.info("serving", extra={"model": model, "host": host, "port": port})
                if self.told is not None:
                    shown = f"[{host}]" if ":" in host else host
                    self.told(model, f"http://{shown}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        """Wait for what runs, and cancel what does not end in time. New requests are refused, not left unheard."""
        self.models.close()
        workers = [service.worker for service in self.models.services]
        for worker in workers:
            worker.accepting = False
        grace = self.models.first.config.grace_seconds
        running = [answer.request_id for worker in workers for answer in worker.pending]
        log.info("shutting down", extra={"finishing": running, "grace_seconds": grace})
        end = asyncio.get_running_loop().time() + grace
        while any(worker.pending for worker in workers) and not self.force_exit:
            if asyncio.get_running_loop().time() >= end:
                cancelled = [answer for worker in workers for answer in worker.fail_all(shutting_down())]
                log.warning("cancelled", extra={"requests": [answer.request_id for answer in cancelled]})
                return
            await asyncio.sleep(TICK)


def serve(app: FastAPI, host: str, port: int, told: Told | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `told` hears of the model's name and the URL when it can be reached."""
    log_as_json()
    Server(app, host, port, told).run()
