"""The demo model behind a real llama-server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_models.serving import llama_server

from rain_decoding.microworld.export import write_gguf


@pytest.fixture(scope="session")
def served_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp", reason="the llama-server tests need the wheel xllamacpp (dev extra)")
    file = tmp_path_factory.mktemp("served") / "demo.gguf"
    write_gguf(file)
    return file


@pytest.fixture(scope="session")
def llama_url(served_demo: Path) -> Iterator[str]:
    with llama_server(served_demo) as address:
        yield address
