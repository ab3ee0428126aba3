"""The exported model against the shipped one: llama.cpp reads the same tokens and gives the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli.command import Rain, runner
from cyllama.llama import llama_cpp

from rain_decoding.backends.local import LocalBackend
from rain_decoding.demo import CRITERIA_DIR, MODEL_DIR
from rain_decoding.microworld.documents import document
from rain_decoding.self_evaluation.criterion import builtin_criteria


@pytest.fixture
def rain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rain:
    return runner(monkeypatch, capsys)


def llama(file: Path) -> Any:
    """The file's model in llama.cpp, which the binding asks for its vocabulary's size."""
    llama_cpp.disable_logging()
    return type("Model", (llama_cpp.LlamaModel,), {"n_vocab": 1500})(str(file), llama_cpp.LlamaModelParams())


def texts() -> list[str]:
    """Texts of the world, judge prompts among them, and texts the world never writes."""
    rng = np.random.default_rng(11)
    foreign = [file.read_text(encoding="utf-8") for file in builtin_criteria().values()]
    odd = [
        "",
        " ",
        "  two   spaces ",
        "a\n\n\nb \n",
        "naïve café 東京 🙂",
        "It's we'll 1234!? --",
        "\t\r\n",
        "'S 'LL",
    ]
    return [document(rng).text for _ in range(150)] + foreign + odd


def test_llama_cpp_reads_the_same_tokens(rain: Rain, demo: LocalBackend, tmp_path: Path) -> None:
    file = tmp_path / "demo.gguf"
    assert rain("demo", "export", "--gguf", file).code == 0
    model = llama(file)
    vocabulary = model.get_vocab()  # which does not keep the model alive
    seen = texts()
    assert sum("The right option is: (" in text for text in seen) > 10
    for text in seen:
        assert tuple(vocabulary.tokenize(text, True, False)) == demo.codec.encode(text)
        assert tuple(vocabulary.tokenize(text, False, True)) == demo.codec.encode(text, start=False)
    special = demo.codec.special_texts
    ids = [vocabulary.tokenize(text, False, True) for text in special]
    assert ids == [[vocabulary.token_bos()], [vocabulary.token_eos()]]


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 1e-3), ("f16", 0.05)])
def test_llama_cpp_gives_the_same_logits(
    rain: Rain, demo: LocalBackend, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    file = tmp_path / "demo.gguf"
    assert rain("demo", "export", "--gguf", file, "--dtype", dtype).code == 0
    params = llama_cpp.LlamaContextParams()
    params.n_ctx = params.n_batch = params.n_ubatch = 1024
    params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
    params.n_threads = params.n_threads_batch = 1
    context = llama_cpp.LlamaContext(llama(file), params)
    tokens = demo.codec.encode(document(np.random.default_rng(3)).text)
    batch = llama_cpp.LlamaBatch(n_tokens=1024, embd=0, n_seq_max=1)
    for position, token in enumerate(tokens):
        batch.add(token, position, [0], True)
    context.decode(batch)
    with torch.inference_mode():
        expected = demo.engine.model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()  # type: ignore[attr-defined]
    logits = np.array([context.get_logits_ith(row) for row in range(len(tokens))])
    assert np.abs(logits - expected).max() < tolerance
    context.close()


def test_the_folder_is_the_shipped_one_with_its_criteria(rain: Rain, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    assert rain("demo", "export", "--hf", folder).code == 0
    for written, shipped in ((folder, MODEL_DIR), (folder / "rain_criteria", CRITERIA_DIR)):
        files = {file.name: file.read_bytes() for file in written.iterdir() if file.is_file()}
        assert files == {file.name: file.read_bytes() for file in shipped.iterdir()}


def test_wrong_usage(rain: Rain, tmp_path: Path) -> None:
    assert "--gguf FILE" in rain("demo", "export").err
    result = rain("demo", "export", "--gguf", tmp_path / "none" / "demo.gguf")
    assert result.code == 2 and "cannot write" in result.err
