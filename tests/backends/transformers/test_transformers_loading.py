"""Loading and wrapping models, and what is said when that fails."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from backends.transformers import tiny

import rain_decoding
from rain_decoding.backends import load_backend
from rain_decoding.backends.transformers import load, wrap
from rain_decoding.backends.transformers.loading import context_length
from rain_decoding.errors import (
    BackendError,
    ConfigError,
    MissingDependencyError,
    ModelNotFoundError,
    NumericalError,
    UnsupportedError,
)
from rain_decoding.types import LAST


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A folder with a tiny Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    config = tiny.config("llama")
    config.vocab_size = 320
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).half().save_pretrained(folder)
    tiny.byte_level_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def offline(monkeypatch):
    """No host name resolves."""

    def fail(*arguments, **options):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(huggingface_hub.constants, "DEFAULT_ETAG_TIMEOUT", 1)


def test_load_a_folder(saved, capfd):
    backend = load_backend(f"hf:{saved}")
    assert backend.name == str(saved)
    assert backend.context_length == 128
    assert backend.capabilities.shares_prefixes
    assert not backend.kept_layers
    assert backend.criteria_dirs == ()
    assert capfd.readouterr().err == ""


def test_on_a_cpu_half_precision_files_become_float32(saved):
    assert load(str(saved), device="cpu").engine.model.dtype == torch.float32
    assert load(str(saved), device="cpu", dtype="auto").engine.model.dtype == torch.float16
    assert load(str(saved), device="cpu", dtype="bfloat16").engine.model.dtype == torch.bfloat16


def test_options_reach_their_places(saved, tmp_path):
    backend = load(
        str(saved),
        display_name="shown",
        criteria_dirs=[tmp_path],
        dialogue_header="",
        attn_implementation="eager",
        eos_token="a",
        max_kv_slots=100,
        prefix_cache_slots=10,
        keep_hidden=True,
        model_kwargs={"attention_bias": True},
    )
    engine = backend.engine
    assert (backend.name, backend.criteria_dirs, backend.dialogue_header) == ("shown", (tmp_path,), "")
    assert (engine.max_kv_slots, engine.prefix_cache_slots) == (100, 10)
    assert LAST in backend.kept_layers
    assert engine.model.config._attn_implementation == "eager"
    assert engine.model.config.attention_bias
    assert set(backend.codec.encode("a")) < backend.codec.eos


def test_unknown_options_are_errors(saved):
    with pytest.raises(TypeError, match="temprature"):
        load(str(saved), temprature=1)


def test_a_model_folder_may_bring_criteria(saved, tmp_path):
    folder = copy_of(saved, tmp_path)
    (folder / "rain_criteria").mkdir()
    assert load(str(folder), criteria_dirs=[Path("mine")]).criteria_dirs == (
        Path("mine"),
        folder / "rain_criteria",
    )


def copy_of(saved, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "./nowhere",
        "/no/such/folder",
        "~/no-such-folder",
        "a/b/c",
        "",
        "no such model",
        "nobody/no-such-model",
        "gpt2-not",
    ],
)
def test_unknown_names(name, offline):
    started = time.monotonic()
    with pytest.raises(ModelNotFoundError) as caught:
        load(name)
    assert time.monotonic() - started < 10  # huggingface_hub alone would try for a minute
    assert repr(name) in str(caught.value)
    assert caught.value.hint


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        load(str(tmp_path))


def test_a_folder_of_no_language_model(saved, tmp_path):
    transformers.T5Config().save_pretrained(tmp_path)
    tiny.byte_level_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match="T5Config"):
        load(str(tmp_path))


def test_broken_weights(saved, tmp_path):
    folder = copy_of(saved, tmp_path)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BackendError, match="could not be loaded"):
        load(str(folder))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "float17"}, "float17"),
        ({"dtype": "int8"}, "int8"),
        ({"device": "gpu"}, "'gpu'"),
        ({"attn_implementation": "magic"}, "magic"),
        ({"engine": "tree"}, "'tree'"),
        ({"max_kv_slots": 0}, "max_kv_slots is 0"),
        ({"prefix_cache_slots": -1}, "prefix_cache_slots is -1"),
        ({"eos_token": "<nothing>"}, "'<nothing>'"),
    ],
    ids=str,
)
def test_wrong_options(saved, options, said):
    with pytest.raises(ConfigError, match=said):
        load(str(saved), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_gpu_that_is_not_there(saved):
    with pytest.raises(ConfigError, match="no GPU"):
        load(str(saved), device="cuda")


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r'transformers.*pip install .*"transformers>='):
        load("anything")


def test_torch_is_imported_only_when_a_model_is_loaded():
    code = "import sys, rain_decoding.backends.transformers; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(rain_decoding.__file__).parents[1])}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert out.stdout == "False\n"


class TestWrap:
    def test_a_loaded_model(self):
        model = copy.deepcopy(tiny.model("llama")).train()
        backend = wrap(model, tiny.byte_level_tokenizer(), name="mine")
        assert backend.name == "mine"
        assert not model.training
        assert 1 in backend.codec.eos  # of the generation config

    def test_a_model_without_any_end_of_sequence(self):
        model = copy.deepcopy(tiny.model("llama"))
        model.generation_config.eos_token_id = model.config.eos_token_id = None
        with pytest.raises(ConfigError, match="eos_token="):
            wrap(model, tiny.byte_level_tokenizer(eos_token=None))

    def test_several_ends_of_sequence(self):
        model = copy.deepcopy(tiny.model("llama"))
        model.generation_config.eos_token_id = [5, 6]
        assert wrap(model, tiny.byte_level_tokenizer()).codec.eos > {5, 6}

    def test_a_model_that_gives_nan(self):
        model = copy.deepcopy(tiny.model("llama"))
        with torch.no_grad():
            model.model.norm.weight.fill_(torch.nan)
        with pytest.raises(NumericalError, match="NaN"):
            wrap(model, tiny.byte_level_tokenizer())

    def test_an_engine_that_the_model_cannot_have(self):
        with pytest.raises(UnsupportedError, match="'trie'"):
            wrap(tiny.model("bloom"), tiny.byte_level_tokenizer(), engine="trie")


class TestContextLength:
    def test_the_config_comes_first(self):
        assert context_length(tiny.config("llama"), tiny.byte_level_tokenizer(model_max_length=7)) == 128
        assert context_length(tiny.config("gpt2"), tiny.byte_level_tokenizer()) == 128

    def test_then_the_tokenizer(self):
        assert context_length(tiny.config("mamba"), tiny.byte_level_tokenizer(model_max_length=77)) == 77

    def test_then_a_default(self):
        assert context_length(tiny.config("mamba"), tiny.byte_level_tokenizer()) == 4096


def test_the_saved_model_is_what_the_tests_say(saved):
    assert json.loads((saved / "config.json").read_text())["dtype"] == "float16"
