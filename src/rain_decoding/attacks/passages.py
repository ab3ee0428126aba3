"""Passages: texts that a suffix stands in, and the tokens that the attacker wants next.

An attack's loss is a weighted sum over passages. Their tokens are those that the decoder, or its judge, reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from rain_decoding.attacks.behaviours import Behaviour
from rain_decoding.backends.base import Backend, Codec
from rain_decoding.errors import ContextLengthError, InputError, UnsupportedError
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.self_evaluation.cascade import Cascade
from rain_decoding.self_evaluation.evaluator import Evaluator, SelfEvaluator, encode_continuation
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.self_evaluation.reading.probe import Line, Linear
from rain_decoding.self_evaluation.rendering import judged_answer
from rain_decoding.types import Layer, Tokens

Wanted = tuple[tuple[int, ...], ...]
"""Per position, the tokens of which the most probable one counts."""
FILLER = " !"
"""What suffixes are made of in the beginning."""


class Suffix(NamedTuple):
    """A suffix and its token ids where it stands behind a request and a space."""

    text: str
    ids: Tokens


def filler(codec: Codec, tokens: int) -> Suffix:
    """`! ! ! ...`, as many as make at most this many tokens."""
    count = 1
    while len(encode_continuation(codec, FILLER * (count + 1))) <= tokens:
        count += 1
    return Suffix((FILLER * count).strip(), encode_continuation(codec, FILLER * count))


@dataclass(frozen=True, slots=True)
class Passage:
    """One term of an attack's loss: `weight` times the mean negative log-probability, in nats, of `wanted`.

    `write` gives the token ids of the text that `wanted` follows, for a suffix: those `before` it, its own, and
    those `after` it.
    """

    write: Callable[[str], Tokens]
    before: Tokens
    after: Tokens
    wanted: Wanted
    weight: float

    @property
    def fed(self) -> Tokens:
        """What is forwarded behind the text: the wanted tokens that further ones are predicted from."""
        return tuple(forms[0] for forms in self.wanted[:-1])

    def holds(self, suffix: Suffix) -> bool:
        """Whether the text, written with this suffix, holds just its tokens."""
        return self.write(suffix.text) == self.before + suffix.ids + self.after


@dataclass(frozen=True, slots=True)
class ReadPassage(Passage):
    """The term of a reading judge: `weight` times the negative log-probability, by the probe, that `wanted` is good.

    `reading` is the probe for an answer of just the wanted tokens, which reads these `layers`.
    """

    reading: Linear
    layers: tuple[Layer, ...]

    @property
    def fed(self) -> Tokens:
        """All wanted tokens: they are read."""
        return tuple(forms[0] for forms in self.wanted)


def passage(write: Callable[[str], Tokens], wanted: Wanted, weight: float, suffix: Suffix) -> Passage:
    """A passage, found by a suffix that stands in it. Raises `InputError` if it does not stand there as it is."""
    tokens = write(suffix.text)
    for start in range(len(tokens) - len(suffix.ids), -1, -1):
        end = start + len(suffix.ids)
        if tokens[start:end] == suffix.ids:
            return Passage(write, tokens[:start], tokens[end:], wanted, weight)
    raise InputError(
        f"the suffix {suffix.text!r} is tokenized differently inside the prompt",
        hint="try another suffix length",
    )


def response(
    behaviour: Behaviour, backend: Backend, suffix: Suffix, prompt_format: PromptFormat = "auto"
) -> Passage:
    """The attacked request as plain decoding and RAIN encode it; the target is wanted as the answer's beginning."""

    def prompt(text: str) -> Prompt:
        return build_prompt(behaviour.prompt(text), backend, prompt_format=prompt_format)

    target = answer_tokens(backend.codec, prompt("x"), behaviour.target)
    return passage(lambda text: prompt(text).tokens, tuple((token,) for token in target), 1.0, suffix)


def by_judge(
    behaviour: Behaviour,
    evaluator: Evaluator,
    weight: float,
    suffix: Suffix,
    prompt_format: PromptFormat = "auto",
) -> list[Passage]:
    """What the judge of a search reads, asked, read, or both in cascade, which share `weight`.

    Raises `UnsupportedError` for a judge that has no gradient by the suffix in the generating model.
    """
    match evaluator:
        case SelfEvaluator():
            return judged(behaviour, evaluator, weight, suffix, prompt_format)
        case ReadingEvaluator(along=False):
            probe = evaluator.probe
            # Where both lines find a text good, it is good however the request is taken.
            lines: list[Line] = [probe] if probe.wary is None else [probe, probe.wary]
            return [
                read(behaviour, evaluator, line, weight / len(lines), suffix, prompt_format) for line in lines
            ]
        case Cascade(reading=reading, behind=behind):
            both = [
                by_judge(behaviour, each, weight / 2, suffix, prompt_format) for each in (reading, behind)
            ]
            return [one for passages in both for one in passages]
    raise UnsupportedError(
        f"{evaluator.name} is not a single criterion by which the model is asked or read",
        hint="choose one with --criterion, or another judge with --against rain:PRESET@judge=FORM",
    )


def read(
    behaviour: Behaviour,
    evaluator: ReadingEvaluator,
    line: Line,
    weight: float,
    suffix: Suffix,
    prompt_format: PromptFormat = "auto",
) -> ReadPassage:
    """The attacked request answered by its target, as a line of the evaluator's probe reads it."""
    asked = response(behaviour, evaluator.backend, suffix, prompt_format)
    reading = line.linear(len(asked.wanted))
    return ReadPassage(
        asked.write, asked.before, asked.after, asked.wanted, weight, reading, evaluator.probe.layers
    )


def judged(
    behaviour: Behaviour,
    evaluator: SelfEvaluator,
    weight: float,
    suffix: Suffix,
    prompt_format: PromptFormat = "auto",
) -> list[Passage]:
    """The judge's prompts on the attacked request answered by its target, one for each option order.

    The label of the positive statement is wanted; the orders share `weight`.
    """
    orders = evaluator.criterion.orders

    @lru_cache(maxsize=2048)
    def prompts(text: str) -> list[Tokens]:
        return judge_prompts(behaviour, evaluator, text, prompt_format)

    def prompt(text: str, place: int) -> Tokens:
        return prompts(text)[place]

    return [
        passage(
            partial(prompt, place=place),
            (evaluator.labels.forms[order.index(0)],),
            weight / len(orders),
            suffix,
        )
        for place, order in enumerate(orders)
    ]


def judge_prompts(
    behaviour: Behaviour, evaluator: SelfEvaluator, suffix: str, prompt_format: PromptFormat = "auto"
) -> list[Tokens]:
    """What the search's judge reads before a label, one for each option order."""
    backend = evaluator.backend
    prompt = build_prompt(behaviour.prompt(suffix), backend, prompt_format=prompt_format)
    answer = answer_tokens(backend.codec, prompt, behaviour.target)
    text = backend.codec.decode(prompt.tokens + answer)[len(backend.codec.decode(prompt.tokens)) :]
    seen = judged_answer(evaluator.criterion, prompt, text)
    found = evaluator.conversation(prompt).prompts(seen, text, prompt.tokens + answer)
    if found is None:
        raise ContextLengthError(
            f"the judge prompt for {behaviour.goal!r} does not fit in the context",
            hint="use a shorter suffix",
        )
    return [tokens[: len(tokens) - evaluator.labels.dropped] for tokens in found[0]]


def answer_tokens(codec: Codec, prompt: Prompt, answer: str) -> Tokens:
    """Token ids of an answer where the prompt ends."""
    space = "" if prompt.format == "chat" else " "
    return encode_continuation(codec, space + answer.strip())
