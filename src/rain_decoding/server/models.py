"""The models of one server, by the names that clients know: one, and what its own server lists besides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from rain_decoding.server.reading import in_thread
from rain_decoding.server.request_parser import PLAIN_SUFFIX
from rain_decoding.server.service import Service
from rain_decoding.web.errors import ApiError, unavailable

log = logging.getLogger(__name__)


class Models:
    """Finds who answers for a model; `others` are loaded, in a thread, when they are first asked for.

    Belongs to the event loop.
    """

    def __init__(self, first: Service, others: Mapping[str, Callable[[], Service]]):
        self.first = first
        self.services = [first]
        """Those that are loaded."""
        self.accepting = True
        """Whether further ones are loaded; not any more once the server shuts down."""
        own = self._names_of(first.parser.model)
        self._others = {name: load for name, load in others.items() if name not in own}
        self._loading: dict[str, asyncio.Task[Service]] = {}

    @property
    def names(self) -> list[str]:
        """Names that a request may bear."""
        return [name for model in (self.first.parser.model, *self._others) for name in self._names_of(model)]

    @property
    def further(self) -> list[str]:
        """The names of those beside the first, loaded or not."""
        return list(self._others)

    def _names_of(self, model: str) -> list[str]:
        return [model, model + PLAIN_SUFFIX] if "plain" in self.first.config.client_may else [model]

    async def serving(self, name: str) -> Service:
        """Who answers requests that bear this name. Raises `ApiError`, and `RainError` where it cannot be loaded."""
        model = self._model_of(name)
        if model not in self._others:
            return self.first
        if model not in self._loading:
            self._loading[model] = asyncio.create_task(self._load(model))
        # Whoever waits may leave; others wait for the same.
        return await asyncio.shield(self._loading[model])

    def _model_of(self, name: str) -> str:
        known = (self.first.parser.model, *self._others)
        for model in (name, name.removesuffix(PLAIN_SUFFIX)):
            if model in known:
                return model
        if self.first.config.any_model:
            return known[0]
        raise ApiError(
            404,
            f"the model {name!r} does not exist; use {' or '.join(map(repr, known))}",
            param="model",
            code="model_not_found",
        )

    async def _load(self, model: str) -> Service:
        log.info("loading", extra={"model": model})
        try:
            service = await asyncio.wrap_future(in_thread(self._others[model]))
            if not self.accepting:
                raise unavailable("the server is shutting down", "shutting_down")
        except BaseException:
            del self._loading[model]  # the next request tries again
            raise
        service.worker.start()
        self.services.append(service)
        return service
