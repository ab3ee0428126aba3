"""llama.cpp's tests, left out where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cyllama.llama.llama_cpp")


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as `rain demo export` writes it."""
    from rain_decoding.demo.export import write_gguf

    file = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    write_gguf(file)
    return file
