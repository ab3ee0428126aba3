"""What baselines share that tell the model what is asked of it, beside judging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.baselines.judged import JudgedDecoder
from rain_decoding.decoding.decoder import Decoder, PromptLike
from rain_decoding.decoding.session import Options
from rain_decoding.errors import UnsupportedError
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Evaluator, SelfEvaluator
from rain_decoding.types import Message


class GuidedDecoder(JudgedDecoder):
    """A judged decoder that also has statements, to tell the model what its answer should be.

    Args:
        backend: The model.
        criterion: As for `RainDecoder`.
        guide: The criterion whose words are used; None: that of the judge.
        options: Other arguments of `JudgedDecoder`.

    Raises:
        UnsupportedError: The judge has no statements, and no guide was given; or, for a prompt, it is a text that is
            continued: there is no conversation to say anything in.
        CriterionError: The criterion is unknown or broken.
    """

    def __init__(
        self,
        backend: Backend,
        criterion: str | Criterion | Evaluator,
        *,
        guide: Criterion | None = None,
        **options: Any,
    ):
        super().__init__(backend, criterion, **options)
        if guide is not None:
            self.guide = guide
        elif isinstance(self.evaluator, SelfEvaluator):
            self.guide = self.evaluator.criterion
        else:
            raise UnsupportedError(
                f"the judge {self.evaluator.name} has no statements to guide the model by",
                hint="use a criterion with statements",
            )


class InstructedDecoder(Decoder):
    """A decoder under a system message that judges nothing. Subclasses open sessions on what is `instructed`.

    Args:
        backend: The model.
        guide: The criterion whose words are used.
        prompt_format: How prompts are encoded, see `PromptFormat`. A text that is continued is refused.
    """

    def __init__(self, backend: Backend, guide: Criterion, prompt_format: PromptFormat = "auto"):
        self.backend, self.guide, self.prompt_format = backend, guide, prompt_format

    def instructed(self, prompt: PromptLike, options: Options, *texts: str) -> list[Prompt]:
        """The prompt under each of the texts as system message."""
        options.refuse_sampling("the baselines decode")
        options.refuse_criterion("decoding under a system message is not judged")
        built = build_prompt(prompt, self.backend, prompt_format=self.prompt_format, stop=options.stop)
        return [in_conversation(self.backend, built, with_system(built.messages, text)) for text in texts]


def in_conversation(backend: Backend, prompt: Prompt, messages: Sequence[Message]) -> Prompt:
    """Other messages in place of a prompt's, encoded as it is. Raises `UnsupportedError` for a text to continue."""
    if prompt.format == "text":
        raise UnsupportedError(
            "there is no conversation in a text that is continued", hint="leave this decoder out"
        )
    built = build_prompt(messages, backend, prompt_format=prompt.format)
    return build_prompt(built, backend, stop=[mark for mark in prompt.markers if mark not in built.markers])


def with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """The messages behind a system message, or with it in front of their own."""
    if messages[0].role == "system":
        return [Message("system", f"{text}\n\n{messages[0].content}"), *messages[1:]]
    return [Message("system", text), *messages]
