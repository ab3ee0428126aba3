"""Other prompts for the same answer, or shifted states, for proposals that need them: made once, kept while in use."""

from __future__ import annotations

from collections.abc import Callable

from rain_decoding.backends.base import Backend
from rain_decoding.backends.directions import Direction, shifted
from rain_decoding.config import SENTENCE_ENDINGS
from rain_decoding.errors import RainError
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.self_evaluation.evaluator import encode_continuation
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.types import UNSHIFTED, Message, Purpose, Reword, Reworded, Shift, Tokens

STEPS = 8
"""How finely it is told how harmful a request is: the engine keeps every direction that it was ever asked for."""
NO_GUIDANCE = "the criterion has no guidance"
NOT_READ = "the judge does not read the model's hidden states by a probe"


class Rewording:
    """Answers `Reword` requests for one prompt, whose answer has `limit` tokens at most.

    `towards` gives what states are shifted along for a request that is harmful with a probability; None: nothing does.
    `lacking` says what could not be had, and why.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt,
        guidance: Guidance | None,
        limit: int,
        towards: Callable[[float], Direction] | None = None,
    ):
        self.backend, self.prompt, self.guidance, self.limit = backend, prompt, guidance, limit
        self.towards = towards
        self.lacking: dict[Purpose, str] = {}
        self._built: dict[tuple[Message, ...], Tokens | None] = {}
        self._shift = UNSHIFTED

    def reworded(self, request: Reword) -> Reworded | None:
        """Another prompt, or None where there is none."""
        if problem := self._lacks(request.purpose):
            self.lacking[request.purpose] = problem
            return None
        if request.purpose == "steered":
            return Reworded((), shift=self._steered(request.harmful))
        assert self.guidance is not None
        decode = self.backend.codec.decode
        answer = decode(request.tokens[len(self.prompt.tokens) :])
        messages, opening = self._messages(
            request.purpose, self.guidance, answer, decode(request.sentence), decode(request.critique)
        )
        prompt = self._prompt(tuple(messages), request.purpose)
        if prompt is None:
            return None
        return Reworded(prompt, encode_continuation(self.backend.codec, opening) if opening else ())

    def _steered(self, harmful: float) -> int:
        """The number of the direction: the first one stays, so that a text goes on as it began."""
        assert self.towards is not None
        if not self._shift.number:
            number = self.backend.shift_along(self.towards(round(harmful * STEPS) / STEPS))
            self._shift = Shift(number, len(self.prompt.tokens) - 1)
        return self._shift.number

    def _lacks(self, purpose: Purpose) -> str:
        if purpose == "steered":
            if not self.backend.capabilities.shifts:
                return f"{self.backend.name} cannot shift hidden states"
            return NOT_READ if self.towards is None else ""
        if self.guidance is None:
            return NO_GUIDANCE
        if self.prompt.format == "text":
            return "a text that is continued has no request to quote"
        if purpose == "opposite" and not self.backend.capabilities.contrast:
            return f"{self.backend.name} gives no logits"
        return ""

    def _messages(
        self, purpose: Purpose, guidance: Guidance, answer: str, sentence: str, critique: str
    ) -> tuple[list[Message], str]:
        """The conversation to put in place of the own one, and what the answer goes on with."""
        conversation = self.prompt.messages
        match purpose:
            case "guided":
                return guidance.guided(conversation), ""
            case "criticised":
                return guidance.guided(conversation, critique.strip()), ""
            case "declined":
                return guidance.guided(conversation), _joined(answer, guidance.decline)
            case "critic":
                draft = (answer + sentence).strip()
                return guidance.asked_for_critique(conversation, draft), guidance.finding
            case "opposite":
                return guidance.opposed(conversation), ""
            case "steered":
                raise AssertionError("it goes on under the same prompt")

    def _prompt(self, messages: tuple[Message, ...], purpose: Purpose) -> Tokens | None:
        """The tokens of a conversation that leaves room for the answer."""
        if messages not in self._built:
            try:
                form = self.prompt.format
                tokens = build_prompt(messages, self.backend, prompt_format=form).tokens
                room = self.backend.context_length - len(tokens) - self.limit
                self._built[messages] = tokens if room >= 0 else None
                if room < 0:
                    self.lacking[purpose] = "its prompt does not fit into the context"
            except RainError as error:  # a template without system messages, for one
                self.lacking[purpose] = str(error)
                self._built[messages] = None
        return self._built[messages]

    def held(self, answer: Tokens) -> list[Tokens]:
        """What is worth keeping of the other prompts and of shifted states, with the answer so far."""
        others = [prompt + answer for prompt in self._built.values() if prompt]
        shifts = [shifted(self.prompt.tokens + answer, self._shift)] if self._shift.number else []
        return others + shifts

    def warnings(self) -> list[str]:
        """What the model lacks, in words. What a criterion or a judge has not is no fault of the model."""
        return [
            f"nothing was proposed as {purpose}: {problem}"
            for purpose, problem in self.lacking.items()
            if problem not in (NO_GUIDANCE, NOT_READ)
        ]


def _joined(answer: str, text: str) -> str:
    """A text behind an answer so far: in the same line where a sentence has ended, else in a new paragraph."""
    if not answer or answer[-1].isspace():
        return text
    return (" " if answer.endswith(tuple(SENTENCE_ENDINGS)) else "\n\n") + text
