"""`hub/` is a repository that transformers loads RAIN from."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rain_decoding import ConfigError, load_criterion, rain_generate
from rain_decoding.demo import CRITERIA_DIR, MODEL_DIR, SHOWCASE

REPOSITORY = Path(__file__).parents[2] / "hub"


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(MODEL_DIR, pad_token="<|end|>")


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Copies of the repository's code go there, as transformers makes them."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path))


class Pieces:
    def __init__(self) -> None:
        self.tokens: list[int] = []

    def put(self, tokens: Any) -> None:
        self.tokens += tokens.flatten().tolist()

    def end(self) -> None: ...


def test_it_answers_as_the_function(loaded: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = loaded
    batch = tokenizer(f"Human: {SHOWCASE[0]}\n\nAssistant:", return_tensors="pt")
    options: dict[str, Any] = {
        "max_new_tokens": 40,
        "return_dict_in_generate": True,
        "repetition_penalty": 1.05,
        "rain_criterion": load_criterion("harmlessness", search_dirs=[CRITERIA_DIR]),
    }
    expected = model.generate(**batch, **options, custom_generate=rain_generate, rain_tokenizer=tokenizer)
    pieces = Pieces()
    found = model.generate(
        **batch,
        **options,
        custom_generate=str(REPOSITORY),
        trust_remote_code=True,
        tokenizer=tokenizer,
        streamer=pieces,
    )
    assert found.sequences.tolist() == expected.sequences.tolist()
    assert pieces.tokens == found.sequences[0].tolist()
    scores = [one.score for one in expected.completions]
    assert [one.score for one in found.completions] == pytest.approx(scores)


def test_arguments_reach_rain(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    batch = tokenizer(["Human: Hi\n\nAssistant:"] * 2, return_tensors="pt")
    recipe = {"custom_generate": str(REPOSITORY), "trust_remote_code": True, "tokenizer": tokenizer}
    out = model.generate(**batch, **recipe, max_new_tokens=4, rain_principle="The answer is polite.")
    assert out.shape[0] == 2
    with pytest.raises(ConfigError, match="unknown preset"):
        model.generate(**batch, **recipe, rain_config="fats")


def test_what_it_needs_is_named() -> None:
    """As transformers reads it: without extras."""
    (name,) = [
        line
        for line in (REPOSITORY / "custom_generate" / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert distribution(name).name == "rain-decoding"
