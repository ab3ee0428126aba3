"""What goes wrong on purpose in `faults.py`: an upstream that fails, disks that are full, processes that are killed."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.openai.stub import Fault, Handler, Stub, cut_stream, raw, reset, status
from decoder_worlds import lock_world

DISK = 2**20
"""Bytes of the small disk."""
LEAST, MOST = 0, 24 * 2**10
"""Bytes that a full disk, or a limit on files, leaves to what is written next."""
PATIENCE = 300.0
"""Seconds after which what should happen has not happened."""
HANGING = 8.0
"""Seconds that an upstream hangs at most."""


def late(handler: Handler, body: dict[str, Any]) -> None:
    """A body that comes in part, and then not."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.server.released.wait(HANGING)
    handler.close_connection = True


FAULTS: dict[str, Fault] = {
    "500": status(500),
    "503": status(503),
    "429 with Retry-After": status(429, Retry_After="0"),
    "reset": reset,
    "late": late,
    "no JSON": raw(b"{"),
    "other JSON": raw(b"[]"),
    "no choices": raw(b'{"choices": []}'),
    "cut": cut_stream(1),
}


class FlakyUpstream(Stub):
    """A server of a scripted model, and a judge that says Yes; `rate` of its replies are faults."""

    def __init__(self, seed: int):
        super().__init__(lock_world())
        self.RequestHandlerClass = FlakyHandler
        self.rate = 0.0
        self.happened: Counter[str] = Counter()
        self.messages.append({"role": "assistant", "content": "Yes"})
        self._rng, self._drawing = random.Random(seed), threading.Lock()

    def fault(self) -> Fault | None:
        """What the next reply is to be instead."""
        with self._drawing:
            if self._rng.random() >= self.rate:
                return None
            name = self._rng.choice(list(FAULTS))
            self.happened[name] += 1
        return FAULTS[name]


class FlakyHandler(Handler):
    server: FlakyUpstream
    replacing = False

    def answer(self, body: dict[str, Any], change: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._or_fault(body, lambda: super(FlakyHandler, self).answer(body, change))

    def chat(self, body: dict[str, Any]) -> None:
        self._or_fault({"max_tokens": 1} | body, lambda: super(FlakyHandler, self).chat(body))

    def _or_fault(self, body: dict[str, Any], honest: Callable[[], None]) -> None:
        """A fault's own use of `answer` is honest."""
        fault = None if self.replacing else self.server.fault()
        if fault is None or ("prompt" not in body and fault is FAULTS["cut"]):
            return honest()
        self.replacing = True
        try:
            return fault(self, body)
        finally:
            self.replacing = False


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """A new folder, and whether it is on a disk of `DISK` bytes, which only some users may mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "rain-faults", str(folder)]
    mounted = (
        bool(shutil.which("mount")) and not subprocess.run(mount, capture_output=True, check=False).returncode
    )
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, left: int) -> Iterator[None]:
    """The disk with so many bytes left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while size := max(0, shutil.disk_usage(disk).free - left):
            file.write(bytes(min(size, 2**16)))
    try:
        yield
    finally:
        ballast.unlink()


def limited(largest: int) -> Callable[[], None]:
    """For a child process: no file may become larger."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def end(process: subprocess.Popen[str], patience: float, rng: random.Random) -> str:
    """Wait for the process for so long; then kill it, or ask it to stop. How it ended."""
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.poll() is not None:
        return f"exit {process.returncode}"
    sent = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    process.send_signal(sent)
    process.wait(PATIENCE)
    return sent.name
