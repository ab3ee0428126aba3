"""How a conversation becomes a judge prompt, and how what is judged is kept from talking back."""

from __future__ import annotations

from collections.abc import Sequence

from rain_decoding.backends.base import Codec
from rain_decoding.backends.endings import INCOMPLETE
from rain_decoding.bounded import BoundedCache
from rain_decoding.control_text import neutralised, without_control_tokens
from rain_decoding.errors import CriterionError
from rain_decoding.prompting import (
    ASSISTANT_MARKER,
    USER_MARKER,
    Prompt,
    closed_thinking,
    dialogue,
)
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.types import Message, Tokens

CLEANED_BYTES = 4 * 2**20
"""Of the texts that a criterion's renderer remembers."""
FULL_STOPS = ".。．｡।॥۔።။។"
"""Full stops of Unicode's scripts (`Sentence_Terminal`)."""


def judged_answer(criterion: Criterion, prompt: Prompt, answer: str) -> str:
    """What the judge sees of an answer: cut at the next turn's marker and, if asked, after a full stop."""
    answer = own_answer(prompt, answer)
    if criterion.cut_after_full_stop and not prompt.uncut:
        end = max(answer.rfind(stop) for stop in FULL_STOPS)
        answer = answer[: end + 1] if end >= 0 else answer
    return answer


def own_answer(prompt: Prompt, text: str) -> str:
    """What of a generated text is the answer: up to the next turn's marker."""
    text = text.rstrip(INCOMPLETE)
    for marker in prompt.markers:
        text = text.split(marker, 1)[0]
    return text.strip() if prompt.strip else text


class Renderer:
    """Writes judge prompts for one criterion and tokenizer. Chat models are asked through their template."""

    def __init__(self, criterion: Criterion, codec: Codec):
        if criterion.placement == "template" and not codec.has_chat_template:
            raise CriterionError(
                f"the criterion {criterion.name} asks through a chat template, but the judge has none",
                hint="use the model that it was made for as the judge: --judge MODEL",
            )
        self.criterion, self.codec = criterion, codec
        # In the place of a suffix, the turns are generation's own.
        own = (USER_MARKER, ASSISTANT_MARKER) if criterion.placement == "suffix" else ()
        self._markers = (*criterion.markers, *own)
        self._cleaned_before: BoundedCache[str, str] = BoundedCache(
            CLEANED_BYTES, lambda text, cleaned: 2 * len(text) + 2 * len(cleaned)
        )
        self.prefix = self._prefix()

    def conversation(self, prompt: Prompt, answer: str, *, dropped: int = 0) -> str:
        """The conversation as the judge sees it: neutralised, and without the first `dropped` turns."""
        if prompt.format == "text":
            return self._clean(prompt.messages[0].content + answer)
        turns = [*prompt.turns, Message("assistant", answer)]
        return self._turns(turns[dropped:])

    def question(
        self, prompt: Prompt, answer: str, order: Sequence[int], *, dropped: int = 0, shots: bool = True
    ) -> tuple[str, bool]:
        """The judge prompt for an answer, without the first `dropped` turns, as `judge_prompt` gives it."""
        if self.criterion.placement == "template":
            return self._guarded([*prompt.turns, Message("assistant", answer)][dropped:])
        return self.judge_prompt(self.conversation(prompt, answer, dropped=dropped), order, shots=shots)

    def sample(self, user: str, answer: str, *, shots: bool = True) -> tuple[str, bool]:
        """A judge prompt of the form that all have."""
        if self.criterion.placement == "template":
            return self._guarded([Message("user", user), Message("assistant", answer)])
        return self.judge_prompt(answer, self.criterion.orders[0], shots=shots)

    def droppable(self, turns: int) -> range:
        """How many of the earlier turns may be left out: never the last one, which is what the answer answers; and a
        template takes whole exchanges only."""
        return range(0, turns, 2 if self.criterion.placement == "template" else 1)

    def _guarded(self, turns: Sequence[Message]) -> tuple[str, bool]:
        """The conversation in the model's own template, which holds the question."""
        rendered = closed_thinking(self.codec.render_chat(self._cleaned(turns), thinking=False))
        lead = self.criterion.lead
        # Some versions of a template end in what the label follows, or in a part of it.
        there = next(size for size in range(len(lead), -1, -1) if rendered.endswith(lead[:size]))
        return rendered + lead[there:], False

    def judge_prompt(
        self, conversation: str, order: Sequence[int], *, shots: bool = True
    ) -> tuple[str, bool]:
        """The judge prompt up to where the label stands, and whether it is encoded as a sequence's start.

        Without `shots` the few-shot text is left out.
        """
        before = self.prefix if shots else self._instruction()
        asked = f"{before}{conversation}{self.criterion.separator}{self.criterion.ask(order)}"
        if self.codec.has_chat_template:
            system = [Message("system", self.criterion.instruction)] if self.criterion.system else []
            rendered = self.codec.render_chat([*system, Message("user", asked)], thinking=False)
            return closed_thinking(rendered) + self.criterion.lead, False
        return f"{asked}\n{self.criterion.lead}", True

    def suffix(self, prompt: Prompt, answer: str, order: Sequence[int]) -> tuple[str, bool]:
        """The question after the conversation itself: generation's own prompt, the answer, the question."""
        question = self.criterion.ask(order)
        if prompt.format == "chat":
            messages = self._cleaned([*prompt.messages, Message("assistant", answer)])
            rendered = self.codec.render_chat([*messages, Message("user", question)], thinking=False)
            return closed_thinking(rendered) + self.criterion.lead, False
        space = " " if prompt.format == "dialogue" and answer else ""
        tail = f"{self.criterion.separator}{question}\n{self.criterion.lead}"
        return f"{self._prompt_text(prompt)}{space}{self._clean(answer)}{tail}", True

    def _prompt_text(self, prompt: Prompt) -> str:
        """The text of generation's own prompt; where its messages hold markers, with these broken."""
        messages = self._cleaned(prompt.messages)
        if prompt.format == "text":
            return messages[0].content
        if messages == list(prompt.messages):
            return prompt.text
        before, _, after = prompt.text.rpartition(dialogue(prompt.messages, ""))
        return f"{before}{dialogue(messages, '')}{after}"

    def encode(self, rendered: tuple[str, bool]) -> Tokens:
        """Token ids of a rendered prompt."""
        text, start = rendered
        return self.codec.encode(text, start=start)

    @property
    def has_shots(self) -> bool:
        """Whether there is few-shot text that may be left out."""
        return self.prefix != self._instruction()

    def _instruction(self) -> str:
        criterion = self.criterion
        return criterion.instruction + criterion.separator if criterion.instruction and self.prefix else ""

    def _prefix(self) -> str:
        criterion = self.criterion
        if criterion.placement != "prefix":
            return ""
        if criterion.prefix is not None:
            return criterion.prefix.rstrip() + criterion.separator
        own = "" if criterion.system and self.codec.has_chat_template else criterion.instruction
        parts = [own, *(self._example(index) for index in range(len(criterion.examples)))]
        return "".join(part + criterion.separator for part in parts if part)

    def _example(self, index: int) -> str:
        criterion, example = self.criterion, self.criterion.examples[index]
        conversation = example.messages[0].content if example.is_text else self._turns(example.messages)
        first = 0 if example.first == "positive" or not criterion.both_orders else 1
        order = criterion.orders[first]
        statement = ("positive", "negative", "neutral").index(example.verdict)
        label = criterion.labels[order.index(statement)][0]
        question = f"{criterion.separator}{criterion.ask(order)}\n{criterion.lead}"
        return f"{conversation}{question}{label}{criterion.close}"

    def _turns(self, messages: Sequence[Message]) -> str:
        return self.criterion.separator.join(self._turn(message) for message in messages)

    def _turn(self, message: Message) -> str:
        marker = self.criterion.user if message.role == "user" else self.criterion.assistant
        text = self._clean(message.content).strip()
        space = " " if marker.endswith(":") and text else ""
        return f"{marker}{space}{text}"

    def _cleaned(self, messages: Sequence[Message]) -> list[Message]:
        return [Message(message.role, self._clean(message.content)) for message in messages]

    def _clean(self, text: str) -> str:
        """The text as it may stand in a judge prompt; remembered, since earlier turns stand in every one."""
        if (cleaned := self._cleaned_before.get(text)) is None:
            cleaned = neutralised(
                without_control_tokens(text, self.codec.control_texts_in([text])), self._markers
            )
            self._cleaned_before.put(text, cleaned)
        return cleaned


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    return next(
        (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
