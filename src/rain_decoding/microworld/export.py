"""The demo model as files for other programs: a GGUF file for llama.cpp, or a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rain_decoding.backends.local import CRITERIA_FOLDER
from rain_decoding.demo import CRITERIA_DIR, GGUF_NAME, MODEL_DIR
from rain_decoding.errors import MissingDependencyError
from rain_decoding.extras import install

GgufType = Literal["f16", "f32"]
BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""From a tensor's name in a layer of transformers' Llama to its name in a block of llama.cpp's."""


def write_hf(folder: Path) -> None:
    """Copy the model and its criteria into `folder`, which is made, as `hf:FOLDER` and `from_pretrained` read it."""
    shutil.copytree(MODEL_DIR, folder, dirs_exist_ok=True)
    shutil.copytree(CRITERIA_DIR, folder / CRITERIA_FOLDER, dirs_exist_ok=True)


def write_gguf(file: Path, dtype: GgufType = "f32") -> None:
    """Write the model with its tokenizer to `file` as GGUF, the matrices as `dtype`.

    The weights are float16 and so the same in both; but with float16 matrices llama.cpp also rounds what it
    multiplies them with. Raises `MissingDependencyError` without the `gguf` and `safetensors` packages.
    """
    try:
        import gguf
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingDependencyError(f"writing GGUF needs {error.name}", hint=install("gguf")) from error
    config = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    _add_architecture(
        writer, config, gguf.LlamaFileType.MOSTLY_F16 if dtype == "f16" else gguf.LlamaFileType.ALL_F32
    )
    _add_tokenizer(writer, config, gguf.TokenType)
    for name, tensor in load_file(MODEL_DIR / "model.safetensors").items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = _interleaved(tensor, config["num_attention_heads"])
        matrix = tensor.ndim > 1 and dtype == "f16"
        writer.add_tensor(_gguf_name(name), tensor.astype(np.float16 if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_architecture(writer: Any, config: dict[str, Any], file_type: int) -> None:
    writer.add_name(GGUF_NAME)
    writer.add_license("apache-2.0")
    writer.add_file_type(file_type)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])


def _add_tokenizer(writer: Any, config: dict[str, Any], types: Any) -> None:
    """Byte-level BPE that splits as GPT-2 does; the beginning of a sequence is put first, nothing last."""
    tokenizer = json.loads((MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    control = {added["id"] for added in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=lambda token: vocabulary[token]))
    writer.add_token_types([types.CONTROL if i in control else types.NORMAL for i in range(len(vocabulary))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def _interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows `[heads * d, width]` reordered for llama.cpp, which rotates neighbours where transformers rotates halves."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _gguf_name(name: str) -> str:
    """The name llama.cpp knows the tensor by. The output matrix is the embedding's: it has no tensor."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{BLOCK_NAMES[rest.removesuffix('.weight')]}.weight"
