"""A model that was given back: its memory is free, and whoever still asks is told so."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from contract.test_backend_contract import CASES

from rain_decoding import PlainDecoder, RainDecoder, UnsupportedError, load_backend
from rain_decoding.types import Decode

PROMPT = "Human: How do I bake a nut roll?\n\nAssistant:"
MAPPED = Path("/proc/self/maps")


@pytest.mark.parametrize("kind", CASES)
def test_what_is_asked_of_a_closed_model_ends_in_an_error(kind: str, tmp_path: Path) -> None:
    with load_backend(CASES[kind](tmp_path)) as backend:
        decoder = PlainDecoder(backend, prompt_format="text")
        running, left = decoder.stream(PROMPT, max_tokens=32), decoder.stream(PROMPT, max_tokens=32)
        next(running)
        next(left)
    if kind != "openai":  # whose whole reply may be here already
        with pytest.raises(UnsupportedError, match="was closed"):
            for _ in running:
                pass
    left.close()
    assert left.completion is None or left.completion.finish_reason in ("cancelled", "stop")
    with pytest.raises(UnsupportedError, match="was closed"):
        decoder.generate(PROMPT, max_tokens=4)
    with pytest.raises(UnsupportedError, match="was closed"):
        backend.submit(Decode((1, 2), 1), backend.new_owner())
    backend.close()
    assert backend.counters.kv_slots == 0


@pytest.mark.parametrize("kind", ["hf", "demo"])
def test_weights_go(kind: str, tmp_path: Path) -> None:
    backend = load_backend(CASES[kind](tmp_path))
    weights = weakref.ref(backend.engine.model)  # type: ignore[attr-defined]
    decoder = PlainDecoder(backend, prompt_format="text")
    decoder.generate(PROMPT, max_tokens=4)
    backend.close()
    gc.collect()
    assert weights() is None
    assert decoder.backend is backend


@pytest.mark.skipif(not MAPPED.exists(), reason="needs Linux")
def test_a_gguf_file_is_no_longer_mapped(tmp_path: Path) -> None:
    file = CASES["gguf"](tmp_path).removeprefix("gguf:")
    decoder = RainDecoder(load_backend(f"gguf:{file}"), prompt_format="text")
    stream = decoder.stream(PROMPT, max_tokens=32)
    next(stream)
    assert file in MAPPED.read_text()
    decoder.backend.close()
    gc.collect()
    assert file not in MAPPED.read_text()
    stream.close()
