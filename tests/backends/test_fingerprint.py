"""A model is known again by what it is."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from backends.transformers import tiny

from rain_decoding import load_backend
from rain_decoding.backends.fingerprint import of_file
from rain_decoding.backends.transformers.loading import fingerprint


def test_of_a_model_in_memory() -> None:
    model = copy.deepcopy(tiny.model("llama"))  # others use it, too
    known = fingerprint(model)
    assert fingerprint(model.to(torch.bfloat16)) == known, "another dtype is the same model"
    model.to(torch.float32)
    assert fingerprint(tiny.model("gpt2")) != known
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    assert fingerprint(model) != known


def test_of_a_model_that_is_offloaded() -> None:
    model = copy.deepcopy(tiny.model("llama"))
    model.model.norm.to("meta")
    assert fingerprint(model) == fingerprint(model) != fingerprint(tiny.model("llama"))


def test_of_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    for name, data in {"a": content, "b": content, "c": content[:-1] + b"!", "d": b"!" + content[1:]}.items():
        (tmp_path / name).write_bytes(data)
    a, b, c, d = (of_file(tmp_path / name) for name in "abcd")
    assert a == b and len({a, c, d}) == 3


def test_a_model_goes_by_another_name(tmp_path: Path) -> None:
    from rain_decoding.microworld.export import write_gguf

    write_gguf(tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_bytes((tmp_path / "a.gguf").read_bytes())
    one, other = (load_backend(f"gguf:{tmp_path / name}.gguf") for name in "ab")
    assert one.fingerprint == other.fingerprint and one.name != other.name
