"""Other prompts for the same answer, for proposals that need them: built once, and kept while they are in use."""

from __future__ import annotations

from rain_decoding.backends.base import Backend
from rain_decoding.config import SENTENCE_ENDINGS
from rain_decoding.errors import RainError
from rain_decoding.prompting import Prompt, build_prompt
from rain_decoding.self_evaluation.evaluator import encode_continuation
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.types import Message, Purpose, Reword, Reworded, Tokens

NO_GUIDANCE = "the criterion has no guidance"


class Rewording:
    """Answers `Reword` requests for one prompt, whose answer has `limit` tokens at most.

    `lacking` says what could not be had, and why.
    """

    def __init__(self, backend: Backend, prompt: Prompt, guidance: Guidance | None, limit: int):
        self.backend, self.prompt, self.guidance, self.limit = backend, prompt, guidance, limit
        self.lacking: dict[Purpose, str] = {}
        self._built: dict[tuple[Message, ...], Tokens | None] = {}

    def reworded(self, request: Reword) -> Reworded | None:
        """Another prompt, or None where there is none."""
        if problem := self._lacks(request.purpose):
            self.lacking[request.purpose] = problem
            return None
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

    def _lacks(self, purpose: Purpose) -> str:
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
        """What is worth keeping of the other prompts, with the answer so far."""
        return [prompt + answer for prompt in self._built.values() if prompt]

    def warnings(self) -> list[str]:
        """What the model lacks, in words. That a criterion has nothing to say is no fault of the model."""
        return [
            f"nothing was proposed as {purpose}: {problem}"
            for purpose, problem in self.lacking.items()
            if problem != NO_GUIDANCE
        ]


def _joined(answer: str, text: str) -> str:
    """A text behind an answer so far: in the same line where a sentence has ended, else in a new paragraph."""
    if not answer or answer[-1].isspace():
        return text
    return (" " if answer.endswith(tuple(SENTENCE_ENDINGS)) else "\n\n") + text
