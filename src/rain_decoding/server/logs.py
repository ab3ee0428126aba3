"""Logs as JSON, one object a line on standard error, whoever writes them."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""What every record has, and uvicorn's colours."""

REPEAT_SECONDS = 10.0
"""For so long after a line the same line is counted, not written."""
MOST_REMEMBERED = 1000
"""Lines that are remembered meanwhile."""


class JsonFormatter(logging.Formatter):
    """Time, level, logger and message, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in FIELDS}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


@dataclass
class Repeated:
    """A line that was written, and how often it came again since."""

    record: logging.LogRecord
    count: int = 0
    timer: threading.Timer | None = field(default=None, repr=False)


class CountingHandler(logging.StreamHandler):
    """Writes a line once, and then how often it came again within `REPEAT_SECONDS`, as `repeated`."""

    def __init__(self, stream: Any = None, seconds: float = REPEAT_SECONDS):
        super().__init__(stream)
        self.seconds = seconds
        self._seen: dict[tuple[Any, ...], Repeated] = {}

    def emit(self, record: logging.LogRecord) -> None:
        key = _identity(record)
        if (before := self._seen.get(key)) is not None:
            if record.created - before.record.created < self.seconds:
                before.count += 1
                if before.timer is None:
                    before.timer = _later(self.seconds, lambda: self._tell(key))
                return
            self._tell(key)
        while len(self._seen) >= MOST_REMEMBERED:
            self._tell(next(iter(self._seen)))
        self._seen[key] = Repeated(record)
        super().emit(record)

    def _tell(self, key: tuple[Any, ...]) -> None:
        """Forget a line, and write how often it was repeated."""
        self.acquire()
        try:
            seen = self._seen.pop(key, None)
            if seen is None:
                return
            if seen.timer is not None:
                seen.timer.cancel()
            if seen.count:
                again = logging.makeLogRecord({**vars(seen.record), "repeated": seen.count})
                again.created = time.time()
                super().emit(again)
        finally:
            self.release()

    def close(self) -> None:
        for key in list(self._seen):
            self._tell(key)
        super().close()


def _identity(record: logging.LogRecord) -> tuple[Any, ...]:
    """All of a line but its time."""
    extra = {key: value for key, value in vars(record).items() if key not in FIELDS}
    raised = record.exc_info[1] if record.exc_info else None
    return record.name, record.levelno, record.getMessage(), repr(extra), repr(raised)


def _later(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "handlers": {"stderr": {"()": CountingHandler, "formatter": "json"}},
    "loggers": {
        "rain_decoding": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}
"""For `logging.config.dictConfig`. Requests are logged by the server itself, not by uvicorn."""


def log_as_json() -> None:
    """Let everything that is logged be such lines: of all libraries, warnings, and errors that nobody caught."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    root = {"handlers": ["stderr"], "level": "WARNING"}
    logging.config.dictConfig({**LOGGING, "root": root})
    logging.captureWarnings(True)
    log = logging.getLogger("rain_decoding")
    sys.excepthook = lambda kind, error, trace: log.critical("failed", exc_info=(kind, error, trace))
    threading.excepthook = lambda failed: log.critical(
        "a thread failed",
        exc_info=(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback),
    )
