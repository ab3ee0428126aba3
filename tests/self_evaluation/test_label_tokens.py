"""Label tokens stand where the tokenizer puts them in context."""

from __future__ import annotations

from typing import Any

import pytest
from self_evaluation import judges

from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.errors import CriterionError
from rain_decoding.self_evaluation.criterion import builtin_criteria, read_criterion
from rain_decoding.self_evaluation.evaluator import SelfEvaluator, encode_continuation, find_label_tokens
from rain_decoding.self_evaluation.rendering import Renderer

ALL = {name: read_criterion(path) for name, path in builtin_criteria().items()}
CRITERIA = {name: criterion for name, criterion in ALL.items() if criterion.placement != "template"}
"""Those that are asked in words of their own; for the others see test_guard_models."""


def by_offsets(tokenizer: Any, text: str, form: str) -> tuple[list[int], int]:
    """The reference, by the tokenizer's own offsets: the tokens before the label, and the label's first."""
    encoded = tokenizer(text + form, return_offsets_mapping=True, add_special_tokens=False)
    first = next(index for index, (_, end) in enumerate(encoded["offset_mapping"]) if end > len(text))
    return encoded["input_ids"][:first], encoded["input_ids"][first]


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("kind", judges.TOKENIZERS)
def test_labels_of_the_builtin_criteria_are_where_the_offsets_say(kind: str, name: str) -> None:
    tokenizer, criterion = judges.tokenizer(kind), CRITERIA[name]
    codec = HFCodec(tokenizer)
    renderer = Renderer(criterion, codec)
    text, start = renderer.judge_prompt("Human: Hi\n\nAssistant: Hello", criterion.orders[-1])
    found = find_label_tokens(codec, renderer.judge_prompt("", criterion.orders[0]), criterion.labels)
    prompt = codec.encode(text, start=start)
    ready = prompt[: len(prompt) - found.dropped]
    bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    for forms, ids in zip(criterion.labels, found.forms, strict=True):
        expected = [by_offsets(tokenizer, text, form) for form in forms]
        assert all([*bos, *before] == list(ready) for before, _ in expected)
        assert set(ids) == {label for _, label in expected}


@pytest.mark.parametrize("kind", judges.TOKENIZERS)
@pytest.mark.parametrize(
    ("lead", "labels"),
    [
        ("Answer:", (" A", " B")),
        ("Answer: ", ("A", "B")),
        ("Answer:", ("A", "B")),
        ("Answer: (", ("Yes", "No")),
        ("答案：（", ("是", "否")),
        ("Answer:\n", ("A", "B")),
    ],
)
def test_labels_that_merge_with_the_lead_or_not(kind: str, lead: str, labels: tuple[str, ...]) -> None:
    tokenizer = judges.tokenizer(kind)
    codec, text = HFCodec(tokenizer), f"Is it so?\n{lead}"
    expected = [by_offsets(tokenizer, text, form) for form in labels]
    if expected[0][1] == expected[1][1] or len({tuple(before) for before, _ in expected}) > 1:
        with pytest.raises(CriterionError, match=r"same token|no token of its own"):
            find_label_tokens(codec, (text, True), [(form,) for form in labels])
        return
    found = find_label_tokens(codec, (text, True), [(form,) for form in labels])
    assert found.forms == tuple((label,) for _, label in expected)
    prompt = codec.encode(text, start=False)
    assert list(prompt[: len(prompt) - found.dropped]) == expected[0][0]


def merging(*pairs: tuple[str, str]) -> HFCodec:
    """A tokenizer over single characters that knows these pairs besides."""
    import tokenizers
    import transformers

    pieces = [*sorted({*"Best: (AYesNoy)\n"}), *("".join(pair) for pair in pairs), "<end>"]
    model = tokenizers.models.BPE(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=list(pairs)
    )
    raw = tokenizers.Tokenizer(model)
    return HFCodec(transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>"))


def test_when_all_labels_merge_with_the_bracket_the_bracket_is_left_out() -> None:
    codec = merging(("(", "Y"), ("(", "N"))
    found = find_label_tokens(codec, ("Best:(", True), [("Yes",), ("No",)])
    assert found.dropped == 1
    assert found.forms == (codec.encode("(Y"), codec.encode("(N"))


def test_when_only_one_label_merges_the_other_has_no_token() -> None:
    with pytest.raises(CriterionError, match=r"label 'No' has no token of its own after 'Best:\('"):
        find_label_tokens(merging(("(", "Y")), ("Best:(", True), [("Yes",), ("No",)])


def test_labels_that_start_alike_are_refused() -> None:
    codec = merging()
    with pytest.raises(CriterionError, match=r"\['Yes', 'No'\] and \['Ny'\] start with the same token"):
        find_label_tokens(codec, ("Best:(", True), [("Yes", "No"), ("Ny",)])
    # Forms of one label may.
    assert find_label_tokens(codec, ("Best:(", True), [("Yes", "Y"), ("No",)]).forms[0] == codec.encode("Y")


def test_the_error_comes_when_the_evaluator_is_made(tmp_path: Any) -> None:
    criterion = judges.criterion(tmp_path, judges.POLITE.replace('["A", "B"]', '["Aa", "Ab"]'))
    with pytest.raises(CriterionError, match="same token"):
        SelfEvaluator(judges.backend(judges.tokenizer("byte-level")), criterion)


@pytest.mark.parametrize("kind", judges.TOKENIZERS)
@pytest.mark.parametrize("text", ["\n\nOptions:", " and on", "，然后", "A"])
def test_a_continuation_adds_its_text_and_nothing_else(kind: str, text: str) -> None:
    codec = HFCodec(judges.tokenizer(kind))
    before = codec.encode("Hello there")
    assert codec.decode(before + encode_continuation(codec, text)) == f"Hello there{text}"
