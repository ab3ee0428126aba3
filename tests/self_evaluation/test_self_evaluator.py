"""Scores of the self-evaluator against plain forwards on judge prompts written out by hand."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from self_evaluation import judges

from rain_decoding.backends.scripted import ScriptedBackend, ScriptedCodec
from rain_decoding.errors import CriterionError
from rain_decoding.prompting import build_prompt
from rain_decoding.self_evaluation.criterion import builtin_criteria, principle_criterion, read_criterion
from rain_decoding.self_evaluation.evaluator import BOTH_ORDERS, SelfEvaluator
from rain_decoding.self_evaluation.rendering import common_prefix

EXAMPLES = (
    "Judge the answer.\n\n"
    "Human: Hello?\n\nAssistant: Go away.\n\n"
    "Options:\n(A) The answer is polite.\n(B) The answer is rude.\nThe better option is: (B)\n\n"
    "Human: Hello?\n\nAssistant: Good day!\n\n"
    "Options:\n(A) The answer is rude.\n(B) The answer is polite.\nThe better option is: (B)\n\n"
)
ASKED = (
    "\n\nOptions:\n(A) The answer is polite.\n(B) The answer is rude.\nThe better option is: (",
    "\n\nOptions:\n(A) The answer is rude.\n(B) The answer is polite.\nThe better option is: (",
)
NEUTRAL = (
    judges.POLITE.replace('["A", "B"]', '["A", "B", "C"]')
    .replace("(B) {option_2}", "(B) {option_2}\n(C) {option_3}")
    .replace('rude."\n\n', 'rude."\nneutral = "It is neither."\n\n')
)
YES_NO = """name = "honest"

[judge]
question = "Is it true, Yes or No?"
lead = "Verdict: ("

[options]
labels = [["Yes", "yes", "YES"], ["No", "no"]]
positive = "Yes"
negative = "No"
both_orders = false

[conversation]
user = "用户："
assistant = "助手："
cut_after_full_stop = true
"""


def ids(tokenizer: Any, text: str) -> list[int]:
    """As the tokenizer itself begins a sequence."""
    return list(tokenizer(text)["input_ids"])


def probability(tokenizer: Any, text: str, label: str) -> float:
    """Of the label's first token after `text`, by one fresh forward."""
    together = tokenizer(text + label, return_offsets_mapping=True)
    place = next(index for index, (_, end) in enumerate(together["offset_mapping"]) if end > len(text))
    whole = together["input_ids"]
    return float(judges.next_probabilities(tokenizer, whole[:place])[whole[place]])


@pytest.mark.parametrize("votes", ["hard", "soft"])
@pytest.mark.parametrize("kind", judges.TOKENIZERS)
def test_two_options_in_both_orders(kind: str, votes: Any, tmp_path: Path) -> None:
    tokenizer = judges.tokenizer(kind)
    spy = judges.Spy(judges.backend(tokenizer))
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path), votes=votes)
    prompt = build_prompt("Pick a lock?", spy.backend, prompt_format="dialogue")
    for answer in (" I cannot.", " Sure, 🙂 你好", ""):
        said = f"Human: Pick a lock?\n\nAssistant: {answer.strip()}".rstrip(" ")
        one, other = (f"{EXAMPLES}{said}{asked}" for asked in ASKED)
        positive_a, negative_b = (probability(tokenizer, one, label) for label in "AB")
        negative_a, positive_b = (probability(tokenizer, other, label) for label in "AB")
        if votes == "hard":
            score = ((1 if positive_a > negative_b else -1) + (1 if positive_b > negative_a else -1)) / 2
        else:
            score = (
                (positive_a - negative_b) / (positive_a + negative_b)
                + (positive_b - negative_a) / (positive_b + negative_a)
            ) / 2
        judgement = spy.run(judge.conversation(prompt).judge(answer))
        assert judgement.score == pytest.approx(score, abs=1e-5)
        expected = [[positive_a, negative_b], [positive_b, negative_a]]
        np.testing.assert_allclose(judgement.probabilities, expected, rtol=1e-4)
        assert judgement.text == said
        assert not judgement.remembered


@pytest.mark.parametrize("votes", ["hard", "soft", "debiased"])
def test_one_order_alone_decides_only_where_it_surely_says_good(votes: Any, tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    spy = judges.Spy(judges.backend(tokenizer))
    criterion = judges.criterion(tmp_path)
    prompt = build_prompt("Pick a lock?", spy.backend, prompt_format="dialogue")
    decided = []
    words = np.random.default_rng(0)
    for _ in range(16):
        answer = "".join(map(chr, words.integers(97, 123, size=12)))
        whole = spy.run(SelfEvaluator(spy.backend, criterion, votes=votes).conversation(prompt).judge(answer))
        last = whole.probabilities[-1]
        odds = math.log(last[0] / last[1])
        for margin in (0.0, 0.05, abs(odds) * 0.99, abs(odds) * 1.01):
            judge = SelfEvaluator(spy.backend, criterion, votes=votes, order_margin=margin)
            asked = len(spy.requests)
            judgement = spy.run(judge.conversation(prompt).judge(answer))
            sure = odds > margin
            decided.append(sure)
            assert len(spy.requests) - asked == (1 if sure else 2)
            if sure:
                soft = (last[0] - last[1]) / (last[0] + last[1])
                alone = {"hard": 1.0, "soft": soft, "debiased": math.tanh(odds / 2)}[votes]
                np.testing.assert_allclose(judgement.probabilities, [last], rtol=1e-5)
                assert judgement.score == pytest.approx(alone, abs=1e-5)
            else:
                np.testing.assert_allclose(judgement.probabilities, whole.probabilities, rtol=1e-5)
                assert judgement.score == pytest.approx(whole.score, abs=1e-5)
    assert {True, False} == set(decided)


def test_what_the_questions_of_both_orders_begin_with_is_forwarded_once(tmp_path: Path) -> None:
    spy = judges.Spy(judges.backend(judges.tokenizer("byte-level")))
    suffix = judges.criterion(tmp_path, judges.POLITE.replace("[judge]", '[judge]\nplacement = "suffix"'))
    prompt = build_prompt("Pick a lock?", spy.backend, prompt_format="dialogue")
    judge = SelfEvaluator(spy.backend, suffix, order_margin=BOTH_ORDERS / 2)  # one after the other
    judgement = spy.run(judge.conversation(prompt).judge("Never."))
    assert len(judgement.probabilities) == 2
    one, other = (request.prefix for request in spy.requests)
    shared = common_prefix(one, other)
    assert spy.backend.counters.tokens_forwarded == len(one) + len(other) - shared
    assert shared > len(prompt.tokens) + 10  # more than the conversation


@pytest.mark.parametrize("votes", ["hard", "soft"])
def test_a_neutral_option_stays_last_in_both_orders(votes: Any, tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    spy = judges.Spy(judges.backend(tokenizer))
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path, NEUTRAL), votes=votes)
    prompt = build_prompt("The film was", spy.backend, prompt_format="text")
    judgement = spy.run(judge.conversation(prompt).judge(" good, "))
    scores, rows = [], []
    option = "\n(C) It is neither.\nThe better"
    for swapped, asked in enumerate(ASKED):
        shots = EXAMPLES.replace("\nThe better", option)
        text = f"{shots}The film was good, {asked.replace(chr(10) + 'The better', option)}"
        a, b, neutral = (probability(tokenizer, text, label) for label in "ABC")
        positive, negative = (b, a) if swapped else (a, b)
        rows.append([positive, negative, neutral])
        if votes == "soft":
            scores.append((positive - negative) / (a + b + neutral))
        else:
            scores.append(0 if neutral > max(a, b) else 1 if positive > negative else -1)
    assert judgement.score == pytest.approx(sum(scores) / 2, abs=1e-5)
    np.testing.assert_allclose(judgement.probabilities, rows, rtol=1e-4)


@pytest.mark.parametrize("kind", judges.TOKENIZERS)
def test_one_chinese_yes_no_question_with_several_forms(kind: str, tmp_path: Path) -> None:
    tokenizer = judges.tokenizer(kind)
    spy = judges.Spy(judges.backend(tokenizer))
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path, YES_NO), votes="soft")
    prompt = build_prompt("一加一是多少？", spy.backend, prompt_format="dialogue")
    judgement = spy.run(judge.conversation(prompt).judge(" 是二。对吗？不，其实"))
    text = "用户：一加一是多少？\n\n助手：是二。\n\nIs it true, Yes or No?\nVerdict: ("
    yes = max(probability(tokenizer, text, form) for form in ("Yes", "yes", "YES"))
    no = max(probability(tokenizer, text, form) for form in ("No", "no"))
    assert judgement.score == pytest.approx((yes - no) / (yes + no), abs=1e-5)
    assert judgement.text == "用户：一加一是多少？\n\n助手：是二。"


def test_the_builtin_chinese_criterion_asks_in_chinese() -> None:
    tokenizer = judges.tokenizer("byte-level")
    spy = judges.Spy(judges.backend(tokenizer, context=8192))
    judge = SelfEvaluator(spy.backend, read_criterion(builtin_criteria()["harmlessness-zh"]), votes="soft")
    prompt = build_prompt("我该怎么办？", spy.backend, prompt_format="dialogue")
    judgement = spy.run(judge.conversation(prompt).judge(" 先冷静下来。"))
    one, other = spy.texts()
    assert one.endswith(
        "）\n\n用户：我该怎么办？\n\n助手：先冷静下来。\n\n选项：\n（A）助手的回答是无害的。\n"
        "（B）助手的回答是有害的。\n更恰当的选项是：（"
    )
    assert other.endswith("选项：\n（A）助手的回答是有害的。\n（B）助手的回答是无害的。\n更恰当的选项是：（")
    assert judgement.score is not None
    assert [len(row) for row in judgement.probabilities] == [2, 2]


def scripted(*rows: tuple[float, ...], forms: str = "ABC") -> ScriptedBackend:
    """A judge that gives these label probabilities, in the first and in the swapped order."""
    codec = ScriptedCodec(["<end>", *forms], "<end>")

    def logits(tokens: tuple[int, ...]) -> np.ndarray:
        swapped = "(A) The answer is rude." in codec.decode(tokens)[-150:]
        given = rows[min(int(swapped), len(rows) - 1)]
        whole = [1 - sum(given), *given, *[0.0] * (len(forms) - len(given))]
        with np.errstate(divide="ignore"):
            return np.log(np.array(whole))

    return ScriptedBackend(logits, codec)


def judged(folder: Path, *rows: tuple[float, ...], **options: Any) -> Any:
    text = NEUTRAL if len(rows[0]) == 3 else judges.POLITE
    spy = judges.Spy(scripted(*rows))
    judge = SelfEvaluator(spy.backend, judges.criterion(folder, text), **options)
    return spy.run(judge.conversation(judges.dialogue_prompt()).judge("Hm"))


@pytest.mark.parametrize(
    ("rows", "score"),
    [
        (((0.6, 0.3), (0.1, 0.8)), 1),
        (((0.6, 0.3), (0.6, 0.3)), 0),
        (((0.1, 0.2), (0.2, 0.1)), -1),
        (((0.3, 0.3), (0.3, 0.3)), -1),
        (((0.5, 0.5), (0.1, 0.3)), 0),
        (((0.2, 0.1, 0.6), (0.2, 0.1, 0.6)), 0),
        (((0.2, 0.1, 0.6), (0.1, 0.6, 0.2)), 0.5),
        (((0.1, 0.2, 0.6), (0.6, 0.1, 0.2)), -0.5),
        (((0.4, 0.1, 0.4), (0.1, 0.4, 0.4)), 1),
        (((0.0, 0.0), (0.0, 0.0)), -1),
    ],
)
def test_hard_votes(rows: Any, score: float, tmp_path: Path) -> None:
    assert judged(tmp_path, *rows).score == score


@given(
    rows=st.lists(st.lists(st.floats(1e-3, 0.3), min_size=3, max_size=3).map(tuple), min_size=2, max_size=2),
    count=st.sampled_from([2, 3]),
)
@settings(max_examples=25, deadline=None)
def test_soft_votes_are_the_mean_difference_of_the_shares(
    rows: list[Any], count: int, tmp_path_factory: Any
) -> None:
    rows = [row[:count] for row in rows]
    (a, b), (c, d) = rows[0][:2], rows[1][:2]
    expected = ((a - b) / sum(rows[0]) + (d - c) / sum(rows[1])) / 2
    judgement = judged(tmp_path_factory.mktemp("soft"), *rows, votes="soft")
    assert judgement.score == pytest.approx(expected, abs=1e-5)
    assert -1 <= judgement.score <= 1


def two_labels(log_odds: float, mass: float) -> tuple[float, float]:
    """Probabilities of A and B that hold `mass` together."""
    first = mass / (1 + math.exp(-log_odds))
    return first, mass - first


@given(
    rows=st.lists(st.lists(st.floats(1e-3, 0.3), min_size=3, max_size=3).map(tuple), min_size=2, max_size=2),
    count=st.sampled_from([2, 3]),
)
@settings(max_examples=25, deadline=None)
def test_debiased_votes_are_the_mean_of_the_log_odds(
    rows: list[Any], count: int, tmp_path_factory: Any
) -> None:
    rows = [row[:count] for row in rows]
    # Half of what the neutral option has counts for either side.
    (a, b), (c, d) = ([p + sum(row[2:]) / 2 for p in row[:2]] for row in rows)
    mean = (math.log(a / b) + math.log(d / c)) / 2
    judgement = judged(tmp_path_factory.mktemp("debiased"), *rows, votes="debiased")
    assert judgement.score == pytest.approx(math.tanh(mean / 2), abs=1e-5)


@pytest.mark.parametrize("opinion", [-6.0, -0.5, 0.0, 1.0, 4.0])
@pytest.mark.parametrize("preference", [-5.0, -1.0, 2.0, 6.0])
def test_a_preference_for_one_label_cancels(opinion: float, preference: float, tmp_path: Path) -> None:
    """`opinion` is the log-odds of the positive statement, `preference` what the label A gains anywhere."""
    rows = two_labels(opinion + preference, 0.9), two_labels(-opinion + preference, 0.6)
    debiased = judged(tmp_path, *rows, votes="debiased").score
    assert debiased == pytest.approx(math.tanh(opinion / 2), abs=1e-5)
    # Without a preference, soft votes say the same.
    plain = two_labels(opinion, 0.9), two_labels(-opinion, 0.6)
    assert judged(tmp_path, *plain, votes="soft").score == pytest.approx(debiased, abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "score"),
    [
        (((0.9, 0.0), (0.0, 0.9)), 1.0),
        (((0.0, 0.9), (0.9, 0.0)), -1.0),
        (((0.9, 0.0), (0.9, 0.0)), 0.0),
        (((0.0, 0.0), (0.0, 0.0)), 0.0),
        (((0.0, 0.0, 0.9), (0.0, 0.0, 0.9)), 0.0),
    ],
)
def test_debiased_votes_of_impossible_labels(rows: Any, score: float, tmp_path: Path) -> None:
    assert judged(tmp_path, *rows, votes="debiased").score == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize("mass", [0.0, 0.49, 0.51, 0.9])
def test_too_little_label_mass_in_either_order_is_unscored(mass: float, tmp_path: Path) -> None:
    judgement = judged(tmp_path, (0.3, 0.2), (0.8, 0.15), min_label_mass=mass)
    assert (judgement.score is None) == (mass > 0.5)
    assert bool(judgement.problem) == (mass > 0.5)
    np.testing.assert_allclose(judgement.probabilities, [(0.3, 0.2), (0.15, 0.8)], rtol=1e-5)


def test_the_mass_counts_all_forms_of_the_labels(tmp_path: Path) -> None:
    text = judges.POLITE.replace('["A", "B"]', '[["A", "C"], "B"]')
    spy = judges.Spy(scripted((0.3, 0.25, 0.2)))
    criterion = judges.criterion(tmp_path, text)
    prompt = judges.dialogue_prompt()
    for mass, scored in ((0.7, True), (0.8, False)):
        judge = SelfEvaluator(spy.backend, criterion, min_label_mass=mass)
        judgement = spy.run(judge.conversation(prompt).judge("Hm"))
        assert (judgement.score is not None) == scored


def test_a_text_is_judged_once(tmp_path: Path) -> None:
    spy = judges.Spy(scripted((0.6, 0.3)))
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path)).conversation(judges.dialogue_prompt())
    first = spy.run(judge.judge("Yes,"))
    assert len(spy.requests) == 2
    for same in ("Yes,", " Yes, ", "Yes,\n\nHuman: and more", "Yes,\ufffd"):
        again = spy.run(judge.judge(same))
        assert again.remembered
        assert (again.score, again.text, again.probabilities) == (
            first.score,
            first.text,
            first.probabilities,
        )
    assert len(spy.requests) == 2
    assert not spy.run(judge.judge("Yes")).remembered
    # Another conversation has its own memory.
    other = SelfEvaluator(spy.backend, judges.criterion(tmp_path)).conversation(judges.dialogue_prompt())
    assert not spy.run(other.judge("Yes,")).remembered


@pytest.mark.parametrize("stop", [".", "。", "．", "।"])
def test_the_answer_is_cut_after_its_last_full_stop(stop: str, tmp_path: Path) -> None:
    spy = judges.Spy(scripted((0.6, 0.3)))
    text = judges.POLITE.replace(
        "[[examples]]", "[conversation]\ncut_after_full_stop = true\n[[examples]]", 1
    )
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path, text)).conversation(
        judges.dialogue_prompt()
    )
    assert spy.run(judge.judge(f"One{stop} Two{stop} And")).text.endswith(f"Assistant: One{stop} Two{stop}")
    assert spy.run(judge.judge("no stop at all!")).text.endswith("Assistant: no stop at all!")


def test_generations_own_preamble_is_not_shown_to_the_judge(tmp_path: Path) -> None:
    backend = judges.backend(judges.tokenizer("byte-level"), dialogue_header="Human: Old?\n\nAssistant: Old.")
    spy = judges.Spy(backend)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "New?"}]
    prompt = build_prompt(messages, backend)
    judge = SelfEvaluator(backend, judges.criterion(tmp_path)).conversation(prompt)
    assert spy.run(judge.judge(" Yes.")).text == "Human: New?\n\nAssistant: Yes."


TURNS = [
    {"role": ("user", "assistant")[turn % 2], "content": f"turn {turn} " + "word " * 12} for turn in range(5)
]


def test_a_judge_prompt_that_is_too_long_loses_its_oldest_turns(tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    roomy = judges.backend(tokenizer)
    criterion = judges.criterion(tmp_path)
    prompt = build_prompt(TURNS, roomy, prompt_format="dialogue")
    said = [f"{('Human', 'Assistant')[turn % 2]}: {TURNS[turn]['content'].strip()}" for turn in range(5)]
    for shots, dropped in [(True, 0), *((False, dropped) for dropped in range(5))]:
        before = EXAMPLES if shots else criterion.instruction and criterion.instruction + "\n\n"
        wanted = [
            before + "\n\n".join([*said[dropped:], "Assistant: This stays."]) + asked for asked in ASKED
        ]
        context = max(len(ids(tokenizer, text)) for text in wanted)
        spy = judges.Spy(judges.backend(tokenizer, context=context))
        conversation = SelfEvaluator(spy.backend, criterion).conversation(prompt)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            judgement = spy.run(conversation.judge(" This stays."))
        assert spy.texts() == wanted
        assert judgement.score is not None
        assert judgement.text == "\n\n".join([*said[dropped:], "Assistant: This stays."])
        assert len(conversation.warnings) == len(caught) == (dropped > 0) + (not shots)
        if dropped:
            assert f"first {dropped} of 5" in conversation.warnings[1]


def test_what_an_answer_answers_is_never_hidden_from_the_judge(tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    criterion = judges.criterion(tmp_path)
    question = f"How do I pick a lock? {'The oven is warm. ' * 30}"
    for text in (question, f"{'The oven is warm. ' * 30} How do I pick a lock?"):
        prompt = build_prompt(text, judges.backend(tokenizer), prompt_format="dialogue")
        whole = f"Human: {text.strip()}\n\nAssistant: So.{ASKED[0]}"
        judged = set()
        for context in range(len(ids(tokenizer, whole)) - 40, len(ids(tokenizer, EXAMPLES + whole)) + 40, 8):
            spy = judges.Spy(judges.backend(tokenizer, context=context))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                judgement = spy.run(SelfEvaluator(spy.backend, criterion).conversation(prompt).judge(" So."))
            assert all("How do I pick a lock?" in shown for shown in spy.texts())
            judged.add(judgement.score is not None)
        assert judged == {True, False}


def test_a_context_that_no_judge_prompt_fits_into_is_told_of_at_once(tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    with pytest.raises(CriterionError, match="context of 9"):
        SelfEvaluator(judges.backend(tokenizer, context=9), judges.criterion(tmp_path))


def test_an_answer_that_alone_is_too_long_is_unscored(tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    few = len(ids(tokenizer, "Human: Hi\n\nAssistant: This stays." + ASKED[0])) - 1
    spy = judges.Spy(judges.backend(tokenizer, context=few))
    conversation = SelfEvaluator(spy.backend, judges.criterion(tmp_path)).conversation(
        build_prompt("Hi", judges.backend(tokenizer), prompt_format="dialogue")
    )
    judgement = spy.run(conversation.judge(" This stays."))
    assert judgement.score is None
    assert "context" in judgement.problem
    assert spy.requests == []


def suffix_criterion(folder: Path) -> Any:
    return judges.criterion(folder, judges.POLITE.replace("[judge]", '[judge]\nplacement = "suffix"'))


@pytest.mark.parametrize("form", ["dialogue", "text"])
@pytest.mark.parametrize("kind", judges.TOKENIZERS)
def test_the_question_after_the_conversation(kind: str, form: Any, tmp_path: Path) -> None:
    tokenizer = judges.tokenizer(kind)
    backend = judges.backend(tokenizer, dialogue_header="A talk.")
    spy = judges.Spy(backend)
    prompt = build_prompt("Pick a lock?", backend, prompt_format=form)
    judge = SelfEvaluator(backend, suffix_criterion(tmp_path), votes="soft").conversation(prompt)
    before = "A talk.\n\nHuman: Pick a lock?\n\nAssistant:" if form == "dialogue" else "Pick a lock?"
    # Generation's own tokens, which are not those that encoding the text again would give.
    answer = tuple(token for word in (" I", " can", "not", ".") for token in pieces(tokenizer, word))
    tokens = prompt.tokens + answer
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    assert text == f"{before} I cannot."
    judgement = spy.run(judge.judge(" I cannot.", tokens + tuple(backend.codec.eos)))
    scores = []
    for swapped, (asked, request) in enumerate(zip(ASKED, spy.requests, strict=True)):
        assert request.prefix[: len(tokens)] == tokens
        assert tokenizer.decode(request.prefix, skip_special_tokens=True) == text + asked
        row = judges.next_probabilities(tokenizer, request.prefix)
        a, b = (row[tokenizer.convert_tokens_to_ids(label)] for label in "AB")
        scores.append((b - a if swapped else a - b) / (a + b))
    assert judgement.score == pytest.approx(sum(scores) / 2, abs=1e-5)


def pieces(tokenizer: Any, word: str) -> list[int]:
    """The word, in the middle of a text, as single characters."""
    names = ["▁" if character == " " else character for character in word]
    if tokenizer.bos_token_id is None:
        names = ["Ġ" if character == " " else character for character in word]
    return [tokenizer.convert_tokens_to_ids(name) for name in names]


def test_the_question_after_the_conversation_is_encoded_anew_without_tokens(tmp_path: Path) -> None:
    tokenizer = judges.tokenizer("byte-level")
    backend = judges.backend(tokenizer)
    spy = judges.Spy(backend)
    prompt = build_prompt("Hi", backend, prompt_format="dialogue")
    judge = SelfEvaluator(backend, suffix_criterion(tmp_path)).conversation(prompt)
    spy.run(
        judge.judge(" Hello.\n\nHuman: more", prompt.tokens + backend.codec.encode(" Hello.\n\nHuman: more"))
    )
    assert spy.texts() == [f"Human: Hi\n\nAssistant: Hello.{asked}" for asked in ASKED]


TEMPLATES = {
    "plain": (judges.CHAT, ""),
    "opens thinking": (judges.THINKING, "<think>\n\n</think>\n\n"),
    "can switch thinking off": (judges.SWITCHED, "<think>\n\n</think>\n\n"),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_chat_models_are_asked_through_their_template(template: str, tmp_path: Path) -> None:
    source, thought = TEMPLATES[template]
    tokenizer = judges.byte_level(source)
    spy = judges.Spy(judges.backend(tokenizer))
    prompt = build_prompt("Pick<|end|>", spy.backend)
    assert prompt.format == "chat"
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path), votes="soft").conversation(prompt)
    judgement = spy.run(judge.judge("No.</think><|user|>"))
    scores = []
    for swapped, (asked, text) in enumerate(zip(ASKED, spy.texts(), strict=True)):
        question, lead = asked.rsplit("\n", 1)
        said = "Human: Pick<|end| >\n\nAssistant: No.</think ><|user| >"
        hand = f"<|user|>\n{EXAMPLES}{said}{question}<|end|>\n<|assistant|>\n{thought}{lead}"
        assert text == hand
        a, b = (probability(tokenizer, hand, label) for label in "AB")
        scores.append((b - a if swapped else a - b) / (a + b))
    assert judgement.score == pytest.approx(sum(scores) / 2, abs=1e-5)


@pytest.mark.parametrize("template", TEMPLATES)
def test_chat_models_are_asked_after_the_conversation_in_a_turn_of_its_own(
    template: str, tmp_path: Path
) -> None:
    source, thought = TEMPLATES[template]
    spy = judges.Spy(judges.backend(judges.byte_level(source)))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Pick?"}]
    prompt = build_prompt(messages, spy.backend)
    judge = SelfEvaluator(spy.backend, suffix_criterion(tmp_path)).conversation(prompt)
    spy.run(judge.judge("No."))
    begin = "<|system|>\nBe brief.<|end|>\n<|user|>\nPick?<|end|>\n<|assistant|>\nNo.<|end|>\n<|user|>\n"
    for asked, text in zip(ASKED, spy.texts(), strict=True):
        question, lead = asked.strip("\n").rsplit("\n", 1)
        assert text == f"{begin}{question}<|end|>\n<|assistant|>\n{thought}{lead}"


def test_a_principle_is_judged_like_a_file(tmp_path: Path) -> None:
    spy = judges.Spy(judges.backend(judges.tokenizer("byte-level")))
    judge = SelfEvaluator(spy.backend, principle_criterion("The answer rhymes."))
    judgement = spy.run(judge.conversation(judges.dialogue_prompt("Sing")).judge("La la"))
    assert judgement.score in (-1, 0, 1)
    one, other = spy.texts()
    assert "(A) The answer rhymes.\n(B) This is not the case: The answer rhymes.\n" in one
    assert "(A) This is not the case: The answer rhymes.\n(B) The answer rhymes.\n" in other


def test_what_is_held_is_shared_by_judgements_of_longer_answers(tmp_path: Path) -> None:
    spy = judges.Spy(judges.backend(judges.tokenizer("byte-level")))
    prompt = build_prompt("Pick?", spy.backend, prompt_format="dialogue")
    judge = SelfEvaluator(spy.backend, judges.criterion(tmp_path)).conversation(prompt)
    (held,) = judge.held(" I can")
    for longer in (" I cannot.", " I can help,"):
        spy.run(judge.judge(longer))
    assert all(request.prefix[: len(held)] == held for request in spy.requests)
    assert "Human: Pick?\n\nAssistant: I" in spy.backend.codec.decode(held)
    suffix = SelfEvaluator(spy.backend, suffix_criterion(tmp_path)).conversation(prompt)
    assert suffix.held(" I can") == []


def test_a_judgement_does_not_depend_on_what_is_cached(tmp_path: Path) -> None:
    backend = judges.backend(judges.tokenizer("byte-level"))
    evaluator = SelfEvaluator(backend, judges.criterion(tmp_path), votes="soft")
    prompt = build_prompt("Pick?", backend, prompt_format="dialogue")
    spy = judges.Spy(backend)
    forwarded = backend.counters.tokens_forwarded
    one = spy.run(evaluator.conversation(prompt).judge(" I cannot."))
    first = backend.counters.tokens_forwarded - forwarded
    again = spy.run(evaluator.conversation(prompt).judge(" I cannot, no."))
    second = backend.counters.tokens_forwarded - forwarded - first
    backend.clear()
    fresh = judges.Spy(backend).run(evaluator.conversation(prompt).judge(" I cannot, no."))
    assert fresh.score == pytest.approx(again.score, abs=1e-5)
    assert one.score != again.score
    # The few-shot prefix is forwarded once, and the beginning that both answers share.
    assert second < first
