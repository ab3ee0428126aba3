"""Batches, tokenizer and training on a very small scale."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from demo_model.packing import encode, make_batch  # noqa: E402
from demo_model.tokenizer import BEGIN, END, train_tokenizer  # noqa: E402
from demo_model.train import TrainingPlan, train  # noqa: E402

from rain_decoding.microworld.documents import LABEL_WEIGHT, document  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer() -> "transformers.PreTrainedTokenizerFast":
    rng = np.random.default_rng(0)
    return train_tokenizer((document(rng).text for _ in range(600)), vocabulary=900)


def test_begin_is_added_only_when_asked_for(tokenizer: "transformers.PreTrainedTokenizerFast") -> None:
    with_begin = tokenizer("Human: Hello.")["input_ids"]
    bare = tokenizer("Human: Hello.", add_special_tokens=False)["input_ids"]
    assert with_begin == [tokenizer.convert_tokens_to_ids(BEGIN), *bare]
    assert tokenizer.decode(bare) == "Human: Hello."
    assert tokenizer.eos_token == END


def test_labels_are_single_and_distinct_tokens(tokenizer: "transformers.PreTrainedTokenizerFast") -> None:
    lead = "The right option is: ("
    before = tokenizer(lead)["input_ids"]
    ids = {tuple(tokenizer(lead + letter)["input_ids"][len(before) :]) for letter in "ABC"}
    assert len(ids) == 3
    assert all(len(label) == 1 for label in ids)
    first = {tokenizer(f"Answer:{label}")["input_ids"][3] for label in (" Yes", " No")}
    assert len(first) == 2


def test_parts_encode_like_the_whole_text(tokenizer: "transformers.PreTrainedTokenizerFast") -> None:
    rng = np.random.default_rng(1)
    documents = [document(rng) for _ in range(200)]
    for item, (ids, weights) in zip(documents, encode(documents, tokenizer), strict=True):
        assert ids == [*tokenizer(item.text)["input_ids"], tokenizer.eos_token_id]
        assert len(weights) == len(ids)
        assert (LABEL_WEIGHT in weights) == (len(item.parts) > 1)


def test_batches_repeat_and_are_well_filled(tokenizer: "transformers.PreTrainedTokenizerFast") -> None:
    batch, again = (make_batch(0, 3, rows=2, length=512, tokenizer=tokenizer) for _ in range(2))
    assert torch.equal(batch.tokens, again.tokens)
    assert not torch.equal(batch.tokens, make_batch(0, 4, 2, 512, tokenizer).tokens)
    assert (batch.tokens != tokenizer.eos_token_id).float().mean() > 0.8


def test_schedule() -> None:
    plan = TrainingPlan(tokens=1_000_000)
    rates = [plan.rate(step) for step in range(plan.steps)]
    assert max(rates) <= plan.learning_rate
    assert rates[0] < rates[5]
    assert rates[-1] < 0.05 * plan.learning_rate
    assert {plan.length(step) for step in range(plan.steps)} == {192, 512, 1024}


def test_training_learns_resumes_and_exports(
    tokenizer: "transformers.PreTrainedTokenizerFast", tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    small = {"hidden": 32, "layers": 1, "heads": 2, "feed_forward": 64, "batch_tokens": 1024}
    train(TrainingPlan(tokens=4 * 1024, **small), tmp_path)
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    train(TrainingPlan(tokens=6 * 1024, **small), tmp_path)
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (first["step"], second["step"]) == (4, 6)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert next(model.parameters()).dtype == torch.float16
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "model")("a") == tokenizer("a")
