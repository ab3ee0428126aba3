"""Files as people have them: with byte order marks, cut off by a crash, on a full disk."""

from __future__ import annotations

import json
import os
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

NEW = ".new"
"""Suffix of a file that is being written."""
UNREADABLE = (OSError, UnicodeError, EOFError, zlib.error, RecursionError)
"""What reading a file may raise: it is not there, no UTF-8, damaged, or nested too deeply for its parser."""
_APPENDING = threading.Lock()


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises what is `UNREADABLE`."""
    return Path(path).read_text(encoding="utf-8-sig")


def unix_lines(text: str) -> str:
    """The text with a line feed alone at the end of its lines, whatever system it comes from."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def json_line(value: Any) -> bytes:
    """A value as a line of JSON, in UTF-8 where that can write its texts, else escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value).encode() + b"\n"


def append_line(path: Path, line: bytes, *, durable: bool = False) -> None:
    """Write a whole line, which ends in a line end, to the end of a file, or nothing.

    The end of a line that a crash has cut off goes first. With `durable`, the line is on the disk afterwards. Raises
    `OSError`; the file then is what it was.
    """
    with _APPENDING, path.open("a+b", buffering=0) as file:
        end = cut_to_whole_lines(file)
        try:
            left = memoryview(line)
            while left:
                left = left[file.write(left) :]
            if durable:
                os.fsync(file.fileno())
        except BaseException:  # Ctrl-C, too
            with suppress(OSError):
                file.truncate(end)
            raise


def cut_to_whole_lines(file: Any) -> int:
    """Cut a file off behind its last line end; how long it is then."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 2**16)
        file.seek(start)
        chunk = file.read(end - start)
        if (place := chunk.rfind(b"\n")) >= 0:
            end = start + place + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    file.seek(0, os.SEEK_END)
    return int(end)


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in the place of what is there, at once: a crash leaves the old one or the new one."""
    new = path.with_suffix(NEW)
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
