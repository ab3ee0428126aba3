#!/usr/bin/env python3
"""A person with a GGUF file who reads only the README's first screen: python tools/first_screen.py MODEL.gguf

Clones this repository, makes an empty environment and empty homes for what is kept, types the commands of the README's
first block as they stand there, asks the server one question, and says how long each took.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST = 300.0
"""Seconds that it may take."""
SERVER = "http://127.0.0.1:8000"


def first_commands(readme: str) -> list[list[str]]:
    """The commands of the first block of the README."""
    found = re.search(r"```console\n(.*?)```", readme, flags=re.DOTALL)
    assert found is not None
    return [shlex.split(line, comments=True) for line in found[1].splitlines()]


@contextmanager
def served(command: list[str], **place: object) -> Iterator[None]:
    """The server, once it is ready."""
    with subprocess.Popen(command, **place) as server:  # type: ignore[call-overload]
        try:
            while server.poll() is None:
                try:
                    urllib.request.urlopen(f"{SERVER}/readyz").close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield
        finally:
            server.terminate()


def ask() -> str:
    """An answer of the server."""
    with urllib.request.urlopen(f"{SERVER}/v1/models") as reply:
        model = json.load(reply)["data"][0]["id"]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Give me two tips for sleeping better."}],
    }
    asked = urllib.request.Request(
        f"{SERVER}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked) as reply:
        answer: str = json.load(reply)["choices"][0]["message"]["content"]
    return answer


def computed() -> float:
    """Processor seconds of what has run so far: what a busy machine does not lengthen."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(model: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone, home = Path(folder) / "clone", Path(folder) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        (clone / "model.gguf").symlink_to(model.resolve())
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "XDG", "RAIN"))
        }
        environment = kept | {
            "HOME": str(home),
            "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}",
            "BROWSER": "true",
        }
        commands = [["python3", "-m", "venv", ".venv"], *first_commands((clone / "README.md").read_text())]
        began = time.perf_counter()
        for command in commands:
            started, busy = time.perf_counter(), computed()
            print(f"$ {shlex.join(command)}", flush=True)
            if command[:2] == ["rain", "serve"]:
                with served(command, cwd=clone, env=environment, stderr=subprocess.DEVNULL):
                    print(ask())
            else:
                subprocess.run(command, cwd=clone, env=environment, check=True)
            print(f"  {time.perf_counter() - started:.0f} s, computing {computed() - busy:.0f} s", flush=True)
        total = time.perf_counter() - began
    print(f"{total:.0f} s in all, {MOST:.0f} s allowed; computing {computed():.0f} s")
    sys.exit(total > MOST)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
