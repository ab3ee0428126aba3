"""Baselines that tell the model what is asked of it: principle, refusal, critique, reflection, contrast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from decoder_worlds import CRITERION, babble, babble_world, lock_world, scripted

from rain_decoding import PlainDecoder, UnsupportedError, principle_criterion
from rain_decoding.backends.sampling import PLAUSIBLE
from rain_decoding.decoding.baselines import (
    ContrastDecoder,
    CritiqueDecoder,
    PrincipleDecoder,
    PrincipleOrRefusalDecoder,
    ReflectionDecoder,
)
from rain_decoding.decoding.baselines.rollback import RETRIES
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL
from rain_decoding.self_evaluation.criterion import load_criterion
from rain_decoding.types import Completion

PROMPTS = [f"Question {number}?" for number in range(6)]
ASKED = "Open the lock."
MAKERS: dict[str, Callable[[Any], Any]] = {
    "principle": lambda backend: PrincipleDecoder(backend, CRITERION),
    "refusal": lambda backend: PrincipleOrRefusalDecoder(backend, CRITERION),
    "critique": lambda backend: CritiqueDecoder(backend, CRITERION),
    "reflection": lambda backend: ReflectionDecoder(backend, CRITERION),
    "contrast": lambda backend: ContrastDecoder(backend, CRITERION),
}


def moved_by(word: str, *, said: str = " Rude") -> Any:
    """A model that answers " No." only where `word` stands before its answer, else " Sure."; criticised, it says so."""

    def script(text: str) -> dict[str, float]:
        if text.endswith("It is ("):
            return {"B": 0.9, "A": 0.1} if " Sure" in text else {"A": 0.9, "B": 0.1}
        if "Look at your last answer again" in text and text.endswith("Assistant:"):
            assert "Assistant: Sure" in text and all(each in text for each in CRITERION.statements)
            return {said: 1.0}
        if text.endswith((" Sure", " No")):
            return {".": 1.0}
        if text.endswith((".", said)):
            return {"<end>": 1.0}
        return {" No": 1.0} if word in text else {" Sure": 1.0}

    return scripted(script, ("A", "B", " Sure", " No", ".", said))


def comparable(completion: Completion) -> tuple[Any, ...]:
    return completion.text, completion.tokens, completion.score, completion.finish_reason


def test_a_criterions_system_message_is_its_guidances_or_its_statement() -> None:
    assert CRITERION.statements[0] in CRITERION.asks_for
    own = load_criterion("harmlessness")
    assert own.guidance is not None and own.asks_for == own.guidance.instruction and "decline" in own.asks_for
    assert "The answer is polite." in principle_criterion("The answer is polite.").asks_for


def test_the_principle_is_a_system_message_and_nothing_else() -> None:
    told = [{"role": "system", "content": CRITERION.asks_for}]
    for prompt in PROMPTS:
        asked = [*told, {"role": "user", "content": prompt}]
        expected = PlainDecoder(babble_world()).generate(asked)  # type: ignore[arg-type]
        found = PrincipleDecoder(babble_world(), CRITERION).generate(prompt)
        assert comparable(found) == comparable(expected)
        assert found.usage.search_tokens == expected.usage.search_tokens
    assert PrincipleDecoder(moved_by("It is kind"), CRITERION).generate(ASKED).text == "No."
    assert PlainDecoder(moved_by("It is kind")).generate(ASKED).text == "Sure."


def test_a_system_message_of_the_users_stays() -> None:
    messages = [{"role": "system", "content": "Speak low."}, {"role": "user", "content": ASKED}]
    session = PrincipleDecoder(lock_world(), CRITERION).open(messages)
    assert session.prompt.text.index(CRITERION.asks_for) < session.prompt.text.index("Speak low.")
    session.finish()


def test_what_is_judged_bad_under_the_principle_becomes_a_refusal() -> None:
    good = PrincipleOrRefusalDecoder(moved_by("It is kind"), CRITERION).generate(ASKED)
    assert (good.text, good.score, good.fallback, good.withheld) == ("No.", 1, "", "")
    bad = PrincipleOrRefusalDecoder(moved_by("never"), CRITERION).generate(ASKED)
    assert (bad.text, bad.fallback, bad.withheld) == (DEFAULT_REFUSAL, "refusal", "Sure.")
    assert bad.tokens == () and bad.score is None and bad.usage.self_evaluations == 1


def test_critique_rolls_back_and_goes_on_with_the_criticism_in_its_context() -> None:
    found = CritiqueDecoder(moved_by("criticised: Rude"), CRITERION).generate(ASKED)
    assert (found.text, found.score, found.finish_reason) == ("No.", 1, "stop")
    assert found.usage.rewinds == 1 and found.usage.self_evaluations == 2


def test_reflection_is_said_in_the_models_own_turn_and_not_shown() -> None:
    found = ReflectionDecoder(moved_by("Let me check"), CRITERION).generate(ASKED)
    assert (found.text, found.score, found.finish_reason) == ("No.", 1, "stop")
    assert found.usage.rewinds == 1 and found.usage.self_evaluations == 2


@pytest.mark.parametrize("kind", [CritiqueDecoder, ReflectionDecoder])
def test_a_model_that_cannot_do_better_is_asked_so_often_and_no_more(kind: Any) -> None:
    found = kind(moved_by("never"), CRITERION).generate(ASKED)
    assert (found.text, found.score, found.usage.rewinds) == ("Sure.", -1, RETRIES + 1)


@pytest.mark.parametrize("kind", [CritiqueDecoder, ReflectionDecoder])
def test_good_text_is_plain_decodings(kind: Any) -> None:
    good = [p for p in PROMPTS if " w3" not in PlainDecoder(babble_world()).generate(p).text]
    assert good
    for prompt in good:
        found, plain = kind(babble_world(), CRITERION).generate(prompt), PlainDecoder(babble_world())
        assert found.usage.rewinds == 0 and found.text == plain.generate(prompt).text


@pytest.mark.parametrize("kind", [CritiqueDecoder, ReflectionDecoder])
def test_what_cannot_be_judged_is_not_released(kind: Any) -> None:
    decoder = kind(lock_world(), CRITERION)
    decoder.evaluator.min_label_mass = 1.1
    completion = decoder.generate(ASKED)
    assert (completion.text, completion.finish_reason, completion.score) == ("", "unjudged", None)


def test_contrast_takes_the_token_that_the_opposite_would_least_say() -> None:
    backend, guide = babble_world(), CRITERION
    texts = []
    for prompt in PROMPTS:
        found = ContrastDecoder(backend, guide).generate(prompt, max_tokens=12)
        answer = ""
        for token in found.tokens:
            weights = []
            for told in (
                guide.asks_for,
                f"Whatever you are asked, this must be true: {guide.statements[1]}",
            ):
                said = babble(f"{told}\n\nHuman: {prompt}\n\nAssistant:{answer}")
                total = sum(said.values())
                weights.append({word: weight / total for word, weight in said.items()})
            good, bad = weights
            plausible = [word for word in good if good[word] >= PLAUSIBLE * max(good.values())]
            best = max(plausible, key=lambda word: np.log(good[word]) - 0.5 * np.log(bad[word]))
            assert backend.codec.decode((token,)) == best.replace("<end>", "")
            answer += best
        texts.append(found.text)
    plain = [PrincipleDecoder(backend, guide).generate(prompt, max_tokens=12).text for prompt in PROMPTS]
    assert texts != plain


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_gives_what_each_prompt_gives_alone(name: str) -> None:
    batch = MAKERS[name](babble_world()).generate_batch(PROMPTS, seed=2)
    alone = [MAKERS[name](babble_world()).generate(prompt, seed=2) for prompt in PROMPTS]
    assert [comparable(c) for c in batch] == [comparable(c) for c in alone]


@pytest.mark.parametrize("name", MAKERS)
def test_limits_budgets_and_texts_to_continue(name: str) -> None:
    decoder = MAKERS[name](babble_world())
    for prompt in PROMPTS[:2]:
        short = decoder.generate(prompt, max_tokens=3)
        assert len(short.tokens) <= 3 and short.finish_reason in ("length", "stop")
    stopped = decoder.generate(PROMPTS[0], cancelled=lambda: True)
    assert (stopped.text, stopped.finish_reason) == ("", "cancelled")
    assert decoder.backend.pending == 0
    decoder.prompt_format = "text"
    with pytest.raises(UnsupportedError, match="continued"):
        decoder.generate("Once upon a time")
