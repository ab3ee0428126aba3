"""Small GGUF files made on the spot: the demo model, and random models with a tokenizer to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from rain_decoding.backends import load_backend
from rain_decoding.backends.local import LocalBackend

WIDTH, CONTEXT = 32, 256
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["▁", "a", "b", "c", "o", "t", "▁a", "▁c", "at", "▁cat", "▁t", "é"]
TYPES = gguf.TokenType


def load(file: Path, **options: Any) -> LocalBackend:
    """The file's backend on one thread."""
    backend = load_backend(f"gguf:{file}", threads=1, **options)
    assert isinstance(backend, LocalBackend)
    return backend


def add_spaced_tokenizer(writer: gguf.GGUFWriter) -> int:
    """A SentencePiece tokenizer with "▁" for spaces and single bytes, as Llama 2 has it. Returns its size."""
    special = [("<unk>", TYPES.UNKNOWN), ("<s>", TYPES.CONTROL), ("</s>", TYPES.CONTROL)]
    added = [("<|eot|>", TYPES.CONTROL), ("<think>", TYPES.USER_DEFINED), ("smile", TYPES.USER_DEFINED)]
    tokens = (
        special + [(text, TYPES.BYTE) for text in BYTES] + [(text, TYPES.NORMAL) for text in WORDS] + added
    )
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_token_scores([float(len(text)) if kind == TYPES.NORMAL else 0.0 for text, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(len(tokens) - 3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    return len(tokens)


def random_llama(file: Path, *, template: str = "", poison: int | None = None) -> Path:
    """A one-layer random model; the embedding of the token `poison` is NaN."""
    writer = _writer(file, "llama", blocks=1)
    vocabulary = add_spaced_tokenizer(writer)
    if template:
        writer.add_chat_template(template)
    tensors = _block(0, norms=["attn_norm", "ffn_norm"]) | _ends(vocabulary)
    if poison is not None:
        tensors["token_embd"][poison] = np.nan
    return _written(writer, file, tensors)


def random_gemma(file: Path, *, window: int) -> Path:
    """A random model of six layers (Gemma 3), five of which see the last `window` tokens only."""
    writer = _writer(file, "gemma3", blocks=6)
    vocabulary = add_spaced_tokenizer(writer)
    writer.add_sliding_window(window)
    norms = ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"]
    tensors = _ends(vocabulary)
    for number in range(6):
        tensors |= _block(number, norms)
        tensors |= {f"blk.{number}.attn_{each}_norm": np.ones(WIDTH // 2) for each in "qk"}
    return _written(writer, file, tensors)


def _writer(file: Path, architecture: str, blocks: int) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(WIDTH // 2)
    writer.add_value_length(WIDTH // 2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    return writer


def _ends(vocabulary: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    drawn = {name: rng.normal(0, 0.3, (vocabulary, WIDTH)) for name in ("token_embd", "output")}
    return drawn | {"output_norm": np.ones(WIDTH)}


def _block(number: int, norms: list[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2 + number)
    square, half = (WIDTH, WIDTH), (WIDTH // 2, WIDTH)
    shapes = {"attn_q": square, "attn_k": half, "attn_v": half, "attn_output": square}
    shapes |= dict.fromkeys(("ffn_gate", "ffn_up", "ffn_down"), square)
    tensors = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    tensors |= {name: np.ones(WIDTH) for name in norms}
    return {f"blk.{number}.{name}": tensor for name, tensor in tensors.items()}


def _written(writer: gguf.GGUFWriter, file: Path, tensors: dict[str, np.ndarray]) -> Path:
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
