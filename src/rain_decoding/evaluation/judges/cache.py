"""Replies of judges on disk, so that no text is paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError


class ReplyCache:
    """Replies by what was asked and by which version of the judge. Safe for several threads and processes."""

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.Lock()

    @cached_property
    def _database(self) -> sqlite3.Connection:
        """Opened, and made, when it is first needed."""
        database = sqlite3.connect(self.path, check_same_thread=False, timeout=60)
        database.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT)")
        return database

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(
                f"{self.path} cannot be used as a cache of replies: {error}",
                hint="make room on the disk, or choose another file",
            ) from error

    def get(self, version: str, asked: Any) -> str | None:
        """The reply to `asked`, if it was stored."""
        with self._lock, self._translated():
            rows = self._database.execute("SELECT reply FROM replies WHERE key = ?", (_key(version, asked),))
            row = rows.fetchone()
        return row[0] if row else None

    def put(self, version: str, asked: Any, reply: str) -> None:
        """Store a reply."""
        with self._lock, self._translated(), self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)", (_key(version, asked), reply)
            )


def _key(version: str, asked: Any) -> str:
    text = json.dumps([version, asked], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
