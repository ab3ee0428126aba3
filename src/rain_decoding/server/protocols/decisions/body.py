"""Decisions, as OpenAI and SGLang have them: an input and a list of the questions `predicate`, `choice` and `score`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, Tag
from pydantic_core import PydanticCustomError

from rain_decoding.decoding.tool_calls import as_read
from rain_decoding.self_evaluation.decisions import MOST_OPTIONS, Decision
from rain_decoding.server.protocols.decisions.deciding import MOST_QUESTIONS, Decided, State, Wanted
from rain_decoding.server.protocols.decisions.systemone import MOST_LEVELS, as_text, confidence, mean_level
from rain_decoding.server.protocols.responses.body import (
    FunctionCall,
    FunctionOutput,
    Input,
    as_messages,
)
from rain_decoding.server.schemas import BY_TYPE, MOST_PARTS, Body, Ignored, Text, joined
from rain_decoding.types import Message


def _texts(value: Any) -> Any:
    """Parts of JSON as parts of text."""
    if isinstance(value, dict) and value.get("type") == "input_json" and "data" in value:
        return {"type": "input_text", "text": as_text(value["data"])}
    if isinstance(value, dict) and isinstance(value.get("content"), list):
        return {**value, "content": list(map(_texts, value["content"][: MOST_PARTS + 1]))}
    return value


def _items(value: Any) -> Any:
    return list(map(_texts, value)) if isinstance(value, list) else value


def _joined(value: Any) -> Any:
    """Instructions in parts as one text."""
    if not isinstance(value, list):
        return value
    parts = list(map(_texts, value[: MOST_PARTS + 1]))
    if any(not isinstance(part, dict) or part.get("type") != "input_text" for part in parts):
        raise PydanticCustomError("part", "only parts of the types input_text and input_json are supported")
    return "".join(str(part.get("text", "")) for part in parts)


Instructions = Annotated[Text, BeforeValidator(_joined)]


class Predicate(Body):
    type: Literal["predicate"]
    name: Text | None = None
    instructions: Instructions = Field(min_length=1)

    def wanted(self, field: str) -> Wanted:
        return Wanted(field, "yes or no", self.instructions, (("yes", None), ("no", None)))

    def answer(self, decision: Decision) -> dict[str, Any]:
        yes, _ = decision.probabilities or ()
        return {"probability": yes}


class Option(Body):
    value: Text | StrictBool
    description: Text | None = None


class Choice(Body):
    type: Literal["choice"]
    name: Text | None = None
    instructions: Instructions
    choices: list[Option] = Field(min_length=2, max_length=MOST_OPTIONS)

    def wanted(self, field: str) -> Wanted:
        options = tuple((as_text(option.value), option.description) for option in self.choices)
        return Wanted(field, "choice", self.instructions, options)

    def answer(self, decision: Decision) -> dict[str, Any]:
        values = [option.value for option in self.choices]
        shares = decision.probabilities or ()
        return {
            "choice": values[shares.index(max(shares))],
            "confidence": confidence(decision),
            "probabilities": [
                {"value": value, "probability": share} for value, share in zip(values, shares, strict=True)
            ],
        }


class Level(Body):
    label: Text
    description: Text | None = None


class Score(Body):
    type: Literal["score"]
    name: Text | None = None
    instructions: Instructions
    levels: list[Level] = Field(min_length=2, max_length=MOST_LEVELS)

    def wanted(self, field: str) -> Wanted:
        options = tuple((level.label, level.description) for level in self.levels)
        return Wanted(field, "score", self.instructions, options)

    def answer(self, decision: Decision) -> dict[str, Any]:
        shares = decision.probabilities or ()
        return {
            "score": mean_level(shares),
            "confidence": confidence(decision),
            "probabilities": [
                {"value": place, "label": level.label, "probability": share}
                for place, (level, share) in enumerate(zip(self.levels, shares, strict=True))
            ],
        }


def _question(value: Any) -> Any:
    if not isinstance(value, dict) or value.get("type") not in ("predicate", "choice", "score"):
        raise PydanticCustomError("question", "must be an object whose type is predicate, choice or score")
    return value


AnyQuestion = Annotated[
    Annotated[Predicate, Tag("a predicate")]
    | Annotated[Choice, Tag("a choice")]
    | Annotated[Score, Tag("a score")],
    BY_TYPE,
    BeforeValidator(_question),
]


class DecisionsBody(Body):
    """`POST /v1/decisions`."""

    model: str
    input: Annotated[Input, BeforeValidator(_items)]
    questions: list[AnyQuestion] = Field(min_length=1, max_length=MOST_QUESTIONS, fail_fast=True)
    # Taken, and without effect on the answers.
    prompt_cache_key: Ignored = None
    prompt_cache_options: Ignored = None
    safety_identifier: Ignored = None

    @property
    def about(self) -> State:
        """What the questions are about: of calls and their results, what a judge reads of them."""
        if isinstance(self.input, str):
            return State("input", self.input)
        messages = joined(as_messages(self.input))
        if any(isinstance(item, FunctionCall | FunctionOutput) for item in self.input):
            messages = as_read(messages)
        return State("input", messages=tuple(Message(said["role"], said["content"]) for said in messages))

    @property
    def wanted(self) -> list[Wanted]:
        return [question.wanted(f"questions.{place}") for place, question in enumerate(self.questions)]

    def response(self, decided: Decided) -> dict[str, Any]:
        """What is answered: a refusal where a question has no answer."""
        found = zip(self.questions, decided.decisions, strict=True)
        usage = {
            "input_tokens": decided.forwarded,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": decided.forwarded,
        }
        answers = [
            {"type": question.type, "name": question.name, **question.answer(decision)}
            if decision.probabilities is not None
            else {"type": "refusal", "name": question.name}
            for question, decision in found
        ]
        masses = [decision.label_mass for decision in decided.decisions]
        return {"model": self.model, "answers": answers, "usage": usage, "rain": {"label_mass": masses}}
