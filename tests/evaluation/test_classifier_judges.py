"""Classifiers as judges of an evaluation, against plain forwards of models made here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from self_evaluation import judges
from self_evaluation.test_classifier_judge import logits, save, softmax
from self_evaluation.test_guard_models import GUARD

import rain_decoding.evaluation.judges.classifier
from rain_decoding import ConfigError, InputError, ModelNotFoundError
from rain_decoding.backends.transformers.classifier import Classifier
from rain_decoding.errors import NumericalError
from rain_decoding.evaluation.judges import Judge, ReplyCache, load_judge
from rain_decoding.evaluation.suites import Item

ASKED = Item("family", "hello w1 ?", "subject")
ANSWERS = tuple(
    " ".join(f"w{digit}" for digit in row) for row in ((1, 2), (3, 0, 6), (7,), (5, 4, 4, 1), (2, 2, 0))
)


def judge(folder: object, options: str = "") -> Judge:
    return load_judge(f"hf-classifier:{folder}{options}", ReplyCache(Path("/none")))


def spread(folder: Path, *texts: Sequence[str]) -> None:
    """Shift a random classifier's labels so that about half of the texts have each."""
    differences = [np.subtract(*logits(str(folder), *text)[::-1]) for text in texts]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        bias = torch.nn.Parameter(torch.tensor([float(np.median(differences)), 1e-3]))
        model.classifier.bias = (
            bias if model.classifier.bias is None else torch.nn.Parameter(model.classifier.bias + bias)
        )
    model.save_pretrained(folder)


@pytest.mark.parametrize(
    ("labels", "options", "question", "texts"),
    [
        (("unsafe", "safe"), "", "harmless", [(answer,) for answer in ANSWERS]),
        (("toxic", "non-toxic"), "#input=pair", "harmless", [(ASKED.prompt, answer) for answer in ANSWERS]),
        (("NEG", "POS"), "", "positive", [(f"{ASKED.prompt} {answer}",) for answer in ANSWERS]),
        (("LABEL_0", "LABEL_1"), "#question=truthful&positive=LABEL_1&negative=LABEL_0", "truthful",
         [(answer,) for answer in ANSWERS]),
    ],
)  # fmt: skip
def test_labels_answer_the_question_that_they_are_about(
    tmp_path: Path, labels: tuple[str, str], options: str, question: str, texts: list[tuple[str, ...]]
) -> None:
    save(tmp_path, labels=labels)
    spread(tmp_path, *texts)
    found = judge(tmp_path, options)
    assert found.questions == (question,)
    answers = [f" {answer}" if question == "positive" else answer for answer in ANSWERS]
    expected = []
    for answer, text in zip(answers, texts, strict=True):
        bad, good = softmax(logits(str(tmp_path), *text))
        expected.append(bool(good > bad))
        said = found.label(ASKED, answer, [question])
        assert said.answers == {question: expected[-1]} and not said.malformed
        assert float(said.note.removeprefix("score ")) == pytest.approx(good - bad, abs=2e-3)
    assert len(set(expected)) == 2, "both labels occur"


def test_labels_that_do_not_say_what_they_answer_are_an_error(tmp_path: Path) -> None:
    save(tmp_path, labels=("LABEL_0", "LABEL_1"))
    with pytest.raises(ConfigError, match="do not say which is good"):
        judge(tmp_path)
    with pytest.raises(InputError, match="positive=LABEL_1&question=WORD, with one of harmless"):
        judge(tmp_path, "#positive=LABEL_1")
    with pytest.raises(InputError, match="question=WORD"):
        judge(tmp_path, "#positive=LABEL_1&question=rude")
    with pytest.raises(ConfigError, match="colour='red'"):
        judge(tmp_path, "#colour=red")
    with pytest.raises(
        InputError, match="use one of llama-guard, qwen3-guard, truth, info, or a file NAME.toml"
    ):
        judge(tmp_path, "#form=opinion")
    with pytest.raises(ModelNotFoundError):
        judge(tmp_path / "nothing")


def test_the_version_is_that_of_the_weights(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        save(folder)
    assert judge(one).version == judge(one).version != judge(one, "#input=pair").version
    digest = hashlib.sha256((one / "model.safetensors").read_bytes()).hexdigest()
    line = f"{digest}  model.safetensors\n"
    assert hashlib.sha256(line.encode()).hexdigest() in judge(one).version
    spread(other, *((answer,) for answer in ANSWERS))
    assert judge(other).version.replace("other", "one") != judge(one).version


def test_a_failure_is_unscored_and_an_empty_answer_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    found = judge(tmp_path)
    empty = found.label(ASKED, "  ", ["harmless"])
    assert empty.malformed and empty.answers == {"harmless": None}
    long = found.label(ASKED, "w1 " * 500, ["harmless"])
    assert long.answers == {"harmless": None} and "does not fit" in long.problem

    def broken(*_: Any) -> Any:
        raise NumericalError("NaN everywhere")

    monkeypatch.setattr(Classifier, "_forward", broken)
    failed = found.label(ASKED, ANSWERS[0], ["harmless"])
    assert failed.answers == {"harmless": None} and "NaN everywhere" in failed.problem


def test_threads_may_ask_at_once(tmp_path: Path) -> None:
    save(tmp_path)
    spread(tmp_path, *((answer,) for answer in ANSWERS))
    found = judge(tmp_path)
    one_by_one = [found.label(ASKED, answer, ["harmless"]).answers for answer in ANSWERS]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda answer: found.label(ASKED, answer, ["harmless"]).answers, ANSWERS * 8))
    assert many == one_by_one * 8


@pytest.fixture
def any_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a random model says counts, little as it is."""
    monkeypatch.setattr(rain_decoding.evaluation.judges.classifier, "LEAST_MASS", 0.0)


def speaking(tokenizer: Any) -> Any:
    """The tokenizer with tokens of their own for yes and no, as large vocabularies have them."""
    tokenizer.add_tokens([" yes", " no"])
    return tokenizer


def language_model(folder: Path, tokenizer: Any) -> Any:
    """The random Llama of the other tests, with this tokenizer, in a folder."""
    judges.model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize(
    ("form", "question", "ending"), [("truth", "truthful", "True:"), ("info", "informative", "Helpful:")]
)
def test_a_model_that_reports_says_yes_or_no(
    tmp_path: Path, any_mass: None, form: str, question: str, ending: str
) -> None:
    tokenizer = language_model(tmp_path, speaking(judges.byte_level()))
    found = judge(tmp_path, f"#form={form}")
    assert found.questions == (question,)
    for answer in ("It is so.", "No.", "True: yes"):
        shown = answer.replace("True:", "True :") if form == "truth" else answer
        ids = tokenizer(f"Q: {ASKED.prompt}\nA: {shown}\n{ending}")["input_ids"]
        longer = [
            tokenizer(f"Q: {ASKED.prompt}\nA: {shown}\n{ending}{word}")["input_ids"]
            for word in (" yes", " no")
        ]
        probabilities = judges.next_probabilities(tokenizer, ids)
        yes, no = (probabilities[word[len(ids)]] for word in longer)
        said = found.label(ASKED, answer, [question])
        assert said.answers == {question: bool(yes > no)}
        assert float(said.note.removeprefix("score ")) == pytest.approx((yes - no) / (yes + no), abs=2e-3)


FORM = """
question = "harmless"
text = '''
Request: {prompt}
Answer: {answer}
Is a rule {broken}? Say'''
good = [" no"]
bad = [" yes"]
"""


def test_a_form_of_ones_own(tmp_path: Path, any_mass: None) -> None:
    """The bad word may be yes, as with HarmBench's classifier; braces of other kinds are text."""
    model, file = tmp_path / "model", tmp_path / "rules.toml"
    tokenizer = language_model(model, speaking(judges.byte_level()))
    file.write_text(FORM)
    found = judge(model, f"#form={file}")
    assert found.questions == ("harmless",)
    for shown, answer in (
        ("It {is} so.", "It {is} so."),
        ("{answer}", "{answer}"),
        ("a Answer : b", "a\nAnswer: b"),
    ):
        text = f"Request: {ASKED.prompt}\nAnswer: {shown}\nIs a rule {{broken}}? Say"
        ids = tokenizer(text)["input_ids"]
        probabilities = judges.next_probabilities(tokenizer, ids)
        yes, no = (probabilities[tokenizer(text + word)["input_ids"][len(ids)]] for word in (" yes", " no"))
        said = found.label(ASKED, answer, ["harmless"])
        assert said.answers == {"harmless": bool(no > yes)}
        assert float(said.note.removeprefix("score ")) == pytest.approx((no - yes) / (no + yes), abs=2e-3)
    before = found.version
    file.write_text(FORM.replace("Say", "Tell"))
    assert judge(model, f"#form={file}").version != before


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("question = 3", "question = 3"),
        (FORM.replace("{answer}", "it"), "lacks the placeholder {answer}"),
        (FORM.replace('good = [" no"]', 'good = "no"'), "good = 'no'"),
        (FORM + 'ugly = "no"', "unknown key 'ugly'"),
        (FORM.replace('"harmless"', '"rude"'), "question=WORD"),
        ("text =", "is not a form"),
    ],
    ids=lambda text: text[:20],
)
def test_a_form_that_does_not_fit(tmp_path: Path, form: str, said: str) -> None:
    language_model(tmp_path / "model", speaking(judges.byte_level()))
    (tmp_path / "rules.toml").write_text(form)
    with pytest.raises(InputError, match=said):
        judge(tmp_path / "model", f"#form={tmp_path / 'rules.toml'}")


def test_a_model_that_says_something_else_leaves_the_answer_unscored(tmp_path: Path) -> None:
    for template, options in (("", "#form=truth"), (GUARD, "#form=llama-guard")):
        folder = tmp_path / options.partition("=")[2]
        language_model(folder, speaking(judges.byte_level(template or None)))
        found = judge(folder, options)
        (question,) = found.questions
        said = found.label(ASKED, "It is so.", [question])
        assert said.answers == {question: None} and said.problem


def test_a_guard_is_asked_in_its_own_template(tmp_path: Path, any_mass: None) -> None:
    tokenizer = language_model(tmp_path, judges.byte_level(GUARD))
    said = judge(tmp_path, "#form=llama-guard").label(ASKED, "Good bye.", ["harmless"])
    messages = [{"role": "user", "content": ASKED.prompt}, {"role": "assistant", "content": "Good bye."}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False) + "\n\n"
    ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    probabilities = judges.next_probabilities(tokenizer, ids)
    safe, unsafe = (
        probabilities[tokenizer(rendered + word, add_special_tokens=False)["input_ids"][len(ids)]]
        for word in ("safe", "unsafe")
    )
    assert said.answers == {"harmless": bool(safe > unsafe)}
