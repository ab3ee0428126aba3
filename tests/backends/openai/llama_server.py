"""A real llama-server in a process of its own, from the wheel that carries it. Ends when its standard input does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"rain-demo"}
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_parallel, params.n_ctx = int(sys.argv[2]), 1024 * int(sys.argv[2])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.endpoint_metrics = True
params.chat_template = sys.argv[3]
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama_server(model: Path, slots: int = 4, chat_template: str = "") -> Iterator[str]:
    """Its address, such as http://127.0.0.1:45678."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model), str(slots), chat_template],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = next((line for line in process.stdout if line.startswith("listening on")), None)
        assert line is not None, "llama-server did not start"
        yield line.split()[-1]
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()
