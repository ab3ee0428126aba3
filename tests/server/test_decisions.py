"""Questions that are answered with probabilities, in both APIs, against the library and a real `rain serve` process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import ValidationError
from server.running import QUESTION, Running, serving
from server.test_openai_client import BAD

from rain_decoding import RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend
from rain_decoding.decoding.tool_calls import as_read
from rain_decoding.self_evaluation.decisions import Question, transcript
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.learning import learn
from rain_decoding.server.protocols.decisions.body import DecisionsBody
from rain_decoding.server.protocols.decisions.systemone import SystemOneBody
from rain_decoding.server.schema_errors import told
from rain_decoding.types import Message

HARMFUL = "First, whisper to the washers that Linnet sold a sick goat. After that, let a friend repeat it at the well."
HARMLESS = "That would not be right, so my answer is no."
STATEMENTS = ("The answer is harmless.", "The answer is harmful.")
INSTRUCTION = "Judge the answer of the assistant."
GOOD_ANSWER = {"type": "noul", "instructions": "criterion: harmlessness"}


def conversation(answer: str, question: str = BAD) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def asked(running: Running, **body: Any) -> dict[str, Any]:
    with running.http() as http:
        response = http.post("/v1/systemone", json={"model": "demo", **body})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.fixture
def alone(demo: LocalBackend) -> RainDecoder:
    """The decoder of `rain serve` without options, in this process."""
    return RainDecoder(demo)


def good(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


@pytest.mark.parametrize("answer", [HARMFUL, HARMLESS])
def test_they_agree_with_the_judges_own_scores(demo_server: Running, demo: LocalBackend, answer: str) -> None:
    """With "debiased" votes the score is tanh of half the log-odds, so the probability is known from it."""
    judge = RainDecoder(demo, "harmlessness", SearchConfig.preset("balanced", votes="debiased"))
    score = judge.judge(BAD, answer).score
    assert score is not None
    own = asked(demo_server, state=conversation(answer), questions={"q": GOOD_ANSWER})
    assert own["answers"]["q"]["noul"] == pytest.approx((score + 1) / 2, abs=1e-3)
    assert (own["answers"]["q"]["noul"] > 0.5) == (answer == HARMLESS)
    assert own["diagnostics"]["q"]["label_mass"] > 0.9


def test_other_criteria_and_principles_are_asked_for(demo_server: Running, demo: LocalBackend) -> None:
    questions = {
        "helpful": {"type": "noul", "instructions": "criterion: helpfulness"},
        "polite": {"type": "noul", "instructions": "principle: The answer is polite."},
        "own": {"type": "noul", "instructions": "criterion:"},
    }
    answers = asked(demo_server, state=conversation(HARMLESS), questions=questions)["answers"]
    for name, criterion in (("helpful", "helpfulness"), ("polite", "principle: The answer is polite.")):
        judgement = RainDecoder(demo, criterion).judge(BAD, HARMLESS)
        votes = [math.log(positive / negative) for positive, negative in judgement.probabilities]
        assert answers[name]["noul"] == pytest.approx(good(sum(votes) / len(votes)), abs=1e-3)
    first = asked(demo_server, state=conversation(HARMLESS), questions={"q": GOOD_ANSWER})
    assert answers["own"]["noul"] == pytest.approx(first["answers"]["q"]["noul"], abs=1e-3)


def test_any_question_is_asked_as_a_criterion_is(demo_server: Running, alone: RainDecoder) -> None:
    """The demo model knows one form of question; in it, two options are the two statements of its criterion."""
    choice = {"type": "choice", "criteria": dict.fromkeys(STATEMENTS)}
    for answer in (HARMFUL, HARMLESS):
        state = conversation(answer)
        found = asked(demo_server, state=state, instructions=INSTRUCTION, questions={"q": choice})
        expected = STATEMENTS[answer == HARMFUL]
        shares = found["answers"]["q"]["probabilities"]
        assert found["answers"]["q"]["choice"] == expected == max(shares, key=shares.get)
        assert sum(shares.values()) == pytest.approx(1) and shares[expected] > 0.9
        mass = found["diagnostics"]["q"]["label_mass"]
        assert found["answers"]["q"]["confidence"] == pytest.approx(shares[expected] * mass)
        text = f"{INSTRUCTION}\n\n{transcript([Message(**turn) for turn in state])}"  # type: ignore[arg-type]
        (decision,) = alone.decide(text, [Question("", STATEMENTS)])
        assert tuple(shares.values()) == pytest.approx(decision.probabilities, abs=1e-3)


def test_what_a_letter_is_preferred_by_cancels_out(alone: RainDecoder) -> None:
    """The same options in another order are as probable, whatever the model makes of them."""
    options = ("red", "green", "blue")
    (forward, backward) = alone.decide("x", [Question("Which?", options), Question("Which?", options[::-1])])
    assert forward.probabilities is not None and backward.probabilities is not None
    assert forward.probabilities == pytest.approx(backward.probabilities[::-1], abs=1e-5)


def test_sixteen_questions_read_their_state_once(demo: LocalBackend, alone: RainDecoder) -> None:
    text = "The fair by the duck pond begins at noon. " * 15
    questions = [Question(f"Is it number {number}?", ("yes", "no")) for number in range(16)]
    prompts = [prompt for one in alone.questioner.asked(text, questions) for prompt in one.prompts]
    shared = alone.questioner.asked(text, questions)[0].shared
    before = demo.counters.tokens_forwarded
    alone.decide(text, questions)
    forwarded = demo.counters.tokens_forwarded - before
    assert shared > 100 and len({prompt[:shared] for prompt in prompts}) == 1
    own = sum(len(prompt) - shared for prompt in prompts)
    assert forwarded <= shared + own < 16 * shared
    before = demo.counters.tokens_forwarded
    alone.decide(text, questions[:1])
    assert demo.counters.tokens_forwarded - before < shared, "it is kept for more questions"


def test_both_apis_say_the_same(demo_server: Running) -> None:
    levels = ["calm", "annoyed", "furious"]
    theirs = asked(
        demo_server,
        state=conversation(HARMFUL),
        questions={
            "good": GOOD_ANSWER,
            "topic": {"type": "choice", "instructions": "Which?", "criteria": {"a": "one", "b": None}},
            "mood": {"type": "score", "instructions": "How?", "criteria": levels},
            "yes": {"type": "noul", "instructions": "Is it so?"},
        },
    )["answers"]
    decision = demo_server.client().decisions.create(
        model="demo",
        input=conversation(HARMFUL),  # type: ignore[arg-type]
        questions=[
            {"type": "predicate", "name": "good", "instructions": "criterion: harmlessness"},
            {
                "type": "choice",
                "name": "topic",
                "instructions": [{"type": "input_text", "text": "Which?"}],  # type: ignore[list-item]
                "choices": [{"value": "a", "description": "one"}, {"value": "b"}],
            },
            {"type": "score", "instructions": "How?", "levels": [{"label": level} for level in levels]},
            {"type": "predicate", "name": "yes", "instructions": "Is it so?"},
        ],
    )
    good_, topic, mood, yes = decision.answers
    assert [answer.name for answer in decision.answers] == ["good", "topic", None, "yes"]
    assert good_.type == "predicate" and topic.type == "choice" and mood.type == "score"
    assert good_.probability == pytest.approx(theirs["good"]["noul"], abs=1e-3)
    assert yes.type == "predicate" and yes.probability == pytest.approx(theirs["yes"]["noul"], abs=1e-3)
    assert topic.choice == theirs["topic"]["choice"]
    shares = {entry.value: entry.probability for entry in topic.probabilities}
    assert shares == pytest.approx(theirs["topic"]["probabilities"], abs=1e-3)
    assert mood.score == pytest.approx(theirs["mood"]["score"], abs=1e-3)
    assert [(entry.value, entry.label) for entry in mood.probabilities] == list(enumerate(levels))
    assert mood.score == pytest.approx(sum(entry.value * entry.probability for entry in mood.probabilities))
    assert decision.usage.input_tokens > 0 and decision.usage.output_tokens == 0


def test_a_state_that_asks_for_an_answer_gets_none(alone: RainDecoder) -> None:
    """What the state holds of a question's form is broken, so that there is one question in the prompt."""
    text = "It is fine.\nOptions:\n(A) no\n(B) yes\nThe right option is: (B"
    asked_ = alone.questioner.asked(text, [Question("Is it?", ("yes", "no"))])[0]
    said = alone.backend.codec.decode(asked_.prompts[0])
    assert said.count("Options:") == 1 and said.count("The right option is: (") == 1


SAID = [*conversation("Let me see.", "Is it open?"), *conversation("It is locked.", "Well?")]
CALL = {"name": "open_door", "arguments": '{"how": "with the key"}'}


def test_calls_and_their_results_are_read_as_those_of_a_chat_are() -> None:
    first, second = SAID[:2], SAID[2:]
    items = [
        {"role": "developer", "content": "Be brief."},
        *first,
        {"type": "function_call", "call_id": "c", **CALL},
        {"type": "function_call_output", "call_id": "c", "output": "Locked."},
        *second,
    ]
    call = {"id": "c", "type": "function", "function": CALL}
    chat = [
        {"role": "system", "content": "Be brief."},
        first[0],
        {**first[1], "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "Locked."},
        *second,
    ]
    read = decisions_about(items)
    assert read == [Message(**turn) for turn in as_read(chat)]  # type: ignore[arg-type]
    assert read[2].content == 'Let me see.\n[calls open_door with {"how": "with the key"}]'
    assert read[3].content == "[open_door returned] Locked.\nWell?"


def test_a_conversation_without_calls_is_read_as_it_stands() -> None:
    """As System One reads it: turns of one role that follow each other stay apart."""
    turns = [SAID[0], *SAID]
    other = SystemOneBody.model_validate({"model": "m", "state": turns, "questions": {"q": GOOD_ANSWER}})
    assert decisions_about(turns) == list(other.about.messages) == [Message(**turn) for turn in turns]  # type: ignore[arg-type]


def decisions_about(items: list[dict[str, Any]]) -> list[Message]:
    """What the questions of `POST /v1/decisions` are about."""
    questions = [{"type": "predicate", "instructions": "criterion:"}]
    body = DecisionsBody.model_validate({"model": "m", "input": items, "questions": questions})
    return list(body.about.messages)


NOUL = {"type": "noul", "instructions": "Is it?"}
REFUSED = {
    "no state": ({"questions": {"q": GOOD_ANSWER}, "state": None}, "state"),
    "no question": ({"questions": {}}, "questions"),
    "another type": ({"questions": {"q": {"type": "bool"}}}, "questions.q"),
    "another field": ({"questions": {"q": {**NOUL, "weight": 1}}}, "questions.q.weight"),
    "one level": ({"questions": {"q": {"type": "score", "criteria": ["a"]}}}, "questions.q.criteria"),
    "one option": (
        {"questions": {"q": {"type": "choice", "criteria": {"a": None}}}},
        "questions.q.criteria",
    ),
    "nothing asked": ({"questions": {"q": {"type": "noul"}}}, "questions.q.instructions"),
    "blanks": (
        {"questions": {"q": {"type": "noul", "instructions": " ", "criteria": {}}}},
        "questions.q.instructions",
    ),
    "too many": ({"questions": {f"q{n}": NOUL for n in range(65)}}, "questions"),
    "a template": ({"decision_template": "x"}, "decision_template"),
    "thinking": ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs"),
    "too long": ({"state": "x " * 3000}, "state"),
    "no answer": ({"questions": {"q": GOOD_ANSWER}, "state": "x"}, "state"),
    "by a score": (
        {
            "questions": {"q": {"type": "score", "instructions": "criterion:", "criteria": ["a", "b"]}},
            "state": conversation("x"),
        },
        "questions.q",
    ),
    "a file": (
        {
            "questions": {"q": {"type": "noul", "instructions": "criterion: ../x.toml"}},
            "state": conversation("x"),
        },
        "questions.q",
    ),
    "another model": ({"model": "other"}, "model"),
}


@pytest.mark.parametrize(("options", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_answered_is_an_error_that_names_it(
    demo_server: Running, options: dict[str, Any], param: str
) -> None:
    body = {"model": "demo", "state": "x", "questions": {"q": NOUL}, **options}
    with demo_server.http() as http:
        response = http.post("/v1/systemone", json=body)
    assert response.status_code in (400, 404) and response.json()["error"]["param"] == param, response.text


def test_an_error_says_how_many_there_may_be_and_what_may_stand_in_for_instructions() -> None:
    for few in ({"type": "score", "criteria": ["a"]}, {"type": "choice", "criteria": {"a": None}}):
        with pytest.raises(ValidationError) as raised:
            SystemOneBody.model_validate({"model": "m", "state": "x", "questions": {"q": few}})
        assert told(raised.value.errors()[0]).message == "questions.q.criteria must have at least 2 entries"
    meant = {"type": "noul", "criteria": {"true": "It is rude."}}
    body = SystemOneBody.model_validate({"model": "m", "state": "x", "questions": {"q": meant}})
    assert body.wanted[0].question.options == ("yes: It is rude.", "no")
    with pytest.raises(ValidationError) as raised:
        DecisionsBody.model_validate(
            {"model": "m", "input": "x", "questions": [{"type": "predicate", "instructions": ""}]}
        )
    assert told(raised.value.errors()[0]).message == "questions.0.instructions must not be empty"


def test_pictures_are_refused(demo_server: Running) -> None:
    content = [{"type": "input_image", "image_url": "http://example.org/x.png"}]
    with pytest.raises(openai.BadRequestError, match="input_image"):
        demo_server.client().decisions.create(
            model="demo",
            input=[{"role": "user", "content": content}],  # type: ignore[list-item, typeddict-item]
            questions=[{"type": "predicate", "instructions": "Is it?"}],
        )


@pytest.fixture(scope="module")
def closed() -> Iterator[Running]:
    """A server whose clients decide nothing."""
    with serving(api_keys=("secret",), max_prompt_bytes=500) as running:
        yield running


def statuses(running: Running, **body: Any) -> tuple[int, str]:
    with running.http() as http:
        sent = {"model": "scripted", "state": [*QUESTION, {"role": "assistant", "content": "No."}], **body}
        response = http.post("/v1/systemone", json=sent, headers={"x-api-key": "secret"})
    return response.status_code, response.text


def test_clients_may_ask_what_the_operator_allows(closed: Running) -> None:
    own = {"type": "noul", "instructions": "criterion:"}
    assert statuses(closed, questions={"q": own})[0] == 200, "how the operator judges is no secret"
    for question, permission in (
        ({"type": "noul", "instructions": "Is it?"}, "decisions"),
        ({"type": "noul", "instructions": "principle: It is polite."}, "principle"),
        ({"type": "noul", "instructions": "criterion: helpfulness"}, "criterion"),
    ):
        status, text = statuses(closed, questions={"own": own, "q": question})
        assert status == 403 and permission in text
    assert statuses(closed, questions={"q": own}, instructions="x" * 500)[0] == 413
    with closed.http() as http:
        assert http.post("/v1/decisions", json={}).status_code == 401


def test_by_a_judge_that_reads(demo: LocalBackend, tmp_path: Path) -> None:
    """Where a probe judges, it answers, calibrated as it was fitted; there are no labels."""
    examples = [
        ReadingExample((Message("user", BAD),), f"{text} {number}.", good, group=str(number))
        for number in range(24)
        for text, good in ((HARMFUL, False), (HARMLESS, True))
    ]
    learn(demo, examples, "harmlessness", false_alarms=0.05).save(tmp_path / "probe.json")
    decoder = RainDecoder(demo, "harmlessness", judge=f"read#probe={tmp_path / 'probe.json'}")
    with serving(demo, criterion=decoder.evaluator, served_name="demo") as running:
        for answer in (HARMFUL, HARMLESS):
            expected = decoder.judge(BAD, answer).probabilities[0][0]
            question = {"q": {"type": "noul", "instructions": "criterion:"}}
            found = asked(running, state=conversation(answer), questions=question)
            assert found["answers"]["q"]["noul"] == pytest.approx(expected, abs=1e-3)
            assert (found["answers"]["q"]["noul"] > 0.5) == (answer == HARMLESS)
            assert found["diagnostics"] == {}
