"""Files that are no model, options that cannot be used, and what a file brings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from backends.gguf.files import CONTEXT, load, random_llama

from rain_decoding import load_backend, load_criterion
from rain_decoding.backends.dialogue import default_dialogue_header
from rain_decoding.backends.gguf import loading
from rain_decoding.demo import CRITERIA_DIR
from rain_decoding.errors import (
    BackendError,
    ConfigError,
    MissingDependencyError,
    ModelNotFoundError,
    UnsupportedError,
)
from rain_decoding.types import VALUES


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_llama(tmp_path_factory.mktemp("gguf") / "model.gguf")


def test_files_that_are_no_model(tmp_path: Path, file: Path) -> None:
    (tmp_path / "text.gguf").write_text("GGML, not GGUF")
    (tmp_path / "empty.gguf").touch()
    for path, message in (
        (tmp_path / "none.gguf", "there is no model file"),
        (tmp_path, "is a folder"),
        (tmp_path / "text.gguf", "begins with b'GGML'"),
        (tmp_path / "empty.gguf", "begins with b''"),
    ):
        with pytest.raises(ModelNotFoundError, match=message):
            load(path)
    whole = file.read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 8):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(BackendError, match="cannot load.*incomplete"):
            load(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_length": CONTEXT + 1}, f"from 1 to {CONTEXT}"),
        ({"context_length": 0}, "context_length is 0"),
        ({"max_kv_slots": 0}, "max_kv_slots is 0"),
        ({"max_sequences": 257}, "from 1 to 256"),
        ({"max_step_tokens": 0}, "max_step_tokens is 0"),
        ({"prefix_cache_slots": -1}, "prefix_cache_slots is -1"),
        ({"kv_dtype": "q4"}, "one of f32, f16"),
        ({"dtype": "float32"}, "does not accept the option dtype.*kv_dtype"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used(file: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(file, **options)
    with pytest.raises(ConfigError, match="threads is 0"):
        load_backend(f"gguf:{file}", threads=0)


def test_what_it_cannot_do_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyllama.llama.llama_cpp", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "cyllama>='):
        load(file)


def test_limits_are_kept(file: Path) -> None:
    backend = load(file, context_length=64, max_kv_slots=100, prefix_cache_slots=7, max_sequences=9)
    engine: Any = backend.engine
    assert (backend.context_length, engine.max_kv_slots, engine.prefix_cache_slots) == (64, 100, 7)
    assert len(engine._sequences.free) == 9
    assert (
        backend.capabilities.layers == (VALUES,)
        and not backend.kept_layers
        and backend.capabilities.shares_prefixes
    )


def test_what_is_reserved_is_what_is_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rain_decoding.backends.gguf.loading.RESERVED", 256)
    engine: Any = load(file, max_kv_slots=4096).engine
    assert (engine.max_kv_slots, engine._context.n_ctx) == (4096, 256)


def test_a_tiny_model_stays_exact_and_a_larger_one_is_made_fast(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    make = loading._context

    def noted(model: Any, slots: int, **settings: Any) -> Any:
        asked.append(settings)
        return make(model, slots, **settings)

    monkeypatch.setattr(loading, "_context", noted)
    load(file)
    monkeypatch.setattr(loading, "TINY", 1)
    load(file)
    load(file, kv_dtype="f32", flash_attention=False)
    kinds = [(each["type_k"], each["type_v"], each["flash_attn_type"]) for each in asked]
    exact, fast = (
        (loading.KV_TYPES["f32"],) * 2 + (loading.OFF,),
        (loading.KV_TYPES["f16"],) * 2 + (loading.ON,),
    )
    assert kinds == [exact, fast, exact]


def test_values_are_kept_where_asked_for(file: Path) -> None:
    assert load_backend(f"gguf:{file}", keep_hidden=True).kept_layers == (VALUES,)


def test_a_cache_of_another_form_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a llama.cpp that writes its states otherwise.
    monkeypatch.setattr("rain_decoding.backends.gguf.values.HEADER", 3)
    backend = load(file)
    assert backend.capabilities.layers == () and backend.counters.kv_slots == 0
    with pytest.raises(UnsupportedError, match="hidden states of what attention keeps"):
        backend.keep_layers([VALUES])


def test_a_file_may_bring_criteria(tmp_path: Path, demo_file: Path) -> None:
    backend = load(random_llama(tmp_path / "m.gguf"))
    assert (backend.name, backend.criteria_dirs, backend.dialogue_header) == (
        "m.gguf",
        (),
        default_dialogue_header(),
    )
    (tmp_path / "rain_criteria").mkdir()
    assert load(tmp_path / "m.gguf").criteria_dirs == (tmp_path / "rain_criteria",)
    demo = load_backend(f"gguf:{demo_file}")
    assert (demo.criteria_dirs, demo.dialogue_header) == ((CRITERIA_DIR,), "")
    assert load_criterion("helpfulness", search_dirs=demo.criteria_dirs).name == "helpfulness"


def test_llama_cpp_is_silent(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = load(file)
    backend.pin(backend.codec.encode("a cat"))
    assert capfd.readouterr() == ("", "")
