"""Options of a model's loader in text form."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest

from rain_decoding import load_backend
from rain_decoding.backends import BACKENDS, options_of, read_options
from rain_decoding.errors import ConfigError, ModelNotFoundError

NOT_AS_TEXT = {
    "name", "file", "display_name", "criteria_dirs", "dialogue_header", "known_models", "quantization_config",
    "model_kwargs", "api_key", "trust_model_criteria",
}  # fmt: skip
"""Objects, and what does not belong into records."""


@pytest.mark.parametrize("form", ["demo", "gguf", "hf", "openai"])
def test_the_options_are_those_of_the_loader(form: str) -> None:
    """Names and types, by the loaders' own signatures."""
    from rain_decoding.backends.gguf import loading as gguf
    from rain_decoding.backends.openai import loading as openai
    from rain_decoding.backends.transformers import loading as hf

    loader = {"demo": hf, "hf": hf, "gguf": gguf, "openai": openai}[form].load
    parameters = inspect.signature(loader, eval_str=True).parameters
    options = options_of(BACKENDS[form])
    of_hub_only = {"revision", "trust_remote_code"} if form == "demo" else set()
    # The package's `load` of GGUF takes keep_hidden before it calls the loader.
    assert options.keys() - {"keep_hidden"} == parameters.keys() - NOT_AS_TEXT - of_hub_only - {"keep_hidden"}
    for name, option in options.items():
        annotation: Any = parameters[name].annotation if name in parameters else bool
        kinds = {*get_args(annotation), annotation}
        if isinstance(option.kind, tuple):
            literals = {value for kind in kinds for value in get_args(kind) if isinstance(value, str)}
            assert literals <= set(option.kind)
            assert literals or str in kinds
        else:
            assert option.kind in kinds, name


def test_values_have_the_options_types() -> None:
    settings = ["threads=2", "flash_attention=off", "kv_dtype=f32", "eos_token=<a=b>", "threads=3"]
    assert read_options("gguf:model.gguf", settings) == {
        "threads": 3,
        "flash_attention": False,
        "kv_dtype": "f32",
        "eos_token": "<a=b>",
    }
    assert read_options("openai:http://127.0.0.1/v1", ["timeout=2.5", "chat=on"]) == {
        "timeout": 2.5,
        "chat": True,
    }
    assert read_options("scripted:file.toml", []) == {}


@pytest.mark.parametrize(
    ("model", "setting", "message"),
    [
        ("gguf:a.gguf", "threads", "NAME=VALUE"),
        ("gguf:a.gguf", "thread=2", "gguf:FILE has no engine option 'thread'.*threads"),
        ("gguf:a.gguf", "threads=many", "threads = 'many'.*a whole number"),
        ("gguf:a.gguf", "kv_dtype=q4", "kv_dtype = 'q4'.*f16, f32"),
        ("gguf:a.gguf", "flash_attention=maybe", "on or off"),
        ("hf:a", "dtype=int8", "float32"),
        ("demo", "revision=main", "demo has no engine option"),
        ("openai:http://a", "api_key=secret", "no engine option 'api_key'"),
        ("scripted:a", "threads=2", "leave it out"),
    ],
)
def test_what_cannot_be_read_is_said(model: str, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_options(model, [setting])


def test_a_model_of_no_form_has_no_options() -> None:
    with pytest.raises(ModelNotFoundError):
        read_options("gpt", ["threads=2"])


def test_a_backend_knows_what_it_was_loaded_with() -> None:
    backend = load_backend("demo", max_kv_slots=5000, dtype="float32")
    assert backend.engine_options == {"max_kv_slots": 5000, "dtype": "float32"}
    assert load_backend("demo").engine_options == {}
