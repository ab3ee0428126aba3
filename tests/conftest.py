"""Fixtures that several folders of tests share."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from decoder_worlds import SCRIPT

from rain_decoding import load_backend
from rain_decoding.backends.local import LocalBackend


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What `rain serve` sets up in this process would write into the streams of a test that is over."""
    known = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    kept = [(each, each.handlers[:], each.level, each.propagate) for each in (logging.root, *known)]
    hooks = sys.excepthook, threading.excepthook
    yield
    sys.excepthook, threading.excepthook = hooks
    for logger, handlers, level, propagate in kept:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def demo_backend() -> LocalBackend:
    """The demo model, loaded once."""
    import torch

    torch.set_num_threads(1)
    backend = load_backend("demo")
    assert isinstance(backend, LocalBackend)
    return backend


@pytest.fixture
def demo(demo_backend: LocalBackend) -> Iterator[LocalBackend]:
    """The demo model with nothing cached."""
    demo_backend.clear()
    yield demo_backend
    demo_backend.clear()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A scripted model's folder: `model.toml`, and `kind.toml`, the criterion it judges by."""
    for name, text in SCRIPT.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path
