"""The demo model as a GGUF file."""

from __future__ import annotations

from pathlib import Path

import pytest

from rain_decoding.microworld.export import write_gguf


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as `rain demo export` writes it."""
    file = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    write_gguf(file)
    return file
