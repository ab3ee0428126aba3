"""What was found once about a model, kept in the user's cache folder: it may be deleted at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from rain_decoding.errors import ConfigError


def kept_file(kind: str, *found_by: object) -> Path:
    """Where what was found by these is kept, among others of its kind (below `XDG_CACHE_HOME`)."""
    name = hashlib.sha256(repr(found_by).encode()).hexdigest()[:32]
    return user_cache_path("rain-decoding") / kind / f"{name}.json"


def keep(file: Path, write: Callable[[Path], object]) -> None:
    """Have the file written for the next time, whole or not at all, where the folder lets one write."""
    with contextlib.suppress(OSError, ConfigError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partly = file.with_suffix(f".{os.getpid():x}-{id(write):x}")  # others may be writing it, too
        write(partly)
        partly.replace(file)


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """No other process is here for the same file meanwhile, unless its folder lets nobody write."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(file.with_suffix(".lock")))
        yield
