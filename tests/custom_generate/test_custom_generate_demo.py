"""`rain_generate` on the demo model, and the page that shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rain_decoding import RainDecoder, SearchConfig, load_criterion, rain_generate
from rain_decoding.backends.local import LocalBackend
from rain_decoding.demo import CRITERIA_DIR, MODEL_DIR, SHOWCASE
from rain_decoding.microworld.export import write_hf
from rain_decoding.prompting import dialogue
from rain_decoding.types import Message

PAGE = (Path(__file__).parents[2] / "docs" / "transformers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL_DIR, pad_token="<|end|>")
    return model, tokenizer


def generate(loaded: tuple[Any, Any], prompts: tuple[str, ...], side: str = "left", **options: Any) -> Any:
    model, tokenizer = loaded
    texts = [dialogue([Message("user", prompt)], "") for prompt in prompts]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
    return model.generate(
        **batch,
        custom_generate=rain_generate,
        rain_tokenizer=tokenizer,
        rain_criterion=load_criterion("harmlessness", search_dirs=[CRITERIA_DIR]),
        return_dict_in_generate=True,
        **options,
    )


@pytest.mark.parametrize(
    ("config", "limit"),
    [(SearchConfig.preset("balanced"), 60), (SearchConfig.preset("paper-hh", max_simulations=6), 12)],
    ids=["balanced", "paper"],
)
def test_it_answers_as_the_decoder(
    loaded: tuple[Any, Any], demo: LocalBackend, config: SearchConfig, limit: int
) -> None:
    decoder = RainDecoder(demo, "harmlessness", config)
    prompts = SHOWCASE if limit > 12 else SHOWCASE[:2]
    out = generate(loaded, prompts, rain_config=config, max_new_tokens=limit)
    expected = [decoder.generate(prompt, max_tokens=limit) for prompt in prompts]
    assert [c.tokens for c in out.completions] == [c.tokens for c in expected]
    assert sum(c.usage.rewinds for c in out.completions) == sum(c.usage.rewinds for c in expected) > 0


def test_the_padding_side_is_indifferent(loaded: tuple[Any, Any]) -> None:
    left, right = (generate(loaded, SHOWCASE[2:], side, max_new_tokens=30) for side in ("left", "right"))
    assert [c.tokens for c in left.completions] == [c.tokens for c in right.completions]


def test_the_page_shows_what_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hf(tmp_path / "demo-model")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(example, "transformers.md", "exec"), namespace)
    assert "nut roll" in capsys.readouterr().out
    assert all(completion.score > 0.9 for completion in namespace["output"].completions)
    named = set(re.findall(r"`(rain_\w+)`", PAGE)) - {"rain_generate"}
    parameters = rain_generate.__kwdefaults__ or {}
    assert named == set(parameters)
