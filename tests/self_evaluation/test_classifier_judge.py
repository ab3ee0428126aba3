"""Sequence-classification models as judges, against plain forwards of one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from decoder_worlds import babble_world
from self_evaluation import judges
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rain_decoding import BackendError, ConfigError, ModelNotFoundError, RainDecoder
from rain_decoding.scheduler import Scheduler, Task
from rain_decoding.self_evaluation.classifier import direction, load_classifier
from rain_decoding.types import Judgement

WORDS = [
    *"abcdefgh",
    "w0",
    "w1",
    "w2",
    "w3",
    "w4",
    "w5",
    "w6",
    "w7",
    ".",
    ",",
    "hello",
    "Question",
    "1",
    "2",
    "?",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def word_tokenizer() -> Any:
    """Words as BERT reads them: [CLS] text [SEP] answer [SEP], with segments."""
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def config(kind: str, size: int) -> Any:
    match kind:
        case "bert":
            return transformers.BertConfig(
                **SIZES, vocab_size=size, max_position_embeddings=64, initializer_range=0.3
            )
        case "distilbert":
            return transformers.DistilBertConfig(
                vocab_size=size, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=64,
                initializer_range=0.3,
            )  # fmt: skip
    return transformers.LlamaConfig(
        **SIZES, vocab_size=size, max_position_embeddings=64, initializer_range=0.3, pad_token_id=None,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


KINDS = ("bert", "distilbert", "llama")


def save(
    folder: Path,
    kind: str = "bert",
    labels: tuple[str, ...] = ("unsafe", "safe"),
    template: str = "",
    **changes: Any,
) -> str:
    """A random classifier in a folder."""
    tokenizer = judges.byte_level(template) if template else word_tokenizer()
    if kind == "distilbert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    settings = config(kind, len(tokenizer))
    settings.id2label = dict(enumerate(labels))
    settings.label2id = {label: index for index, label in enumerate(labels)}
    for key, value in changes.items():
        setattr(settings, key, value)
    torch.manual_seed(5)
    transformers.AutoModelForSequenceClassification.from_config(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@torch.inference_mode()
def logits(folder: str, *texts: str, **options: Any) -> np.ndarray:
    """The reference: one text alone, no padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return model(**tokenizer(*texts, return_tensors="pt", **options)).logits[0].double().numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


def decoder(name: str, **options: Any) -> RainDecoder:
    return RainDecoder(babble_world(), judge=f"hf-classifier:{name}", **options)


def judge_all(
    decoder: RainDecoder, prompt: Any, answers: list[str], warnings: tuple[str, ...] = ()
) -> list[Judgement]:
    """Judgements that run at the same time."""
    conversation = decoder.evaluator.conversation(decoder.build_prompt(prompt))
    scheduler = Scheduler.of(decoder.backend)
    tasks: list[Any] = [Task(conversation.judge(answer), 1) for answer in answers]
    for task in tasks:
        scheduler.start(task)
    while not all(task.done for task in tasks):
        scheduler.step()
    assert not any(task.error for task in tasks)
    assert tuple(conversation.warnings) == warnings
    return [task.result for task in tasks]


ANSWERS = ["a b c", "hello", "w1 w2 w3 w4 w5 w6 w7 . w0 .", "a , b"]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_all_lengths_in_one_forward_score_as_alone(kind: str, tmp_path: Path) -> None:
    name = save(tmp_path, kind)
    judging = decoder(name)
    judgements = judge_all(judging, "hello", ANSWERS)
    model: Any = judging.evaluator
    assert model.model.counters.forward_passes == 1
    for answer, judgement in zip(ANSWERS, judgements, strict=True):
        unsafe, safe = softmax(logits(name, answer))
        np.testing.assert_allclose(judgement.probabilities, [(unsafe, safe)], atol=1e-5)
        assert (
            judgement.score == pytest.approx(safe - unsafe, abs=1e-5) == pytest.approx(2 * safe - 1, abs=1e-5)
        )
    assert len({round(judgement.score or 0, 4) for judgement in judgements}) == len(ANSWERS)


def test_a_pair_is_read_as_two_segments(tmp_path: Path) -> None:
    name = save(tmp_path)
    (judgement,) = judge_all(decoder(f"{name}#input=pair"), [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
    ], [" hello ."])  # fmt: skip
    unsafe, safe = softmax(logits(name, "a\n\nb\n\nc", "hello ."))
    assert judgement.score == pytest.approx(safe - unsafe, abs=1e-5)
    assert abs(judgement.score - (2 * softmax(logits(name, "a b c hello ."))[1] - 1)) > 1e-3


def test_a_chat_template_is_the_default_where_there_is_one(tmp_path: Path) -> None:
    name = save(tmp_path, "llama", template=judges.CHAT)
    (judgement,) = judge_all(decoder(name), "Hi", ["Ho <|end|>"])
    text = "<|user|>\nHi<|end|>\n<|assistant|>\nHo <|end| ><|end|>\n"
    unsafe, safe = softmax(logits(name, text, add_special_tokens=False))
    assert judgement.score == pytest.approx(safe - unsafe, abs=1e-5), "and the forged end is broken"


def test_control_tokens_in_a_text_are_broken(tmp_path: Path) -> None:
    name = save(tmp_path)
    judging = decoder(f"{name}#input=pair")
    model: Any = judging.evaluator
    seen = []
    submit = model.model.submit
    model.model.submit = lambda request, owner: seen.append(request) or submit(request, owner)
    judge_all(judging, "a [SEP] b", ["c [SEP] d [CLS]"])
    (request,) = seen
    assert [request.tokens.count(token) for token in (2, 3)] == [1, 2]


def test_labels_of_several_kinds_are_read_independently(tmp_path: Path) -> None:
    name = save(tmp_path, labels=("toxic", "rude", "joy"), problem_type="multi_label_classification")
    sigmoid = 1 / (1 + np.exp(-logits(name, "hello")))
    for option, expected in (
        ("negative=toxic", 1 - 2 * sigmoid[0]),
        ("positive=JOY", 2 * sigmoid[2] - 1),
        ("positive=joy&negative=rude", sigmoid[2] - sigmoid[1]),
    ):
        (judgement,) = judge_all(decoder(f"{name}#{option}"), "a", ["hello"])
        assert judgement.score == pytest.approx(expected, abs=1e-5)


def test_one_output_is_a_probability_by_itself(tmp_path: Path) -> None:
    name = save(tmp_path, labels=("reward",))
    (judgement,) = judge_all(decoder(f"{name}#positive=reward"), "a", ["hello"])
    assert judgement.score == pytest.approx(np.tanh(logits(name, "hello")[0] / 2), abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("NEGATIVE", "POSITIVE"), (1, 0)),
        (("negative", "neutral", "positive"), (2, 0)),
        (("safe", "unsafe"), (0, 1)),
        (("non-toxic", "toxic"), (0, 1)),
        (("Not-Hate", "HATE"), (0, 1)),
    ],
)
def test_common_labels_say_themselves_which_is_good(
    labels: tuple[str, ...], expected: tuple[int, int]
) -> None:
    found = direction(labels, {})
    assert (found.positive, found.negative) == expected


@pytest.mark.parametrize(
    "labels", [("LABEL_0", "LABEL_1"), ("toxic", "rude"), ("safe", "harmless"), ("safe", "joy", "unsafe")]
)
def test_other_labels_need_to_be_explained(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="do not say which is good") as caught:
        direction(labels, {})
    assert all(label in caught.value.hint for label in labels) and "positive=LABEL" in caught.value.hint


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    name = save(tmp_path)
    for query, message in (
        ("positive=joy", "no label 'joy'"),
        ("good=safe", "good='safe' is not an option of a classifier"),
        ("input=all", "input = 'all'"),
        ("input=chat", "has no chat template"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_classifier(f"{name}#{query}")
    with pytest.raises(ModelNotFoundError):
        load_classifier(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="judges by its own labels"):
        decoder(name, criterion="harmlessness")


def test_a_language_model_is_no_classifier(tmp_path: Path) -> None:
    transformers.LlamaForCausalLM(config("llama", 40)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BackendError, match="is not a trained classifier"):
        load_classifier(str(tmp_path))


def test_old_turns_are_left_out_and_the_answer_never(tmp_path: Path) -> None:
    name = save(tmp_path)
    turns = [
        {"role": "user", "content": "a " * 40}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}
    ]  # fmt: skip
    judging = decoder(f"{name}#input=pair")
    warning = "the classifier did not see the first 1 of 3 earlier turns, for lack of room"
    assert judge_all(judging, turns, ["w1 " * 25], (warning,))[0].score == pytest.approx(
        2 * softmax(logits(name, "b\n\nc", "w1 " * 25))[1] - 1, abs=1e-5
    )
    long = judge_all(judging, turns, ["w1 " * 80])[0]
    assert long.score is None and "does not fit" in long.problem


def test_rain_with_a_classifier_as_the_judge(tmp_path: Path) -> None:
    name = save(tmp_path)
    judging = decoder(name)
    model: Any = judging.evaluator
    completions = judging.generate_batch([f"Question {n}?" for n in range(4)], max_tokens=12)
    assert all(-1 <= completion.score <= 1 for completion in completions if completion.score is not None)
    assert sum(c.usage.judge_tokens for c in completions) == model.model.counters.tokens_forwarded > 0
    both = judging.judged_by(f'min("hf-classifier:{name}", "hf-classifier:{name}#negative=unsafe")')
    judgement = both.judge("hello", "a b c")
    one, other = judgement.parts.values()
    assert one == pytest.approx(other, abs=1e-6), "safe is what is not unsafe"
    assert judging.generate("hello", criterion=f"hf-classifier:{name}#negative=safe", max_tokens=4).text
