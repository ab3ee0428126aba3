"""A real llama-server in a process of its own, from the wheel xllamacpp that carries it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import sys
import xllamacpp

model, slots, threads, template = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = model, {"rain-demo"}
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_parallel, params.n_ctx = int(slots), 1024 * int(slots)
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
params.endpoint_metrics = True
params.chat_template = template
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
"""
"""Ends when its standard input does."""


@contextmanager
def llama_server(model: Path, slots: int = 4, chat_template: str = "", threads: int = 1) -> Iterator[str]:
    """Its address, such as http://127.0.0.1:45678; each of the slots holds 1,024 tokens.

    Raises:
        SystemExit: it does not start with this file.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model), str(slots), str(threads), chat_template],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = next((line for line in process.stdout if line.startswith("listening on")), None)
        if line is None:
            raise SystemExit(f"llama-server did not start with {model}")
        yield line.split()[-1]
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()
