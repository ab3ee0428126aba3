"""Replicas of an in-process model behind Ray Serve: `serve run rain_decoding.server.ray:app config=serve.toml`."""

# Without `from __future__ import annotations`: Ray reads the builder's annotation as it stands.

import logging.config
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from rain_decoding.errors import MissingDependencyError
from rain_decoding.extras import install
from rain_decoding.server.loading import application
from rain_decoding.server.logs import LOGGING
from rain_decoding.server.settings import read_settings

try:
    from ray import serve
    from ray.serve import Application
except ImportError as error:
    raise MissingDependencyError(f"replicas need {error.name}", hint=install("ray")) from error

SPARE = 64
"""Requests beside answers that Ray lets through to a replica, so that its own queue does the refusing."""


class Arguments(BaseModel):
    """What `serve run` and a Serve config's `args` may say."""

    config: Path
    """A file for `rain serve --config`. Every node of the cluster reads it, and the files it names, itself."""
    replicas: int = Field(1, ge=1)
    gpus: float = Field(0.0, ge=0)
    """GPUs of each replica; Ray shows a replica no others, so that it calls its own `cuda:0`."""


class Replica:
    """The health of one server."""

    app: FastAPI
    """Set by Ray, which also runs it."""

    def check_health(self) -> None:
        """Ray replaces a replica that raises again and again."""
        if self.app.state.models.first.worker.stuck:
            raise RuntimeError("the model does not respond")


def app(arguments: Arguments) -> Application:
    """The application, a server of its own in each replica. Raises `ConfigError`."""
    file = arguments.config.resolve()
    server = read_settings(file).server_config()  # what is wrong with it is said before anything starts

    def build() -> FastAPI:
        logging.config.dictConfig(LOGGING)
        return application(read_settings(file))

    options: dict[str, Any] = {
        "num_replicas": arguments.replicas,
        "ray_actor_options": {"num_gpus": arguments.gpus},
        "max_ongoing_requests": server.room + SPARE,
        "graceful_shutdown_timeout_s": server.grace_seconds,
    }
    return serve.deployment(serve.ingress(build)(Replica), name="rain", **options).bind()
