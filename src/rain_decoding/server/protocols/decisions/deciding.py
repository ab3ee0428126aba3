"""From the questions of a request to their decisions, whatever API it came by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from rain_decoding.decoding.decision_session import DecisionSession, GoodAnswer
from rain_decoding.self_evaluation.decisions import Asked, Decision, Question, transcript
from rain_decoding.self_evaluation.loading import PRINCIPLE
from rain_decoding.server.exchange import Exchange
from rain_decoding.server.generation import unless_gone
from rain_decoding.server.reading import check_fits
from rain_decoding.server.request_parser import AnswerRequest
from rain_decoding.server.schemas import LONGEST_PRINCIPLE
from rain_decoding.server.service import Service
from rain_decoding.types import Message
from rain_decoding.web.bodies import client_of
from rain_decoding.web.errors import ApiError, queue_timeout

MOST_QUESTIONS = 64
Kind = Literal["yes or no", "choice", "score"]
CRITERION = "criterion:"
"""What the instructions of a question begin with that is about the last answer of a conversation, or `PRINCIPLE`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question of a request. `field` is where it stands there; `options` are names, and what is said of them."""

    field: str
    kind: Kind
    instructions: str
    options: tuple[tuple[str, str | None], ...]

    @property
    def question(self) -> Question:
        """As it is asked of a model."""
        options = tuple(name if said is None else f"{name}: {said}" for name, said in self.options)
        return Question(self.instructions.strip(), options)

    @property
    def is_judged(self) -> bool:
        """Whether a judge answers it."""
        return self.instructions.lstrip().startswith((CRITERION, PRINCIPLE))


@dataclass(frozen=True, slots=True)
class State:
    """What the questions of a request are about: a conversation, or any text. `field` is where it stands there."""

    field: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    before: str = ""
    """What is said before it."""

    @property
    def said(self) -> str:
        """All as a text."""
        parts = (self.before, transcript(self.messages) if self.messages else self.text)
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions of a request in the order of its questions, and the tokens that were forwarded for them."""

    decisions: Sequence[Decision]
    forwarded: int


async def decide(service: Service, request: Request, state: State, wanted: Sequence[Wanted]) -> Decided:
    """Answer the questions. Raises `ApiError`, and `RainError` for what cannot be asked."""
    size = len(state.said.encode()) + sum(len(repr(question).encode()) for question in wanted)
    service.parser.check_size(size, state.field)
    judges = [_judge(service, state, one) if one.is_judged else None for one in wanted]
    if None in judges:
        service.parser.permit("decisions", "questions")
    service.worker.admit(1)
    return await unless_gone(request, _decided(service, request, state, wanted, judges))


async def _decided(
    service: Service,
    request: Request,
    state: State,
    wanted: Sequence[Wanted],
    judges: Sequence[Mapping[str, str] | None],
) -> Decided:
    operator = service.parser.decoders.operator

    def read() -> list[Asked | GoodAnswer]:
        check_fits([state.said], operator.backend.codec, operator.questioner.backend.context_length)
        general = [one.question for one, judge in zip(wanted, judges, strict=True) if judge is None]
        asked = iter(operator.questioner.asked(state.said, general) if general else ())
        if len(general) == len(wanted):
            return list(asked)
        prompt, answer = operator.build_prompt(state.messages[:-1]), state.messages[-1].content
        return [next(asked) if judge is None else GoodAnswer(prompt, answer, **judge) for judge in judges]

    session = await answered(service, request, read)
    return Decided(session.decisions, session.task.forwarded)


async def answered(
    service: Service, request: Request, read: Callable[[], Sequence[Asked | GoodAnswer]]
) -> DecisionSession:
    """The session that answered the questions which `read` gives, in a thread beside the model's. Raises `ApiError`."""
    operator, limit = service.parser.decoders.operator, service.config.max_seconds
    try:
        async with asyncio.timeout(limit):
            questions = await service.reader.read(client_of(request.scope), read)
    except TimeoutError:
        raise queue_timeout() from None
    answer = AnswerRequest(0, lambda: operator.open_decisions(questions, max_seconds=limit))
    exchange = Exchange(service.worker, [answer], request.state.request_id, request.state.started)
    try:
        await exchange.opened()
        async for _ in exchange.news():
            pass
    finally:
        exchange.close()
    session = exchange.session(0)
    assert isinstance(session, DecisionSession)
    if len(session.decisions) < len(questions):
        raise queue_timeout()
    request.state.facts |= {"questions": len(questions), "rain_search_tokens": session.task.forwarded}
    return session


def _judge(service: Service, state: State, wanted: Wanted) -> Mapping[str, str]:
    """Which judge a question's instructions name, as far as the operator allows it; empty: the operator's."""
    parser, operator = service.parser, service.parser.decoders.operator
    kind, _, name = wanted.instructions.strip().partition(":")
    name = name.strip()

    def refused(problem: str, field: str = wanted.field) -> ApiError:
        return ApiError(400, f"{field}: {kind}: {problem}", param=field)

    if wanted.kind != "yes or no":
        raise refused(f"is asked with yes or no, not as a {wanted.kind}")
    if len(state.messages) < 2 or state.messages[-1].role != "assistant":
        raise refused("needs a list of messages of which the last is the assistant's", state.field)
    if kind == "principle":
        parser.permit("principle", wanted.field)
        if not 0 < len(name) <= LONGEST_PRINCIPLE:
            raise refused(f"needs a sentence of at most {LONGEST_PRINCIPLE} characters")
        return {"principle": name}
    own = operator.criterion or operator.config.criterion
    if name in ("", operator.evaluator.name, own if isinstance(own, str) else own.name):
        return {}
    parser.permit("criterion", wanted.field)
    parser.check_criterion(name, wanted.field)
    return {"criterion": name}
