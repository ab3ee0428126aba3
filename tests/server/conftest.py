"""The demo model behind `rain serve`, started once for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server.running import Running, serving_process


@pytest.fixture(scope="session")
def demo_server() -> Iterator[Running]:
    with serving_process("--model", "demo", "--open") as running:
        yield running
