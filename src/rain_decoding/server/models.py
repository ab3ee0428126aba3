"""The models of one server, by the names that clients know: one, and what its own server lists besides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from rain_decoding.errors import RainError
from rain_decoding.server.reading import in_thread
from rain_decoding.server.request_parser import PLAIN_SUFFIX
from rain_decoding.server.service import Service
from rain_decoding.web.errors import ApiError, queue_timeout, shutting_down

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
        taken = set(self._names_of(first.parser.model))
        self._others: dict[str, Callable[[], Service]] = {}
        # The shorter first: NAME:plain is plain decoding of NAME, whoever else is called so.
        for name in sorted(others, key=len):
            if taken.isdisjoint(own := self._names_of(name)):
                taken.update(own)
                self._others[name] = others[name]
        self._loading: dict[str, asyncio.Task[Service]] = {}

    @property
    def names(self) -> list[str]:
        """Names that a request may bear."""
        return [name for model in self.models for name in self._names_of(model)]

    @property
    def models(self) -> list[str]:
        """The models' own names, the first one's first, loaded or not."""
        return [self.first.parser.model, *self._others]

    def _names_of(self, model: str) -> list[str]:
        return [model, model + PLAIN_SUFFIX] if "plain" in self.first.config.client_may else [model]

    async def serving(self, name: str, *, decodes: bool = True) -> Service:
        """Who answers requests that bear this name, which may be that of plain decoding where something `decodes`.

        Raises `ApiError`, also where the model cannot be loaded, or not in the time that a request has.
        """
        model = self._model_of(name, decodes)
        if model not in self._others:
            return self.first
        if not self.accepting:
            raise shutting_down()
        if model not in self._loading:
            self._loading[model] = asyncio.create_task(self._load(model))
            self._loading[model].add_done_callback(_heard)
        task = self._loading[model]
        try:
            # Whoever waits may leave; others wait for the same.
            return await asyncio.wait_for(asyncio.shield(task), self.first.config.max_seconds)
        except TimeoutError:
            raise queue_timeout() from None
        except asyncio.CancelledError:
            if task.cancelled():
                raise shutting_down() from None
            raise

    def _model_of(self, name: str, decodes: bool) -> str:
        known = self.models
        for model in (name, name.removesuffix(PLAIN_SUFFIX))[: 1 + decodes]:
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
        except BaseException as error:
            del self._loading[model]  # the next request tries again
            if not isinstance(error, RainError):
                raise
            # What it says may name addresses, and files of the operator's.
            log.warning("%s cannot be loaded: %s", model, error)
            raise ApiError(
                502, f"the model {model!r} cannot be loaded; see the log for details", code="upstream_failed"
            ) from error
        service.worker.start()
        self.services.append(service)
        return service

    def close(self) -> None:
        """Load nothing more; who waits for that is told so."""
        self.accepting = False
        for task in self._loading.values():
            task.cancel()


def _heard(task: asyncio.Task[Service]) -> None:
    """Nobody may be left to hear of its error, which is in the log."""
    if not task.cancelled():
        task.exception()
