"""Pooled hidden states of labelled answers and of their beginnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from rain_decoding.backends.base import Backend, Codec
from rain_decoding.errors import ContextLengthError
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.scheduler import Scheduler, Task
from rain_decoding.self_evaluation.evaluator import encode_continuation
from rain_decoding.self_evaluation.reading.examples import ReadingExample
from rain_decoding.self_evaluation.reading.pooling import POOLINGS
from rain_decoding.self_evaluation.rendering import common_prefix
from rain_decoding.types import HiddenStates, Layer, Tokens

BEGINNINGS = (4, 8, 16, 32)
"""Tokens of the beginnings that are looked at beside the whole answer."""
LONGEST = 64
"""Tokens of an answer that are read at most."""
BRIEF = 24
"""As many of an example of ours: what makes it good or bad stands early in it, and reading takes the longest part of
fitting (docs/results/reading.md)."""
DEPTHS = (0.6, 0.7, 0.85)
"""Where the layers lie that a probe reads, as shares of the model's depth (docs/results/reading.md)."""


class States(NamedTuple):
    """Hidden states of an example, float32."""

    request: np.ndarray
    """Of the tokens of the last message, `[layers, tokens, width]`."""
    answer: np.ndarray
    """Of the last token before the answer and of the answer's, `[layers, 1 + tokens, width]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Pooled states. An example has a row for each of its beginnings, and one for the whole."""

    features: np.ndarray
    """float32 `[rows, layers, poolings, 2 * width]`: what is pooled, and the state before the answer."""
    good: np.ndarray
    """bool `[rows]`."""
    groups: np.ndarray
    """Names `[rows]`: what belongs together."""
    examples: np.ndarray
    """The number of the example, int64 `[rows]`."""
    counts: np.ndarray
    """Tokens read, float64 `[rows]`."""
    whole: np.ndarray
    """Whether the row is the whole answer, bool `[rows]`."""
    layers: tuple[Layer, ...]
    poolings: tuple[str, ...] = tuple(POOLINGS)

    def of(self, layer: Layer, pooling: str) -> np.ndarray:
        """Features of one layer and pooling, float64 `[rows, 2 * width]`."""
        return self.features[:, self.layers.index(layer), self.poolings.index(pooling)].astype(np.float64)

    def only(self, chosen: np.ndarray) -> Rows:
        """Some of the rows, by a mask or by numbers."""
        arrays = {
            field.name: value[chosen]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return Rows(**arrays, layers=self.layers, poolings=self.poolings)

    @property
    def weights(self) -> np.ndarray:
        """The rows of an example share a weight of 1, float64 `[rows]`."""
        _, place, sizes = np.unique(self.examples, return_inverse=True, return_counts=True)
        return 1.0 / sizes[place]


def layers_to_read(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Of the layers that a backend can read those that a probe reads: behind the middle, or else what there is."""
    depth = max(layers)
    return (
        tuple(dict.fromkeys(max(1, round(depth * share)) for share in DEPTHS)) if depth > 0 else (layers[-1],)
    )


def answer_tokens(codec: Codec, prompt: Prompt, answer: str) -> Tokens:
    """Token ids of an answer as the model would go on with it after the prompt."""
    lead = " " if prompt.format == "dialogue" else ""
    return encode_continuation(codec, lead + answer)


def request_span(codec: Codec, prompt: Prompt) -> tuple[int, int]:
    """Which tokens of a prompt are those of its last message: the first, and the one behind the last.

    The whole prompt, where the message does not stand in its text as it is.
    """
    content = prompt.messages[-1].content.strip()
    place = prompt.text.rfind(content)
    if place < 0:
        return 0, len(prompt.tokens)
    before = codec.encode(prompt.text[:place], start=prompt.format != "chat")
    behind = codec.encode(prompt.text[place + len(content) :], start=False)
    begin = common_prefix(before, prompt.tokens)
    end = len(prompt.tokens) - common_prefix(behind[::-1], prompt.tokens[::-1])
    return begin, max(begin, end)


def read_states(
    backend: Backend,
    examples: Sequence[ReadingExample],
    layers: Sequence[Layer],
    *,
    longest: int = LONGEST,
    prompt_format: PromptFormat = "auto",
) -> Iterator[tuple[int, States]]:
    """Number and states of each example, up to `longest` tokens of its answer, in another order.

    What does not fit into the context is left out. Raises what the backend raises.
    """
    backend.keep_layers(layers)
    numbers: dict[Task[object, States], int] = {}

    def tasks() -> Iterator[Task[object, States]]:
        # Those that begin alike come one after the other: what they share is forwarded once.
        for prompt, answer, number in sorted(texts(), key=lambda text: text[0].tokens + text[1]):
            program = _states(backend.codec, prompt, answer, tuple(layers))
            task = Task[object, States](program, backend.new_owner())
            numbers[task] = number
            yield task

    def texts() -> Iterator[tuple[Prompt, Tokens, int]]:
        for number, example in enumerate(examples):
            try:
                prompt = build_prompt(example.messages, backend, prompt_format=prompt_format)
            except ContextLengthError:
                continue
            room = min(longest, backend.context_length - len(prompt.tokens))
            yield prompt, answer_tokens(backend.codec, prompt, example.answer)[:room], number

    before: int | None = None
    with closing(Scheduler.of(backend).run(tasks(), 1)) as finished:
        try:
            for task in finished:
                if before is not None:
                    backend.finish(before)  # not sooner: the next one may begin as it did
                before = task.owner
                if task.error is not None:
                    raise task.error
                assert task.result is not None
                yield numbers.pop(task), task.result
        finally:
            if before is not None:
                backend.finish(before)


def _states(codec: Codec, prompt: Prompt, answer: Tokens, layers: tuple[Layer, ...]) -> Program[States]:
    begin, end = request_span(codec, prompt)
    last = len(prompt.tokens) - 1
    start = min(begin, last)
    states = yield from ask(HiddenStates(prompt.tokens + answer, start, layers))
    return States(states[:, : end - start], states[:, last - start :])


@dataclass(frozen=True, slots=True)
class Readings:
    """Examples and what a model's layers hold of them, read once.

    `states` has the number and the states of every example that fitted into the context.
    """

    examples: Sequence[ReadingExample]
    states: Sequence[tuple[int, States]]
    layers: tuple[Layer, ...]

    def __add__(self, other: Readings) -> Readings:
        """Both sets, this one first."""
        behind = [(len(self.examples) + number, each) for number, each in other.states]
        return Readings([*self.examples, *other.examples], [*self.states, *behind], self.layers)

    def only(self, places: Sequence[int]) -> Readings:
        """The examples at these places, perhaps more than once."""
        known = dict(self.states)
        some = [(number, known[place]) for number, place in enumerate(places) if place in known]
        return Readings([self.examples[place] for place in places], some, self.layers)

    def first(self, count: int) -> Readings:
        """The first examples."""
        return self.only(range(min(count, len(self.examples))))

    def rows(self) -> Rows:
        """The rows of all of them."""
        return pooled_rows(self.states, self.examples, self.layers)


def pooled_rows(
    states: Sequence[tuple[int, States]], examples: Sequence[ReadingExample], layers: Sequence[Layer]
) -> Rows:
    """The rows of what `read_states` gave."""
    features, numbers, counts, whole = [], [], [], []
    for number, (_, each) in states:
        length = each.shape[1] - 1
        if not length:
            continue
        exact = np.moveaxis(each, 0, 1).astype(np.float64)
        pooled = [pool(exact[1:])[0] for pool in POOLINGS.values()]
        for end in sorted({end for end in BEGINNINGS if end < length} | {length}):
            own = [np.concatenate([values[end - 1], exact[0]], axis=-1) for values in pooled]
            features.append(np.stack(own, axis=1).astype(np.float32))
            numbers.append(number)
            counts.append(float(end))
            whole.append(end == length)
    return Rows(
        features=np.stack(features),
        good=np.array([examples[number].good for number in numbers]),
        groups=np.array([examples[number].group for number in numbers]),
        examples=np.array(numbers),
        counts=np.array(counts),
        whole=np.array(whole),
        layers=tuple(layers),
    )
