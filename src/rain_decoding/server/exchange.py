"""The answers of one request, from their submission to their end, as the event loop sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from rain_decoding.decoding.session import Session
from rain_decoding.server.request_parser import AnswerRequest
from rain_decoding.server.worker import Ended, Failed, News, Opened, PendingAnswer, Released, Worker


class Exchange:
    """Submits the answers and gives their news in the order they come."""

    def __init__(
        self,
        worker: Worker,
        requests: Sequence[AnswerRequest],
        request_id: str,
        arrived: float | None = None,
    ):
        """The answers' time begins when they `arrived`, by `time.perf_counter`; None: now."""
        self._worker = worker
        self._news: asyncio.Queue[tuple[int, News]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        began = time.perf_counter() if arrived is None else arrived

        def pending(index: int, request: AnswerRequest) -> PendingAnswer:
            def listen(news: News) -> None:
                loop.call_soon_threadsafe(self._news.put_nowait, (index, news))

            return PendingAnswer(request.open, listen, request_id, began)

        self.requests = requests
        self._answers = [pending(index, request) for index, request in enumerate(requests)]
        self._open: set[int] = set(range(len(requests)))
        """Answers that have not ended."""
        worker.submit(self._answers)

    def close(self) -> None:
        """Free what still runs."""
        self._worker.cancel([self._answers[index] for index in self._open])

    def session(self, index: int) -> Session:
        """The session of an answer that was opened."""
        session = self._answers[index].session
        assert session is not None
        return session

    async def opened(self) -> None:
        """Wait until all prompts were read. Raises `ApiError` for one that cannot be answered."""
        for _ in self.requests:
            _, news = await self._news.get()
            if isinstance(news, Failed):
                raise news.error from news.cause
            assert isinstance(news, Opened), "all answers are opened before one is searched"

    async def news(self, silence: float | None = None) -> AsyncIterator[tuple[int, Released | Ended] | None]:
        """What happens, until all answers have ended; None after `silence` seconds without news.

        Raises `ApiError` when an answer fails.
        """
        while self._open:
            try:
                index, news = await asyncio.wait_for(self._news.get(), silence)
            except TimeoutError:
                yield None
                continue
            match news:
                case Failed():
                    raise news.error from news.cause
                case Ended():
                    self._open.discard(index)
                    yield index, news
                case Released():
                    yield index, news
