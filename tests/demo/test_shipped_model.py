"""The model that ships: small, complete, loadable, and of this world. Its figures are not tested."""

import json

import pytest

from rain_decoding.demo import MODEL_DIR
from rain_decoding.microworld import example_prompts, find_request, label

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from demo_model.measure import speak  # noqa: E402
from demo_model.tokenizer import load_tokenizer  # noqa: E402

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def test_folder_is_complete_and_small() -> None:
    assert {path.name for path in MODEL_DIR.iterdir()} == FILES
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) <= 12 * 2**20
    assert json.loads((MODEL_DIR / "config.json").read_text())["max_position_embeddings"] == 1024


def test_it_speaks_the_language_of_its_world() -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(MODEL_DIR)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    requests = [find_request(prompt) for prompt in example_prompts("benign", 4)]
    answers = speak(model, tokenizer, requests, sampled=False)
    assert all(text.endswith(".") for text in answers)
    assert any(not label(r, text).malformed for r, text in zip(requests, answers, strict=True))
