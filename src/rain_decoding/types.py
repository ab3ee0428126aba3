"""Values that travel between search, scheduler, backend and caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rain_decoding.answer_html import answer_html
from rain_decoding.programs import Request

Array = NDArray[np.floating[Any]]
"""Numbers of any floating-point type."""

Tokens = tuple[int, ...]
"""Token ids. Opaque to the search: it compares, concatenates and orders them, nothing more."""

Layer = int
"""A decoder layer whose output is read, from 1 on; or `LAST`, or `VALUES`."""
LAST: Layer = 0
"""The last layer's output after the final normalisation."""
VALUES: Layer = -1
"""What attention keeps of a token: its value vectors of the layers behind the middle, one behind the other."""

Role = Literal["system", "user", "assistant"]

FinishReason = Literal["stop", "length", "budget", "cancelled", "unjudged"]
"""Why a completion ended: end of sequence, marker or stop string; token limit; budget; caller; no judgement."""

Fallback = Literal["", "alternative", "refusal"]
"""What is returned in place of an answer that is not good; empty: nothing is."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class TokenSet:
    """An ordered run of tokens `X_{i:j}`, the action on a tree edge (paper, section 3).

    `finished` says that the text ends here: the last token is an end of sequence, or the text now
    contains the next turn's marker or a stop string.
    """

    tokens: Tokens
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token set the model proposes, with its conditional probability in (0, 1] (not normalised over siblings)."""

    token_set: TokenSet
    probability: float


@dataclass(frozen=True, slots=True)
class Stop:
    """What finishes a text besides an end-of-sequence token.

    `markers` are strings looked for in the decoded text of `tokens[start:]`, where `start` is the length of the
    prompt in tokens. It is None only where no markers are looked for: then all that follows a request's prefix is
    generated text.
    """

    markers: tuple[str, ...] = ()
    start: int | None = None

    def __post_init__(self) -> None:
        assert self.start is not None or not self.markers, (
            "markers are looked for behind a prompt of known length"
        )


@dataclass(frozen=True, slots=True)
class LogitBias:
    """What is added to logits before anything is told by them: to those of single `tokens`, ids and values; and from
    every token's `frequency` times as often as the answer so far holds it, and `presence` if it holds it at all.

    The answer begins where the request's `Stop` says.
    """

    tokens: tuple[tuple[int, float], ...] = ()
    frequency: float = 0.0
    presence: float = 0.0


UNBIASED = LogitBias()


@dataclass(frozen=True, slots=True)
class Shift:
    """Hidden states of the tokens from `start` on are shifted along the backend's direction `number` (0: none is).

    See `Backend.shift_along`. Where the prefix begins at `start` or behind it, all that is generated is shifted.
    """

    number: int = 0
    start: int = 0


UNSHIFTED = Shift()


# Requests to a backend. `prefix` is always the whole token sequence, prompt included. A `logit_bias` acts on the
# logits first: probabilities and the greedy token are those of the biased logits.


@dataclass(frozen=True, slots=True)
class TopTokens(Request[list[Candidate]]):
    """The `count` most probable next tokens, most probable first, ties by lower id; none of probability 0.

    Reply: `list[Candidate]` of one-token sets with their full-softmax probabilities at `temperature`.
    """

    prefix: Tokens
    count: int
    temperature: float = 1.0
    stop: Stop = Stop()
    logit_bias: LogitBias = UNBIASED
    shift: Shift = UNSHIFTED


@dataclass(frozen=True, slots=True)
class Sample(Request[list[Candidate]]):
    """Token sets of `length` tokens: the greedy one first if `greedy`, then one drawn per seed.

    Conditionals are renormalised over the `top_k` most probable tokens (ties at the last place kept; 0 keeps
    all) at `temperature`. A set ends at its first end of sequence. Duplicates are not removed.
    Reply: `list[Candidate]` in that order.
    """

    prefix: Tokens
    length: int
    seeds: tuple[int, ...]
    greedy: bool = True
    top_k: int = 15
    temperature: float = 1.0
    stop: Stop = Stop()
    logit_bias: LogitBias = UNBIASED


@dataclass(frozen=True, slots=True)
class Decoded:
    """Reply to `Decode`: the new tokens and why they end ("ending": one of `Decode.endings`).

    `logprob` is the sum of the tokens' log-probabilities in nats (full softmax at temperature 1); being float
    noise in its last bits, it does not count in comparisons.
    """

    tokens: Tokens
    reason: Literal["stop", "length", "ending"]
    logprob: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Decode(Request[Decoded]):
    """Continue the prefix token by token: a rollout, or plain decoding.

    Ends at an end of sequence, when a marker of `stop` stands in the text, when the text (prefix included)
    ends in one of the characters of `endings`, or after `max_tokens`. Each is tested before a token is drawn, so
    nothing is drawn after a prefix that already ends so; `endings` not before `min_tokens`. `seed` None
    decodes greedily. `horizon` says that as many tokens may be wanted in all after this prefix, by further
    requests that go on where this one ends (0: none): a backend behind HTTP gets them by one streamed
    reply, and a sampled continuation may then follow the first request's seed.

    With `against`, another prefix that the new tokens follow as well, its logits count `contrast` >= 0 times against
    the prefix's own (`backends.sampling.contrasted`); for backends that are capable of `contrast`. A `shift`, here and
    in `TopTokens`, is for those capable of `shifts`; states behind `against` are not shifted. Reply: `Decoded`.
    """

    prefix: Tokens
    max_tokens: int
    seed: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    endings: str = ""
    min_tokens: int = 0
    stop: Stop = Stop()
    logit_bias: LogitBias = UNBIASED
    horizon: int = 0
    against: Tokens = ()
    contrast: float = 0.0
    shift: Shift = UNSHIFTED


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Reply where probabilities could not be had, and why. What is judged by it is unscored.

    `unreached`: nobody answered; asked again, somebody may.
    """

    problem: str
    unreached: bool = False


@dataclass(frozen=True, slots=True)
class LabelProbabilities(Request[Array | Unanswered]):
    """Probabilities of single next tokens after a prompt (softmax over the whole vocabulary).

    Only the first `keep` tokens of the prefix are worth keeping in a cache afterwards.
    Reply: `numpy.ndarray` of float64, one per entry of `labels`, or `Unanswered`.
    """

    prefix: Tokens
    labels: tuple[int, ...]
    keep: int = 0


@dataclass(frozen=True, slots=True)
class HiddenStates(Request[Array]):
    """The model's hidden states at `prefix[start:]`, one array for each of the `layers`.

    Reply: `numpy.ndarray` of float32, shape `[len(layers), len(prefix) - start, width]`.
    """

    prefix: Tokens
    start: int = 0
    layers: tuple[Layer, ...] = (LAST,)


@dataclass(frozen=True, slots=True)
class Chatted:
    """Reply to `Chat`: the message and why it ends, in OpenAI's words.

    The server's token counts are None where it gives none. `forwarded` are the tokens that it says the message cost:
    not those of the prompt that were cached.
    """

    message: Mapping[str, Any]
    finish: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    forwarded: int = 0


@dataclass(frozen=True, slots=True)
class Chat(Request[Chatted]):
    """The assistant's next message by the chat API of the model's own server, with its tools and response formats.

    `prefix` is the conversation as it is otherwise continued; `body` what is sent: OpenAI's fields, `seed` among them.
    `thinking` lets a reasoning model reason. Reply: `Chatted`.
    """

    prefix: Tokens
    body: Mapping[str, Any]
    thinking: bool = False


BackendRequest = TopTokens | Sample | Decode | LabelProbabilities | HiddenStates | Chat


# Requests of the search to self-evaluation.


@dataclass(frozen=True, slots=True)
class Judgement:
    """One self-evaluation. `score` in [-1, 1], or None: unscored, with `problem` saying why.

    `probabilities` holds, per option order, the probability of each label in the order positive, negative,
    neutral, and `label_mass` what all labels hold together; `text` is what the judge saw of the conversation.
    `parts` has the score of each criterion, where several were combined; `course`, where a probe reads the text, the
    score of its beginning behind each token.
    """

    score: float | None
    text: str
    probabilities: tuple[tuple[float, ...], ...] = ()
    label_mass: tuple[float, ...] = ()
    problem: str = ""
    remembered: bool = False
    parts: Mapping[str, float | None] = field(default_factory=dict)
    course: tuple[float, ...] = ()
    sentences: tuple[int, ...] = ()
    """Numbers of answer tokens behind which a sentence begins, where there is a `course`; 0 is the first."""
    harmful: float = 0.0
    """The probability that what is asked for is harmful, where a probe reads the request, too."""
    escalated: bool = False
    """In a cascade: the reading was unsure, and the judge behind it was asked; `parts` has the scores of both."""
    unreached: bool = False
    """There is no score because the judge's server did not answer."""


def rank(score: float | None) -> float:
    """Scores in order; what could not be judged is below all."""
    return -2.0 if score is None else score


@dataclass(frozen=True, slots=True)
class Judge(Request[Judgement]):
    """Judge the text so far, rollout included. Reply: `Judgement`.

    The last `proposed` tokens are an alternative to what was judged bad: such a text must not be degenerate, either.
    Where something was `repaired` before, it must not repeat itself.
    """

    tokens: Tokens
    proposed: int = 0
    repaired: bool = False


Purpose = Literal["guided", "declined", "critic", "criticised", "opposite", "steered"]
"""What another prompt for the same answer is for: to follow the criterion; to decline; to say what is wrong with a
sentence; to follow the criterion knowing that; to do the opposite of what the criterion asks; or, of the same prompt,
to go on with shifted states."""


@dataclass(frozen=True, slots=True)
class Reworded:
    """A conversation under another prompt (empty: its own). `opening` are tokens that the answer goes on with, `shift`
    the number of a direction that its states are shifted along (0: none)."""

    prompt: Tokens
    opening: Tokens = ()
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Reword(Request[Reworded | None]):
    """Another prompt for the answer that `tokens` (prompt included) have come to.

    `sentence` is what was judged bad behind them, for a critic; `critique` what the critic said of it; `harmful` in
    [0, 1] how probable it is that what is asked for is harmful, for steering. Reply: `Reworded`, or None where the
    criterion or the model gives none.
    """

    purpose: Purpose
    tokens: Tokens
    sentence: Tokens = ()
    critique: Tokens = ()
    harmful: float = 0.0


@dataclass(frozen=True, slots=True)
class Embed(Request[Array]):
    """Embeddings of the texts `tokens[start:]`, one per start. Reply: `numpy.ndarray`, shape `[len(starts), dim]`."""

    tokens: Tokens
    starts: tuple[int, ...]


@dataclass(slots=True)
class Usage:
    """What a completion cost. What cannot be known is None."""

    prompt_tokens: int = 0
    """Of the prompt as encoded here, or as the model's own server counts it where that made the answer and counts."""
    completion_tokens: int | None = 0
    """Of the answer; of all messages made for it where the model's own server makes them (`RainDecoder.open_message`),
    None where that does not count them."""
    search_tokens: int = 0
    """Forwarded for it: prompt, candidates, rollouts, judge prompts. Behind HTTP those that the servers speak of; what
    they do not count is missing."""
    cached_tokens: int = field(default=0, compare=False)
    """Not forwarded for it, since they had been for other answers or were beside it: with `search_tokens` what it would
    have taken alone. Of models in this process that keep a token trie; else 0."""
    judge_tokens: int = 0
    """Those of `search_tokens` that a judge of its own forwarded."""
    prefix_tokens: int = field(default=0, compare=False)
    """Forwarded, beside `search_tokens`, for what all judge prompts begin with: once per model and criterion. Charged
    to the first answer after that."""
    forward_passes: int = 0
    """Forwards that it took part in, of models in this process; a model behind HTTP has none of them."""
    simulations: int = 0
    """0 where nothing is searched."""
    self_evaluations: int = 0
    """Judgements, those that were remembered left out; 0 for plain decoding."""
    unscored: int = 0
    """Those of `self_evaluations` that gave no score."""
    unreached: int = 0
    """Those of `unscored` whose judge's server did not answer: made again, the answer may be judged."""
    escalations: int = 0
    """Those of `self_evaluations` for which a cascade asked the judge behind the reading."""
    rewinds: int = 0
    """Times that the search turned back; 0 where nothing is searched."""
    peak_kv_slots: int = 0
    """The generating backend's largest number of cached tokens meanwhile, for all that ran beside it, too; 0 for one
    without a cache in this process."""
    requests: int = 0
    """HTTP requests sent for it, those tried again included; 0 for a model in this process."""
    seconds: float = 0.0
    """Wall time."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One step of the outer loop (Algorithm 1): text that became immutable.

    `text` is the piece that may be shown now (never half a character, never part of a marker). `value` in
    [-1, 1] is the mean score below the committed node, or the score of an answer that is released at once; `visits`
    the node's real-valued visit count; `simulations` those of the search so far, or the messages made. None: there is
    none, as in plain decoding.
    """

    text: str
    tokens: Tokens
    value: float | None = None
    visits: float | None = None
    simulations: int | None = None


@dataclass(slots=True, repr=False)
class Completion:
    """A finished answer. `score` in [-1, 1] is the judgement of the returned text, None if it was not judged.

    `parts` are the scores of combined criteria. `flagged`: the judge does not call the returned text good.
    `fallback` says what was returned in place of such a text, which is `withheld`. `message` is the answer in OpenAI's
    format where the model's own server made it (`RainDecoder.open_message`): with the tool calls, which `text` shows
    besides.
    """

    text: str
    finish_reason: FinishReason
    score: float | None
    usage: Usage
    seed: int
    reasoning: str = ""
    tokens: Tokens = ()
    parts: Mapping[str, float | None] = field(default_factory=dict)
    flagged: bool = False
    fallback: Fallback = ""
    withheld: str = ""
    warnings: list[str] = field(default_factory=list)
    trace: Sequence[dict[str, Any]] = ()
    message: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """The text and what was found of it; `print(completion.text)` is the answer alone."""
        score = "None" if self.score is None else f"{self.score:+.2f}"
        more = "".join(f", {name}={value!r}" for name, value in self._remarks())
        return f"Completion({self.text!r}, score={score}, finish_reason={self.finish_reason!r}{more})"

    def _remarks(self) -> Iterator[tuple[str, object]]:
        """What is worth a word because it is not as usual."""
        for name, value in (
            ("rewinds", self.usage.rewinds),
            ("flagged", self.flagged),
            ("fallback", self.fallback),
            ("warnings", self.warnings),
        ):
            if value:
                yield name, value

    def _repr_html_(self) -> str:
        """How notebooks show it: with `trace=True`, what the search left stands struck through before what took its
        place."""
        return answer_html(self.text, self.trace, self.withheld, self._notes())

    def _notes(self) -> list[str]:
        usage = self.usage
        score = "not judged" if self.score is None else f"judged {self.score:+.2f}"
        notes = [score + (" (not good)" if self.flagged else ""), self.finish_reason]
        if self.fallback:
            notes.append(f"{self.fallback} in place of what is struck through")
        if usage.simulations:
            notes.append(f"{usage.simulations} simulations, {usage.rewinds} rewinds")
        if usage.rewinds and not self.trace:
            notes.append("trace=True shows what was left")
        return [*notes, f"{usage.seconds:.1f} s", *self.warnings]
