"""`Stream`: what a session commits, as it is made."""

from __future__ import annotations

from collections.abc import Iterator

from rain_decoding.decoding.session import Progress, Session
from rain_decoding.scheduler import Scheduler
from rain_decoding.types import Commit, Completion


class Stream(Iterator[Commit]):
    """Commits as they are made. `completion` is there after the iteration; `close` stops the work early."""

    def __init__(self, session: Session):
        self.completion: Completion | None = None
        self._session, self._task = session, session.task
        self._scheduler = Scheduler.of(session.backend)

    @classmethod
    def start(cls, session: Session) -> Stream:
        """Start a session on its backend's scheduler; its commits."""
        stream = cls(session)
        stream._scheduler.start(stream._task)
        return stream

    def __next__(self) -> Commit:
        while not self._task.events:
            if self._task.done:
                self._finish()
                raise StopIteration
            try:
                self._scheduler.advance([self._task], events=True)
            except BaseException:
                self.close()
                raise
        return self._task.events.popleft()

    @property
    def progress(self) -> Progress:
        """How far it is; may be asked from any thread."""
        return self._session.progress

    def _finish(self) -> None:
        if self.completion is None:
            self.completion = self._session.collect()

    def close(self) -> None:
        """Stop; what was committed so far becomes the completion, with finish_reason "cancelled"."""
        if not self._task.done:
            self._scheduler.cancel(self._task)
        if self._task.error is None:
            self._finish()
        else:
            self._session.finish()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.completion is None:
            self._scheduler.abandon(self.close)
