"""LiteLLM's Generic Guardrail API: texts that a gateway is about to pass on are judged, and answers repaired.

An answer comes without the conversation that it belongs to. Where the gateway has the request checked as well, this
server has seen the conversation a moment before, under the same call id: then an answer is judged as what it is, and a
bad one is replaced by one that this server's own model gives to the same conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from rain_decoding.bounded import BoundedCache
from rain_decoding.decoding.decision_session import GoodAnswer
from rain_decoding.self_evaluation.decisions import Decision
from rain_decoding.server.answer import Answer
from rain_decoding.server.generation import unless_gone
from rain_decoding.server.protocols.decisions.deciding import answered
from rain_decoding.server.schemas import MOST_MESSAGES, MOST_PARTS, ChatBody, Text, joined
from rain_decoding.server.service import Service
from rain_decoding.web.bodies import client_of

PATH = "/beta/litellm_basic_guardrail_api"
KEPT_BYTES = 16 * 2**20
"""Of conversations whose answers may still come."""
BAD = "the answer is not good by the criterion {criterion!r}, and "
NONE_FOUND = "no better one was found"
NONE_SOUGHT = "no better one was sought, since its request was not seen: have the gateway check that, too"

Turns = tuple[dict[str, str], ...]


class GuardrailBody(BaseModel):
    """What LiteLLM sends, as far as it is read; its versions send more."""

    model_config = ConfigDict(extra="ignore")

    input_type: Literal["request", "response"]
    texts: Annotated[list[Text], Field(fail_fast=True, max_length=MOST_PARTS)] | None = None
    structured_messages: Annotated[list[dict[str, Any]], Field(max_length=MOST_MESSAGES)] | None = None
    litellm_call_id: Annotated[str, Field(max_length=256)] | None = None

    @property
    def turns(self) -> Turns:
        """The conversation of a request, in texts; nothing where it holds something else."""
        messages = []
        for message in self.structured_messages or ():
            content = message.get("content")
            if isinstance(content, list) and all(isinstance(part, dict) for part in content):
                content = "".join(str(part.get("text", "")) for part in content)
            role = "system" if message.get("role") == "developer" else message.get("role")
            if role not in ("system", "user", "assistant") or not isinstance(content, str):
                return ()
            messages.append({"role": role, "content": content})
        return tuple(joined(messages))


class Guardrail:
    """Judges what a gateway is about to pass on."""

    def __init__(self, service: Service):
        self.service = service
        self._asked: BoundedCache[tuple[str, str], Turns] = BoundedCache(
            KEPT_BYTES, lambda _, turns: sum(2 * len(turn["content"]) + 200 for turn in turns)
        )
        """Conversations by the client's key and the call id of the gateway."""

    async def check(self, request: Request, body: GuardrailBody) -> dict[str, Any]:
        """What the gateway is to do. Raises `ApiError`."""
        call = (client_of(request.scope), body.litellm_call_id or "")
        texts = body.texts or []
        self.service.parser.check_size(sum(len(text.encode()) for text in texts), "texts")
        if body.input_type == "request":
            if body.litellm_call_id and (turns := body.turns):
                self._asked.put(call, turns)
            return {"action": "NONE"}
        turns = (self._asked.get(call) if body.litellm_call_id else None) or ()
        decisions = await self._judged(request, turns, texts)
        bad = [place for place, decision in enumerate(decisions) if not self._good(decision)]
        if not bad:
            return {"action": "NONE"}
        repaired = await self._repaired(request, turns) if turns else None
        if repaired is None:
            criterion = self.service.parser.decoders.operator.evaluator.name
            reason = BAD.format(criterion=criterion) + (NONE_FOUND if turns else NONE_SOUGHT)
            return {"action": "BLOCKED", "blocked_reason": reason}
        changed = [repaired if place in bad else text for place, text in enumerate(texts)]
        return {"action": "GUARDRAIL_INTERVENED", "texts": changed}

    async def _judged(self, request: Request, turns: Turns, texts: Sequence[str]) -> Sequence[Decision]:
        operator = self.service.parser.decoders.operator

        def read() -> list[GoodAnswer]:
            prompt = operator.build_prompt(list(turns) or UNKNOWN)
            return [GoodAnswer(prompt, text) for text in texts]

        session = await unless_gone(request, answered(self.service, request, read))
        return session.decisions

    def _good(self, decision: Decision) -> bool:
        """Whether an answer may pass: what could not be judged may not."""
        return decision.score is not None and decision.score > self._threshold

    @property
    def _threshold(self) -> float:
        return self.service.parser.decoders.operator.config.fallback_threshold

    async def _repaired(self, request: Request, turns: Turns) -> str | None:
        """The answer that this server gives; None where that is not good, either."""
        body = ChatBody.model_validate({"model": self.service.parser.model, "messages": list(turns)})
        exchange = await unless_gone(request, self.service.read(request, body))
        try:
            await unless_gone(request, exchange.opened())
            answer = Answer(self.service, request, body, "guardrail-", exchange)
            await unless_gone(request, answer.collect())
        except BaseException:
            exchange.close()
            raise
        answer.note_usage()
        completion = answer.completions[0]
        return None if completion.flagged or completion.finish_reason == "unjudged" else completion.text


UNKNOWN = [{"role": "user", "content": "(not known)"}]
"""In place of a conversation that was not seen."""
