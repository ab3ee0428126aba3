"""`rain_generate` on tiny models: where all is judged good, it is `generate`, token for token."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from custom_generate.tiny_generation import (
    KINDS,
    TEXTS,
    Judge,
    Recorder,
    inputs,
    model,
    new_model,
    own_tokenizer,
)
from decoder_worlds import CRITERION
from scipy.stats import chisquare
from self_evaluation.reading.synthetic import probe
from transformers.generation import LogitsProcessor, StoppingCriteria

from rain_decoding import (
    ConfigError,
    InputError,
    NumericalError,
    RainDecoder,
    RainError,
    SearchConfig,
    UnsupportedError,
    rain_generate,
)
from rain_decoding.backends.transformers import wrap
from rain_decoding.custom_generate import models

LENGTH = 24
BAD = "th"
"""Letters that make an answer bad."""


def rain(kind: str, batch: Any = None, judge: Any = None, **options: Any) -> Any:
    return run(model(kind), batch, judge, **options)


def run(the_model: Any, batch: Any = None, judge: Any = None, **options: Any) -> Any:
    options = {"max_new_tokens": LENGTH, "rain_tokenizer": own_tokenizer(), "do_sample": False} | options
    batch = inputs() if batch is None else batch
    return the_model.generate(
        **batch, custom_generate=rain_generate, rain_criterion=judge or Judge(), **options
    )


def plain(kind: str, batch: Any = None, **options: Any) -> torch.Tensor:
    options = {"max_new_tokens": LENGTH, "do_sample": False} | options
    return model(kind).generate(**(inputs() if batch is None else batch), **options)


class OddRows(LogitsProcessor):
    """Bans in every row what its number and the last two tokens say."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        for row in range(len(input_ids)):
            first = int(input_ids[row, -2:].sum()) + row
            scores[row, first % 3 :: 3] = -float("inf")
        return scores


class InPlace(LogitsProcessor):
    """Changes what it is given."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[torch.arange(len(input_ids)), input_ids[:, -1]] -= 5
        return scores


class RowLengths(StoppingCriteria):
    """Stops row r after 5 + 3 r new tokens."""

    def __init__(self, width: int):
        self.width = width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        new = input_ids.shape[1] - self.width
        return torch.tensor([new >= 5 + 3 * row for row in range(len(input_ids))])


class Repeats(StoppingCriteria):
    """Stops where the last token stands in the text already."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.tensor([int((row == row[-1]).sum()) > 2 for row in input_ids])


EVERYWHERE = ("nothing", "repetition penalty", "own, by row", "own stops, by row")
"""Options that are tried on every model."""
WIDTH = inputs()["input_ids"].shape[1]
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "repetition penalty": {"repetition_penalty": 1.5},
    "no repeated n-grams": {"no_repeat_ngram_size": 2},
    "prompt's tokens": {"encoder_repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 1},
    "bad words": {"bad_words_ids": [[206], [149, 90]], "suppress_tokens": [40, 124]},
    "sequence bias": {"sequence_bias": {(40,): 3.0, (41, 42): 8.0}},
    "at least": {"min_new_tokens": 20, "eos_token_id": list(range(30, 120))},
    "several ends": {"eos_token_id": list(range(30, 50))},
    "not the tokenizer's end": {"eos_token_id": 264, "sequence_bias": {(0,): 8.0}, "pad_token_id": 5},
    "total length": {"max_new_tokens": None, "max_length": WIDTH + 13},
    "a forced end": {"forced_eos_token_id": 0},
    "decay": {"exponential_decay_length_penalty": (5, 1.4)},
    "allowed tokens": {"prefix_allowed_tokens_fn": lambda row, ids: list(range(20 + row, 200, 2 + row))},
    "own, by row": {"logits_processor": [OddRows(), InPlace()]},
    "own stops, by row": {"stopping_criteria": [RowLengths(WIDTH)]},
    "own stops, by text": {"stopping_criteria": [Repeats()], "repetition_penalty": 1.2},
}


CASES = [
    (kind, name)
    for place, name in enumerate(OPTIONS)
    for kind in (KINDS if name in EVERYWHERE else (KINDS[place % len(KINDS)],))
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_good_text_is_generates_own(kind: str, name: str) -> None:
    assert torch.equal(rain(kind, **OPTIONS[name]), plain(kind, **OPTIONS[name]))


@pytest.mark.parametrize("name", list(OPTIONS)[1:])
def test_the_options_do_something(name: str) -> None:
    assert any(not torch.equal(plain(kind), plain(kind, **OPTIONS[name])) for kind in KINDS)


@pytest.mark.parametrize("name", ["repetition penalty", "own, by row"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_may_be_on_either_side(kind: str, name: str) -> None:
    options = OPTIONS[name]
    left, right = rain(kind, **options), rain(kind, inputs(side="right"), **options)
    assert torch.equal(left[:, WIDTH:], right[:, WIDTH:])
    assert torch.equal(right[:, :WIDTH], inputs(side="right")["input_ids"])


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_batch_is_what_each_prompt_gives_alone(kind: str) -> None:
    judge = Judge(bad=BAD)
    options: dict[str, Any] = {"rain_seed": 5, "eos_token_id": list(range(30, 50)), "pad_token_id": 0}
    batch = rain(kind, judge=judge, **options)
    for row, text in enumerate(TEXTS):
        alone = rain(kind, inputs([text]), Judge(bad=BAD), **options)[0]
        alone = alone[len(own_tokenizer()(text)["input_ids"]) :]
        assert batch[row, WIDTH : WIDTH + len(alone)].tolist() == alone.tolist()
        assert set(batch[row, WIDTH + len(alone) :].tolist()) <= {0}


@pytest.mark.parametrize(
    "config", ["balanced", SearchConfig.preset("paper-hh", max_simulations=4)], ids=["balanced", "paper"]
)
def test_bad_text_is_searched_as_by_the_decoder(config: Any) -> None:
    """The same model behind `wrap`, the same judge: the same tokens."""
    backend = wrap(model("qwen2"), own_tokenizer())
    search = SearchConfig.preset(config) if isinstance(config, str) else config
    decoder = RainDecoder(backend, Judge(bad=BAD), search, prompt_format="text")
    limit = 20 if isinstance(config, str) else 7
    out = rain(
        "qwen2", judge=Judge(bad=BAD), rain_config=config, rain_seed=3, max_new_tokens=limit,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert any(completion.usage.rewinds for completion in out.completions)
    for row, text in enumerate(TEXTS[:2]):
        expected = decoder.generate(text, seed=3, max_tokens=limit)
        assert out.completions[row].tokens == expected.tokens
        assert out.completions[row].score == expected.score
        new = out.sequences[row, WIDTH:].tolist()
        assert len(new) <= limit and new[: len(expected.tokens)] == list(expected.tokens)[:limit]


def test_every_branch_is_processed_and_no_judge_prompt() -> None:
    """A real judge, whose labels are banned from the answer; processors see branches of the prompt only."""
    seen: list[list[int]] = []
    labels = [own_tokenizer().convert_tokens_to_ids(label) for label in "AB"]

    class Watching(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            seen.extend(input_ids.tolist())
            scores[:, labels] = -float("inf")
            return scores

    batch = inputs(TEXTS[:1])
    prompt = batch["input_ids"][0].tolist()
    options: dict[str, Any] = {"rain_criterion": CRITERION, "return_dict_in_generate": True}
    config = SearchConfig.preset("balanced", min_label_mass=0.0, accept_value=0.9)
    out = new_model("llama", max_position_embeddings=512).generate(
        **batch, custom_generate=rain_generate, max_new_tokens=12, logits_processor=[Watching()],
        rain_tokenizer=own_tokenizer(), rain_config=config, **options,
    )  # fmt: skip
    assert len(seen) > 12 and all(ids[: len(prompt)] == prompt for ids in seen)
    (completion,) = out.completions
    assert completion.score is not None and completion.usage.rewinds
    assert not set(completion.tokens) & set(labels)


def test_sampling_follows_the_warped_distribution() -> None:
    copies = 600
    batch = inputs(TEXTS[:1])
    drawn = rain(
        "llama", batch, do_sample=True, temperature=0.7, top_k=4, num_return_sequences=copies,
        max_new_tokens=1, rain_seed=1,
    )[:, -1].tolist()  # fmt: skip
    with torch.inference_mode():
        logits = model("llama")(**batch).logits[0, -1] / 0.7
    best = logits.topk(4)
    expected = torch.softmax(best.values.double(), 0).numpy() * copies
    counts = [drawn.count(token) for token in best.indices.tolist()]
    assert sum(counts) == copies
    assert chisquare(counts, expected * copies / expected.sum()).pvalue > 1e-3


def test_seeds() -> None:
    options: dict[str, Any] = {"do_sample": True, "num_return_sequences": 3}
    one = rain("llama", rain_seed=4, **options)
    assert torch.equal(one, rain("llama", rain_seed=4, **options))
    assert len({tuple(row) for row in one[:3].tolist()}) == 3, "copies differ"
    assert torch.equal(one[::3], rain("llama", rain_seed=4, do_sample=True)), (
        "the first one is the only one's"
    )
    torch.manual_seed(8)
    first, second = (rain("llama", **options) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(8)
    assert torch.equal(first, rain("llama", **options)), "torch's seed is heeded"


def test_stop_strings_end_a_text() -> None:
    whole = own_tokenizer().decode(plain("gpt2", inputs(TEXTS[:1]))[0])
    word = whole[len(TEXTS[0]) :][9:11]
    out = rain("gpt2", inputs(TEXTS[:1]), rain_stop=[word])
    text = own_tokenizer().decode(out[0])
    assert whole.startswith(text) and text.index(word, len(TEXTS[0])) >= len(text) - 4
    assert torch.equal(rain("gpt2", inputs(TEXTS[:1]), rain_stop=word), out)
    unstopped = rain("gpt2", inputs(TEXTS[:1]))
    for nothing in (None, "", [""], ()):
        assert torch.equal(rain("gpt2", inputs(TEXTS[:1]), rain_stop=nothing), unstopped)


def test_a_streamer_is_given_the_prompt_and_then_every_token() -> None:
    mine, theirs = Recorder(), Recorder()
    batch = inputs(TEXTS[1:2])
    out = rain("qwen3", batch, rain_streamer=mine)
    plain("qwen3", batch, streamer=theirs)
    assert mine.ended == theirs.ended == 1
    assert [v.tolist() for v in mine.values] == [v.tolist() for v in theirs.values]
    assert torch.cat([v.flatten() for v in mine.values]).tolist() == out[0].tolist()
    with pytest.raises(InputError, match="3 prompts"):
        rain("qwen3", rain_streamer=mine)


def test_transformers_own_streamer_prints_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    streamer = transformers.TextStreamer(own_tokenizer(), skip_prompt=True)
    out = rain("llama", inputs(TEXTS[:1]), rain_streamer=streamer)
    answer = out[0, len(own_tokenizer()(TEXTS[0])["input_ids"]) :]
    assert capsys.readouterr().out == own_tokenizer().decode(answer) + "\n"


def test_the_engine_is_found_once_and_its_cache_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    choose = models.choose_engine
    monkeypatch.setattr(models, "choose_engine", lambda *a, **k: found.append(choose(*a, **k)) or found[-1])
    mine = new_model("llama")
    first, second = (run(mine, return_dict_in_generate=True) for _ in range(2))
    assert len(found) == 1 and found[0].shares_prefixes
    cost = [sum(c.usage.search_tokens for c in out.completions) for out in (first, second)]
    assert cost[1] == 0 < cost[0]
    expected = second.sequences
    with torch.no_grad():
        mine.lm_head.weight.mul_(-1)
    changed = run(mine)
    assert len(found) == 2 and not torch.equal(changed, expected)
    assert torch.equal(changed, mine.generate(**inputs(), max_new_tokens=LENGTH, do_sample=False))


def test_a_model_is_not_kept_alive_and_stays_in_training() -> None:
    mine = new_model("qwen2").train()
    mine.model.layers[0].eval()
    states = [module.training for module in mine.modules()]
    run(mine)
    assert [module.training for module in mine.modules()] == states
    gone = weakref.ref(mine)
    del mine
    gc.collect()
    assert gone() is None


def test_the_tokenizer_is_found_where_the_model_came_from(tmp_path: Any) -> None:
    model("llama").save_pretrained(tmp_path)
    own_tokenizer().save_pretrained(tmp_path)
    mine = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(run(mine, rain_tokenizer=None), plain("llama"))
    with pytest.raises(InputError, match="tokenizer") as caught:
        run(new_model("llama"), rain_tokenizer=None)
    assert "rain_tokenizer=" in caught.value.hint


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "beams": ({"num_beams": 2}, "num_beams=1"),
    "lookup": ({"prompt_lookup_num_tokens": 2}, "prompt_lookup_num_tokens"),
    "contrastive": ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"),
    "guidance": ({"guidance_scale": 1.5}, "guidance_scale"),
    "scores": ({"output_scores": True, "return_dict_in_generate": True}, "output_scores"),
    "cache": ({"past_key_values": transformers.DynamicCache()}, "past_key_values"),
    "paper": ({"do_sample": True, "rain_config": "paper-hh"}, "do_sample=False"),
    "messages": (
        {"rain_messages": [[{"role": "user", "content": "x"}]] * 2},
        "2 conversations for 3 prompts",
    ),
    "typing error": ({"rain_config": "balance"}, "presets"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_honoured_is_an_error_that_says_so(name: str) -> None:
    options, message = ERRORS[name]
    with pytest.raises(RainError) as caught:
        rain("llama", **options)
    assert message in str(caught.value)


def test_other_models_and_masks_are_errors() -> None:
    t5 = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    )
    with pytest.raises(UnsupportedError, match="encoder-decoder"):
        run(t5)
    batch = inputs()
    batch["attention_mask"][1, 3] = 0
    with pytest.raises(InputError, match="holes"):
        rain("llama", batch)
    with pytest.raises(InputError, match="empty"):
        rain("llama", {**batch, "attention_mask": torch.zeros_like(batch["attention_mask"])})


def test_processors_that_ban_everything_are_an_error_and_leave_nothing_behind() -> None:
    class Nothing(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return torch.full_like(scores, -np.inf)

    with pytest.raises(NumericalError, match="rule out every token"):
        rain("llama", logits_processor=[Nothing()])
    assert torch.equal(rain("llama"), plain("llama"))


def test_a_saved_probe_of_this_model_judges(tmp_path: Path) -> None:
    own, batch = model("llama"), inputs(TEXTS[:1])
    backend = wrap(own, own_tokenizer())
    width, layer = own.config.hidden_size, max(backend.capabilities.layers)
    line: dict[str, Any] = {"weights": np.zeros((1, 2 * width)), "threshold": 0.0, "patience": 0.0}
    for bias, flagged in ((9.0, False), (-9.0, True)):
        fitted = probe(
            layers=(layer,), model=backend.fingerprint, criterion_name="harmlessness", bias=bias, **line
        )
        fitted.save(tmp_path / "probe.json")
        judge = f"read#probe={tmp_path / 'probe.json'}"
        out = own.generate(
            **batch,
            max_new_tokens=12,
            do_sample=False,
            return_dict_in_generate=True,
            custom_generate=rain_generate,
            rain_tokenizer=own_tokenizer(),
            rain_criterion="harmlessness",
            rain_judge=judge,
        )
        (completion,) = out.completions
        assert completion.flagged is flagged and (completion.score < 0) is flagged
    with pytest.raises(ConfigError, match="the probe is of the model"):
        run(model("qwen2"), batch, "harmlessness", rain_judge=judge)
    with pytest.raises(ConfigError, match="judges by itself"):
        rain("llama", batch, rain_judge="ask")
