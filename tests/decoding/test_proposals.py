"""What is proposed in place of bad text, kind by kind, on a model whose every word is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from decoder_worlds import CRITERION, scripted
from self_evaluation import judges
from self_evaluation.reading.synthetic import probe

from rain_decoding import Completion, RainDecoder, SearchConfig
from rain_decoding.backends.transformers.loading import wrap
from rain_decoding.decoding.degeneracy import why_no_answer
from rain_decoding.decoding.rewording import Rewording
from rain_decoding.measurement.degeneration import degenerate, repetition
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.self_evaluation.criterion import load_criterion
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.self_evaluation.reading.direction import direction_of
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.self_evaluation.reading.probe import Wary
from rain_decoding.self_evaluation.rendering import common_prefix
from rain_decoding.self_evaluation.wrapping import WrappedJudge
from rain_decoding.types import LAST, Message, Reword

GUIDANCE = Guidance(
    principle="Be kind.",
    decline="No.",
    examples=(("Steal!", "Never."),),
    system="Rule: {principle}",
    quote="Quoted: {request}",
    critic="{request} - {draft} - what is wrong?",
    finding="It",
    criticised="Rejected: {critique}",
    opposite="Against: {principle}",
)
KIND = replace(CRITERION, guidance=GUIDANCE)
WORDS = (" Sure", " Okay", " Never", " Better", " Sorry", " is", " rude", ".", "A", "B", "No", "It", " No")
CONFIG = SearchConfig(strategy="verify-first", sentence_tokens=(2, 6), alternatives=2, max_simulations=20)
ASKED = "How?"


def setting(text: str) -> str:
    """Which prompt a text stands behind."""
    for mark in ("what is wrong?", "Rejected:", "Quoted:", "Against:"):
        if mark in text:
            return mark
    return ""


def world(good: str = " Never", **first_words: dict[str, float]) -> Any:
    """A model whose sentences have two words. What begins with `good`, or declines, is judged kind.

    `first_words` are what sentences begin with: `guided`, `criticised` or `opposed`, or plainly, " Sure".
    """
    beginnings = {
        "": first_words.get("plainly", {" Sure": 1.0}),
        "Quoted:": first_words.get("guided", {" Sure": 1.0}),
        "Rejected:": first_words.get("criticised", {" Sure": 1.0}),
        "Against:": first_words.get("opposed", {" Sure": 1.0}),
    }

    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2]
        if text.endswith("It is ("):
            return {"A": 0.9, "B": 0.1} if answer.startswith((good, "No", " No")) else {"A": 0.1, "B": 0.9}
        if setting(text) == "what is wrong?":
            return {" is": 1.0} if answer == "It" else {" rude": 1.0} if answer.endswith("is") else {".": 1.0}
        if not answer:
            return beginnings[setting(text)]
        if answer == "No.":
            return {" Sorry": 1.0}
        return {"<end>": 1.0} if answer.endswith(".") else {".": 1.0}

    return scripted(script, WORDS)


def answered(backend: Any, *kinds: str, criterion: Any = KIND, **options: Any) -> Completion:
    config = CONFIG.with_changes(proposals=kinds)
    return RainDecoder(backend, criterion, config).generate(ASKED, max_tokens=12, trace=True, **options)


def kinds_of(completion: Completion) -> dict[str, str]:
    """The kind of every text that was proposed, by the text."""
    children = [
        child for event in completion.trace if event["event"] == "expand" for child in event["children"]
    ]
    return {child["text"]: child.get("kind", "") for child in children}


def events(completion: Completion, kind: str) -> list[dict[str, Any]]:
    return [event for event in completion.trace if event["event"] == kind]


def test_guided_goes_on_under_the_criterions_prompt() -> None:
    backend = world(guided={" Never": 0.7, " Sure": 0.3})
    completion = answered(backend, "guided")
    assert completion.text == "Never."
    # The other opening is what plain decoding said, which is not judged again.
    assert kinds_of(completion) == {" Sure.": "", " Never.": "guided", "": ""}
    assert completion.usage.rewinds == 1


def test_what_guidance_began_it_goes_on_with() -> None:
    """Plain decoding would say " Sure" behind " Never.", too: all its sentences begin so."""

    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2]
        if text.endswith("It is ("):
            return {"A": 0.1, "B": 0.9} if "Sure" in answer else {"A": 0.9, "B": 0.1}
        if answer.endswith(". Never."):
            return {"<end>": 1.0}
        if answer and not answer.endswith("."):
            return {".": 1.0}
        return {" Never": 1.0} if "Quoted:" in text else {" Sure": 1.0}

    completion = answered(scripted(script, WORDS), "guided")
    assert completion.text == "Never. Never."
    assert completion.usage.rewinds == 1


def test_the_guided_prompt_quotes_the_request_behind_examples() -> None:
    messages = GUIDANCE.guided([Message("system", "Own."), Message("user", "A {principle}?")])
    assert [(message.role, message.content) for message in messages] == [
        ("system", "Own.\n\nRule: Be kind."),
        ("user", "Quoted: Steal!"),
        ("assistant", "Never."),
        ("user", "Quoted: A {principle}?"),
    ], "what the user writes is not filled in"


def test_declined_comes_last_and_ends_the_answer() -> None:
    completion = answered(world(), "declined", "guided", "openings")
    assert completion.text == "No. Sorry." and completion.finish_reason == "stop"
    assert completion.score is not None and completion.score > 0 and not completion.flagged
    assert kinds_of(completion) == {" Sure.": "", "No. Sorry.": "declined"}


class Alarmed(SelfEvaluator):
    """Judges by asking, and gives every request a probability of being harmful."""

    harmful = 0.0

    def conversation(self, prompt: Prompt) -> Any:
        return AlarmedJudge(super().conversation(prompt), self.harmful)


class AlarmedJudge(WrappedJudge):
    def __init__(self, judging: Any, harmful: float):
        super().__init__(judging)
        self.harmful = harmful

    def judge(self, answer: str, tokens: Any = None) -> Any:
        return replace((yield from self.judging.judge(answer, tokens)), harmful=self.harmful)


@pytest.mark.parametrize(("harmful", "text"), [(0.85, "Never."), (0.95, "No. Sorry.")])
def test_a_request_that_surely_asks_for_harm_is_declined_before_the_rest(harmful: float, text: str) -> None:
    backend = world(guided={" Never": 1.0})
    evaluator = Alarmed(backend, KIND)
    evaluator.harmful = harmful
    config = CONFIG.with_changes(proposals=("guided", "declined"), decline_above=0.9)
    completion = RainDecoder(backend, evaluator, config).generate(ASKED, max_tokens=12, trace=True)
    assert completion.text == text
    assert {kind for kind in kinds_of(completion).values() if kind} == {
        "declined" if harmful > 0.9 else "guided"
    }
    assert all(event["harmful"] == harmful for event in events(completion, "judge"))


def test_where_declining_is_bad_too_the_rest_is_tried() -> None:
    backend = world(guided={" Never": 1.0})
    never = replace(GUIDANCE, decline="Sure")
    evaluator = Alarmed(backend, replace(KIND, guidance=never))
    evaluator.harmful = 0.95
    config = CONFIG.with_changes(proposals=("guided", "declined"), decline_above=0.9)
    assert RainDecoder(backend, evaluator, config).generate(ASKED, max_tokens=12).text == "Never."


def test_declined_ends_behind_its_words_where_what_follows_is_bad() -> None:
    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2]
        if text.endswith("It is ("):
            bad = "Sure" in answer or "Sorry" in answer
            return {"A": 0.1, "B": 0.9} if bad else {"A": 0.9, "B": 0.1}
        if answer == "No.":
            return {" Sorry": 1.0}
        return {".": 1.0} if answer and not answer.endswith(".") else {" Sure": 1.0}

    assert answered(scripted(script, WORDS), "declined").text == "No."


def test_declined_stands_behind_what_was_released() -> None:
    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2]
        if text.endswith("It is ("):
            return {"A": 0.1, "B": 0.9} if "Sure" in answer else {"A": 0.9, "B": 0.1}
        if answer.endswith(" No."):
            return {" Sorry": 1.0}
        return (
            {".": 1.0} if answer and not answer.endswith(".") else {" Okay" if not answer else " Sure": 1.0}
        )

    backend = scripted(script, WORDS)
    config = CONFIG.with_changes(proposals=("declined",), hold_back=0)
    assert RainDecoder(backend, KIND, config).generate(ASKED, max_tokens=12).text == "Okay. No. Sorry."


def test_a_critique_is_in_the_trace_and_not_in_the_answer() -> None:
    completion = answered(world(" Better", criticised={" Better": 1.0}), "guided", "critique")
    assert completion.text == "Better."
    (said,) = events(completion, "critique")
    assert said["text"] == "It is rude."
    assert kinds_of(completion)[" Better."] == "critique"


def test_contrast_takes_away_what_the_opposite_prompt_says() -> None:
    """0.6 / 0.9 against 0.4 / 0.1: log 0.6 + log(0.6 / 0.9) = -0.92, log 0.4 + log(0.4 / 0.1) = 0.47."""
    backend = world(" Okay", plainly={" Sure": 0.6, " Okay": 0.4}, opposed={" Sure": 0.9, " Okay": 0.1})
    completion = answered(backend, "contrast")
    assert completion.text == "Okay."
    assert kinds_of(completion)[" Okay."] == "contrast"


def test_contrast_chooses_nothing_improbable() -> None:
    """0.05 is less than a tenth of 0.95, whatever the opposite prompt says."""
    backend = world(" Okay", plainly={" Sure": 0.95, " Okay": 0.05}, opposed={" Sure": 1.0})
    assert " Okay." not in kinds_of(answered(backend, "contrast"))


def wary(backend: Any) -> ReadingEvaluator:
    """Reads as bad what holds " Sure". A scripted model's states are its tokens, so that shifts are added to logits."""
    weights = np.zeros((1, 2 * backend.engine.vocabulary_size))
    weights[0, backend.codec.encode(" Sure", start=False)[0]] = -50.0
    found = probe(layers=(LAST,), weights=weights, bias=5.0, threshold=0.0, patience=0.0)
    return ReadingEvaluator(backend, found, "kind")


@pytest.mark.parametrize(
    ("steering", "text"),
    [(0.04, "Sure."), (0.06, "Okay.")],
)
def test_steered_shifts_towards_what_is_read_as_good(steering: float, text: str) -> None:
    """It is tried at two places, and moves probability at one, where " Sure" has 0.6 and " Okay" 0.4: to move more than
    0.1 there, half of that in the mean, is to say the other.
    """
    backend = world(plainly={" Sure": 0.6, " Okay": 0.4})
    config = CONFIG.with_changes(proposals=("steered:1",), steering=steering)
    completion = RainDecoder(backend, wary(backend), config).generate(ASKED, max_tokens=12, trace=True)
    assert completion.text == text
    assert kinds_of(completion).get(" Okay.") == ("steered" if text == "Okay." else None)


def test_answers_to_harmful_requests_are_steered_along_the_line_that_reads_them() -> None:
    """The request is read as surely harmful, " Sure" as bad; the line for all says the opposite, and does not count."""
    backend = world(plainly={" Sure": 0.6, " Okay": 0.4})
    found = wary(backend).probe
    line = {name: getattr(found, name) for name in ("pooling", "patience", "slope", "intercept", "threshold")}
    width = backend.engine.vocabulary_size
    careful = Wary(weights=found.weights, bias=5.0, request=np.zeros((1, width)), request_bias=50.0, **line)
    both = replace(found, weights=-found.weights, bias=-5.0, wary=careful)
    config = CONFIG.with_changes(proposals=("steered:1",), steering=0.5)
    completion = RainDecoder(backend, ReadingEvaluator(backend, both, "kind"), config).generate(
        ASKED, max_tokens=12, trace=True
    )
    assert completion.text == "Okay." and kinds_of(completion)[" Okay."] == "steered"


def test_the_direction_lies_between_the_lines_as_far_as_the_request_is_harmful() -> None:
    draw = np.random.default_rng(0)
    main, careful = draw.normal(size=(2, 3, 8))
    shared = {"bias": 0.0, "patience": 0.0, "slope": 1.0, "intercept": 0.0, "threshold": 0.0}
    line = Wary(pooling="mean", weights=careful, request=np.zeros((3, 4)), request_bias=0.0, **shared)
    found = probe(layers=(1, 2, 3), weights=main, wary=line)
    for harmful in (0.0, 0.3, 1.0):
        direction = direction_of(found, 0.5, harmful)
        for layer in range(3):
            ends = [each[layer, :4] / np.sqrt(sum(each[layer, :4] ** 2)) for each in (main, careful)]
            expected = (1 - harmful) * ends[0] + harmful * ends[1]
            expected /= np.sqrt(sum(expected**2))
            assert np.allclose(direction.vectors[layer], expected, atol=1e-6)
    plain = direction_of(replace(found, wary=None), 0.5, 1.0)
    assert np.array_equal(plain.vectors, direction_of(found, 0.5).vectors)


def test_what_was_steered_goes_on_so() -> None:
    """Every sentence would begin with " Sure"."""

    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2]
        if answer.count(".") == 2:
            return {"<end>": 1.0}
        return {".": 1.0} if answer and not answer.endswith(".") else {" Sure": 0.6, " Okay": 0.4}

    backend = scripted(script, WORDS)
    config = CONFIG.with_changes(proposals=("steered:1",), steering=0.5)
    completion = RainDecoder(backend, wary(backend), config).generate(ASKED, max_tokens=12)
    assert completion.text == "Okay. Okay." and completion.usage.rewinds == 1


def test_steered_needs_a_judge_that_reads() -> None:
    completion = answered(world(), "steered")
    (lacking,) = events(completion, "lacking")
    assert lacking["problem"] == "the judge does not read the model's hidden states by a probe"
    assert not completion.warnings


def test_steered_needs_a_model_that_can_be_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = world()
    monkeypatch.setattr(backend, "capabilities", replace(backend.capabilities, shifts=False))
    config = CONFIG.with_changes(proposals=("steered",))
    completion = RainDecoder(backend, wary(backend), config).generate(ASKED, max_tokens=4)
    assert completion.warnings == ["nothing was proposed as steered: scripted cannot shift hidden states"]


@pytest.mark.parametrize("engine", ["trie", "rows", "none"])
def test_steered_texts_are_the_same_beside_others_and_leave_nothing_behind(engine: str) -> None:
    tokenizer = judges.tokenizer("byte-level")
    backend = wrap(
        judges.model(len(tokenizer)),
        tokenizer,
        name="tiny",
        engine=engine,
        dialogue_header="",
        prefix_cache_slots=0,
    )
    layer = max(backend.capabilities.layers)
    backend.keep_layers([layer])
    width = backend.engine.hidden((1, 2), 0, (layer,), backend.new_owner())[0].shape[-1]
    weights = np.random.default_rng(3).normal(size=(1, 2 * width))
    found = probe(layers=(layer,), weights=weights, bias=0.0, threshold=40.0, patience=0.0)
    config = CONFIG.with_changes(proposals=("steered:2", "sampled:2"), steering=0.3)
    decoder = RainDecoder(backend, ReadingEvaluator(backend, found, "kind"), config)
    prompts = [f"{ASKED} {number}" for number in range(3)]
    backend.clear()
    alone = [decoder.generate(prompt, max_tokens=16, trace=True) for prompt in prompts]
    assert any("steered" in kinds_of(each).values() for each in alone)
    again = decoder.generate_batch(prompts, max_tokens=16)
    assert [each.tokens for each in again] == [each.tokens for each in alone]
    assert backend.engine.slots_used == 0


@pytest.mark.parametrize("kind", ["guided", "critique", "contrast", "declined"])
def test_what_cannot_be_had_is_in_the_trace(kind: str) -> None:
    completion = answered(world(), kind, criterion=CRITERION)
    (lacking,) = events(completion, "lacking")
    assert lacking["problem"] == "the criterion has no guidance"
    assert completion.text == "Sure." and completion.flagged


def test_what_the_model_cannot_do_is_a_warning() -> None:
    backend = world()
    config = CONFIG.with_changes(proposals=("guided",))
    completion = RainDecoder(backend, KIND, config, prompt_format="text").generate("Assistant:", max_tokens=4)
    assert completion.warnings == [
        "nothing was proposed as guided: a text that is continued has no request to quote"
    ]


def test_a_batch_says_what_each_alone_says() -> None:
    backend = world(guided={" Never": 0.7, " Sure": 0.3})
    config = CONFIG.with_changes(proposals=("sampled:2", "guided", "declined"), rising_bar=True)
    decoder = RainDecoder(backend, KIND, config)
    alone = [decoder.generate(f"{ASKED} {number}", max_tokens=12, seed=3).text for number in range(3)]
    batch = decoder.generate_batch([f"{ASKED} {number}" for number in range(3)], max_tokens=12, seed=3)
    assert [completion.text for completion in batch] == alone


def test_a_principle_guides_by_itself() -> None:
    from rain_decoding import principle_criterion

    guidance = principle_criterion("The answer is polite.").guidance
    assert guidance is not None
    system, request = guidance.guided([Message("user", "Hello")])
    assert (
        "The answer is polite." in system.content and request.content == 'Someone sent this message: "Hello"'
    )


def test_other_conversations_share_what_guided_prompts_begin_with() -> None:
    """System message and examples are forwarded once: of the second conversation only what is its own."""
    tokenizer = judges.tokenizer("byte-level")
    backend = wrap(judges.model(len(tokenizer)), tokenizer, name="tiny", dialogue_header="")
    prompts = [Rewording(backend, build_prompt(text, backend), GUIDANCE, 12) for text in ("How?", "Why not?")]
    found = [each.reworded(Reword("guided", each.prompt.tokens)) for each in prompts]
    costs = []
    for each in found:
        assert each is not None
        owner = backend.new_owner()
        costs.append(backend.engine.forward([each.prompt], [owner])[1][0])
        backend.finish(owner, [each.prompt])
    shared = common_prefix(found[0].prompt, found[1].prompt)
    assert costs == [len(found[0].prompt), len(found[1].prompt) - shared] and shared > costs[1]


def test_the_rule_stands_once_in_a_guided_prompt() -> None:
    for name in ("harmlessness", "harmlessness-command"):
        guidance = load_criterion(name).guidance
        assert guidance is not None
        texts = [message.content for message in guidance.guided([Message("user", "How are you?")])]
        assert texts[0] == guidance.instruction and sum("How are you?" in text for text in texts) == 1
        assert sum(guidance.instruction[:40] in text for text in texts) == 1
        assert sum(map(len, texts)) < 1300, "about 270 tokens"


def test_degenerate_texts() -> None:
    said = "I am sure that you are right. "
    assert repetition(said * 3) > 0.4 and repetition(said) == 0.0
    assert why_no_answer(said * 3, said, ["Hello"]) == "it repeats itself"
    assert why_no_answer("...", "...", ["Hello"]) == "it says nothing"
    assert why_no_answer("Привет всем", "Привет всем", ["Hello"]) == "it is in another script"
    assert why_no_answer("Привет всем", "Привет всем", ["Hello in Russian: привет"]) == ""
    assert why_no_answer(said, said, ["Hello"]) == ""


@pytest.mark.parametrize("text", ["Yes, " + "a" * 80, "ha" * 40, "I can help with that. " * 9])
def test_what_goes_in_circles_for_the_evaluation_does_so_for_the_search(text: str) -> None:
    assert degenerate("Hello", text)
    assert why_no_answer(text, text, ["Hello"]) == why_no_answer(text, None, ["Hello"]) == "it repeats itself"


def test_a_degenerate_proposal_is_bad_without_being_judged() -> None:
    """The judge likes it; it is in a script that nobody used."""

    def script(text: str) -> dict[str, float]:
        answer = text.rpartition("Assistant:")[2]
        if text.endswith("It is ("):
            return {"A": 0.1, "B": 0.9} if "Sure" in answer else {"A": 0.9, "B": 0.1}
        return (
            {" Sure": 0.6, " Да": 0.4} if not answer else {".": 1.0} if "." not in answer else {"<end>": 1.0}
        )

    completion = answered(scripted(script, (*WORDS, " Да")), "openings", "declined")
    problems = [event["problem"] for event in events(completion, "judge") if event["problem"]]
    assert problems == ["it is in another script"] and completion.text.startswith("No.")
