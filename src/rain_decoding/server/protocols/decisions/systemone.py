"""System One, as vLLM has it: a state and named questions of the types `noul`, `choice` and `score`."""

from __future__ import annotations

import json
import time
import uuid
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from rain_decoding.self_evaluation.decisions import MOST_OPTIONS, Decision
from rain_decoding.server.protocols.decisions.deciding import MOST_QUESTIONS, Decided, State, Wanted
from rain_decoding.server.schemas import BY_TYPE, MOST_MESSAGES, Body, Ignored, Text, check_neutral
from rain_decoding.types import Message
from rain_decoding.web.errors import ApiError
from rain_decoding.web.numbers import Whole

MOST_LEVELS = 10


def as_text(value: Any) -> str:
    """A text as it is, and anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


Said = Annotated[Text, BeforeValidator(as_text)]
"""A text, or JSON that is read as one."""


class Noul(Body):
    type: Literal["noul"]
    criteria: dict[Literal["true", "false"], Text] | None = None
    instructions: Said = Field(default="", validate_default=True)

    @field_validator("instructions")
    @classmethod
    def _asks_something(cls, said: str, others: ValidationInfo) -> str:
        if not said.strip() and not others.data.get("criteria"):
            raise PydanticCustomError("question", "must not be empty where there are no criteria")
        return said

    def wanted(self, field: str) -> Wanted:
        said = self.criteria or {}
        return Wanted(
            field, "yes or no", self.instructions, (("yes", said.get("true")), ("no", said.get("false")))
        )

    def answer(self, decision: Decision) -> dict[str, Any]:
        yes, no = decision.probabilities or ()
        return {"type": self.type, "noul": yes, "probabilities": {"yes": yes, "no": no}}


class Choice(Body):
    type: Literal["choice"]
    instructions: Said = ""
    criteria: dict[Text, Text | None] = Field(min_length=2, max_length=MOST_OPTIONS)

    def wanted(self, field: str) -> Wanted:
        return Wanted(field, "choice", self.instructions, tuple(self.criteria.items()))

    def answer(self, decision: Decision) -> dict[str, Any]:
        shares = dict(zip(self.criteria, decision.probabilities or (), strict=True))
        return {"type": self.type, "choice": max(shares, key=shares.__getitem__), "probabilities": shares}


class Score(Body):
    type: Literal["score"]
    instructions: Said = ""
    criteria: list[Text] = Field(min_length=2, max_length=MOST_LEVELS)

    def wanted(self, field: str) -> Wanted:
        return Wanted(field, "score", self.instructions, tuple((level, None) for level in self.criteria))

    def answer(self, decision: Decision) -> dict[str, Any]:
        shares = decision.probabilities or ()
        return {
            "type": self.type,
            "score": mean_level(shares),
            "legend": {str(place): level for place, level in enumerate(self.criteria)},
            "probabilities": {str(place): share for place, share in enumerate(shares)},
        }


def mean_level(shares: tuple[float, ...]) -> float:
    """The expected level, the first of which is 0."""
    return sum(place * share for place, share in enumerate(shares))


def confidence(decision: Decision) -> float:
    """The probability of the most probable option over the whole vocabulary, where labels were read."""
    return max(decision.probabilities or (0.0,)) * (
        1.0 if decision.label_mass is None else decision.label_mass
    )


QUESTIONS = ("noul", "choice", "score")


def _question(value: Any) -> Any:
    if not isinstance(value, dict) or value.get("type") not in QUESTIONS:
        raise PydanticCustomError("question", "must be an object whose type is noul, choice or score")
    return value


AnyQuestion = Annotated[
    Annotated[Noul, Tag("a noul")] | Annotated[Choice, Tag("a choice")] | Annotated[Score, Tag("a score")],
    BY_TYPE,
    BeforeValidator(_question),
]


class Turn(Body):
    role: Literal["system", "user", "assistant"]
    content: Text


TURNS = TypeAdapter(Annotated[list[Turn], Field(min_length=1, max_length=MOST_MESSAGES)])


class SystemOneBody(Body):
    """`POST /v1/systemone`."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        "decision_template": (),
        "chat_template_kwargs": ({}, {"enable_thinking": False}),
        "images": ([],),
    }

    model: str
    state: Any
    questions: dict[Annotated[Text, Field(min_length=1, max_length=256)], AnyQuestion] = Field(
        min_length=1, max_length=MOST_QUESTIONS
    )
    instructions: Text = ""
    # Taken, and without effect on the answers.
    seed: Whole | None = None
    priority: Ignored = None
    cache_salt: Ignored = None
    request_id: Ignored = None
    # Taken at their neutral values only.
    decision_template: SkipJsonSchema[Any] = None
    chat_template_kwargs: SkipJsonSchema[Any] = None
    images: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _check(self) -> SystemOneBody:
        check_neutral(self, self.honoured_if)
        as_text(self.state).encode()  # half a surrogate pair is no text
        return self

    @property
    def about(self) -> State:
        """What the questions are about; messages with roles are a conversation."""
        try:
            turns = TURNS.validate_python(self.state)
        except ValidationError:
            return State("state", as_text(self.state), before=self.instructions)
        messages = tuple(Message(turn.role, turn.content) for turn in turns)
        return State("state", messages=messages, before=self.instructions)

    @property
    def wanted(self) -> list[Wanted]:
        return [question.wanted(f"questions.{name}") for name, question in self.questions.items()]

    def response(self, decided: Decided) -> dict[str, Any]:
        """What is answered. Raises `ApiError` where a question has no answer."""
        found = dict(zip(self.questions, decided.decisions, strict=True))
        for name, decision in found.items():
            if decision.probabilities is None:
                raise ApiError(422, f"questions.{name}: {decision.problem}", param=f"questions.{name}")
        answers = {name: self.questions[name].answer(each) for name, each in found.items()}
        return {
            "id": f"decision-{uuid.uuid4().hex}",
            "object": "structured_decision",
            "created": int(time.time()),
            "model": self.model,
            "answers": {
                name: {**answer, "confidence": confidence(found[name])} for name, answer in answers.items()
            },
            "usage": {"input_tokens": decided.forwarded, "output_tokens": 0},
            "diagnostics": {
                name: {"label_mass": decision.label_mass}
                for name, decision in found.items()
                if decision.label_mass is not None
            },
        }
