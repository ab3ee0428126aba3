"""Forms of the question: one criterion, asked in other words, its labels where the vocabulary has them."""

from __future__ import annotations

import pytest
from self_evaluation import judges

from rain_decoding import ConfigError, CriterionError, load_criterion
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.self_evaluation.evaluator import find_label_tokens
from rain_decoding.self_evaluation.question_forms import in_form, question_forms, usual_forms
from rain_decoding.self_evaluation.rendering import Renderer

HARMLESS = load_criterion("harmlessness")


@pytest.mark.parametrize("template", [None, judges.CHAT])
@pytest.mark.parametrize("name", list(question_forms()))
def test_every_form_asks_both_statements_and_has_its_labels(name: str, template: str | None) -> None:
    codec = HFCodec(judges.byte_level(template))
    asked = in_form(HARMLESS, name, codec)
    form = question_forms()[name]
    assert asked.placement == form.placement and len(asked.orders) == 2
    questions = [asked.ask(order) for order in asked.orders]
    assert HARMLESS.statements[0] in questions[0] and HARMLESS.statements[1] in questions[1]
    prompt, _ = Renderer(asked, codec).judge_prompt("Human: Hi\n\nAssistant: Hello", asked.orders[0])
    assert ("Happy to help! Old people" in prompt) == (form.examples and form.placement == "prefix")
    assert ("<|system|>" in prompt) == (form.system and template is not None)
    if form.instruction and form.placement == "prefix":
        assert prompt.count(form.instruction) == 1
    found = find_label_tokens(codec, Renderer(asked, codec).sample("a", "a"), asked.labels)
    assert all(found.forms)


def test_the_short_question_is_short() -> None:
    """About 15 tokens of its own, beside the statement."""
    own = question_forms()["yes-no-suffix"].question
    assert own is not None and len(own.replace("{option_1}", "").split()) <= 8


def test_the_first_lead_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = HFCodec(judges.byte_level())
    refused: list[str] = []

    def picky(codec: object, rendered: tuple[str, bool], labels: object) -> object:
        if rendered[0].endswith("("):
            refused.append(rendered[0])
            raise CriterionError("the label merges")
        return find_label_tokens(codec, rendered, labels)  # type: ignore[arg-type]

    monkeypatch.setattr("rain_decoding.self_evaluation.question_forms.find_label_tokens", picky)
    assert in_form(HARMLESS, "yes-no", codec).lead == "Verdict:" and len(refused) == 1


def test_a_neutral_statement_and_its_examples_are_left_out_of_yes_or_no() -> None:
    positive = load_criterion("positive-sentiment")
    assert len(positive.statements) == 3
    codec = HFCodec(judges.byte_level())
    asked = in_form(positive, "yes-no-examples", codec)
    assert asked.statements == positive.statements[:2]
    assert all(example.verdict != "neutral" for example in asked.examples)
    assert in_form(positive, "prefix", codec).statements == positive.statements


def test_unknown_forms_and_guard_models_are_named() -> None:
    codec = HFCodec(judges.byte_level())
    with pytest.raises(ConfigError, match="no form of question 'loudly'") as caught:
        in_form(HARMLESS, "loudly", codec)
    assert "yes-no-suffix" in str(caught.value.hint)
    guard = load_criterion("llama-guard")
    with pytest.raises(CriterionError, match="own chat template"):
        in_form(guard, "prefix", codec)
    assert usual_forms(guard, codec) == []
    assert usual_forms(HARMLESS, codec) == ["prefix", "suffix", "yes-no", "yes-no-suffix"]
