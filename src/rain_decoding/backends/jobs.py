"""Token-level state machines: which logits a request still needs, and what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rain_decoding.backends import sampling
from rain_decoding.backends.base import Codec, Steering
from rain_decoding.backends.directions import shifted
from rain_decoding.backends.endings import holds_marker, why_ended
from rain_decoding.search.randomness import uniforms
from rain_decoding.types import (
    UNBIASED,
    BackendRequest,
    Candidate,
    Chat,
    Decode,
    Decoded,
    HiddenStates,
    LabelProbabilities,
    Sample,
    Tokens,
    TokenSet,
    TopTokens,
)


class Job(Protocol):
    """One request in progress. `decoded` holds what a `Decode` request produced so far."""

    @property
    def done(self) -> bool: ...

    @property
    def decoded(self) -> Tokens: ...

    def wants(self) -> list[Tokens]:
        """The sequences after which logits are needed now."""
        ...

    def advance(self, logits: np.ndarray) -> None:
        """Take the logits `[len(wants()), vocabulary]` and move on by one token."""
        ...

    def value(self) -> Any:
        """The reply, once `done`."""
        ...


def make_job(
    request: BackendRequest, codec: Codec, context_length: int, steering: Steering | None = None
) -> Job:
    """The job that answers `request`; `steering` acts on what it generates."""
    match request:
        case TopTokens():
            return TopTokensJob(request, codec, steering)
        case Sample():
            return SampleJob(request, codec, steering)
        case Decode():
            return DecodeJob(request, codec, context_length, steering)
        case LabelProbabilities():
            return LabelJob(request)
        case HiddenStates():
            return IdleJob()
        case Chat():
            raise AssertionError("check_request rejects them")


class Generating:
    """Base of jobs that generate text."""

    codec: Codec
    steering: Steering | None
    request: TopTokens | Sample | Decode

    def texts(self) -> list[Tokens]:
        """What is to be continued, without any shift."""
        raise NotImplementedError

    def answers(self) -> list[Tokens]:
        """What each of the texts holds of the answer so far."""
        return [text[self.start :] for text in self.texts()]

    @property
    def start(self) -> int:
        """Where the answer begins."""
        start = self.request.stop.start
        return len(self.request.prefix) if start is None else start

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """The logits after the texts, steered and biased."""
        if self.steering is not None:
            logits = self.steering.scores(self.texts(), logits)
        bias = self.request.logit_bias
        return logits if bias == UNBIASED else sampling.biased(logits, bias, self.answers())

    def ends(self, prefix: Tokens, tokens: Sequence[int]) -> bool:
        """Whether the last of the tokens after a prefix ends the text."""
        if tokens[-1] in self.codec.eos:
            return True
        return self.steering is not None and self.steering.ended((*prefix, *tokens))


class IdleJob:
    """A request that the backend serves without token steps."""

    done = False
    decoded: Tokens = ()

    def wants(self) -> list[Tokens]:
        return []

    def advance(self, logits: np.ndarray) -> None:
        pass

    def value(self) -> Any:
        return None


class OneRowJob:
    """Base of jobs that read one row of logits after their prefix."""

    decoded: Tokens = ()

    def __init__(self, prefix: Tokens):
        self.prefix = prefix
        self.done = False
        self._value: Any = None

    def wants(self) -> list[Tokens]:
        return [] if self.done else [self.prefix]

    def value(self) -> Any:
        return self._value


class TopTokensJob(OneRowJob, Generating):
    def __init__(self, request: TopTokens, codec: Codec, steering: Steering | None = None):
        super().__init__(request.prefix)
        self.request: TopTokens = request
        self.codec, self.steering = codec, steering

    def texts(self) -> list[Tokens]:
        return [self.prefix]

    def wants(self) -> list[Tokens]:
        return [] if self.done else [shifted(self.prefix, self.request.shift)]

    def advance(self, logits: np.ndarray) -> None:
        logits = self.scores(logits)
        probs = sampling.softmax(logits[0], self.request.temperature)
        self._value = [
            Candidate(self._token_set(token), probability)
            for token, probability in sampling.most_probable(probs, self.request.count)
        ]
        self.done = True

    def _token_set(self, token: int) -> TokenSet:
        text = (*self.prefix, token)
        return TokenSet(
            (token,),
            self.ends(self.prefix, (token,)) or holds_marker(self.codec, text, self.request.stop, new=1),
        )


class LabelJob(OneRowJob):
    def __init__(self, request: LabelProbabilities):
        super().__init__(request.prefix)
        self.request = request

    def advance(self, logits: np.ndarray) -> None:
        self._value = sampling.softmax(logits[0])[list(self.request.labels)]
        self.done = True


class SampleJob(Generating):
    """All token sets of one request, each a branch that grows by a token per step."""

    decoded: Tokens = ()

    def __init__(self, request: Sample, codec: Codec, steering: Steering | None = None):
        self.request: Sample = request
        self.codec, self.steering = codec, steering
        count = len(request.seeds) + request.greedy
        self.sets: list[list[int]] = [[] for _ in range(count)]
        self.probabilities = np.ones(count)
        self.open = list(range(count))
        # Row i holds the uniform numbers of branch i; the greedy branch needs none.
        streams = [uniforms(seed).random(request.length) for seed in request.seeds]
        self.uniforms = np.array([[0.0] * request.length] * request.greedy + streams)
        self.done = not count

    def texts(self) -> list[Tokens]:
        return [(*self.request.prefix, *self.sets[branch]) for branch in self.open]

    def wants(self) -> list[Tokens]:
        return self.texts()

    def advance(self, logits: np.ndarray) -> None:
        request = self.request
        logits = self.scores(logits)
        ids, probs = sampling.conditionals(logits, temperature=request.temperature, top_k=request.top_k)
        position = len(self.sets[self.open[0]])
        places = sampling.draw(probs, self.uniforms[self.open, position])
        if request.greedy and self.open[0] == 0:
            places[0] = np.argmax(probs[0])
        rows = np.arange(len(places))
        tokens = ids[rows, places].tolist()
        self.probabilities[self.open] *= probs[rows, places]
        for branch, token in zip(self.open, tokens, strict=True):
            self.sets[branch].append(token)
        self.open = [
            branch
            for branch in self.open
            if position + 1 < request.length and not self.ends(request.prefix, self.sets[branch])
        ]
        self.done = not self.open

    def value(self) -> list[Candidate]:
        return [
            Candidate(self._token_set(tuple(tokens)), float(probability))
            for tokens, probability in zip(self.sets, self.probabilities, strict=True)
        ]

    def _token_set(self, tokens: Tokens) -> TokenSet:
        text = (*self.request.prefix, *tokens)
        ended = self.ends(self.request.prefix, tokens) or holds_marker(
            self.codec, text, self.request.stop, new=len(tokens)
        )
        return TokenSet(tokens, ended)


class DecodeJob(Generating):
    """One continuation, tested for its end before every token."""

    def __init__(self, request: Decode, codec: Codec, context_length: int, steering: Steering | None = None):
        self.request: Decode = request
        self.codec, self.steering = codec, steering
        self.limit = min(request.max_tokens, context_length - len(request.prefix))
        self.stream = None if request.seed is None else uniforms(request.seed)
        self.text = request.prefix
        self.logprob = 0.0
        self.reason = self._ended(new=0)

    @property
    def done(self) -> bool:
        return self.reason is not None

    @property
    def decoded(self) -> Tokens:
        return self.text[len(self.request.prefix) :]

    def _ended(self, new: int) -> str | None:
        if len(self.text) > self.start and self.steering is not None and self.steering.ended(self.text):
            return "stop"
        return why_ended(self.codec, self.request, self.text, self.limit, new)

    def texts(self) -> list[Tokens]:
        against = self.request.against
        return [self.text, against + self.decoded] if against else [self.text]

    def answers(self) -> list[Tokens]:
        return [self.text[self.start :]] * len(self.texts())

    def wants(self) -> list[Tokens]:
        if self.done:
            return []
        text, *against = self.texts()
        return [shifted(text, self.request.shift), *against]

    def advance(self, logits: np.ndarray) -> None:
        request = self.request
        logits = self.scores(logits)
        if request.against:
            logits = sampling.contrasted(logits[:1], logits[1:], request.contrast)
        if self.stream is None:
            token = int(np.argmax(logits[0]))
        else:
            ids, probs = sampling.conditionals(
                logits, temperature=request.temperature, top_k=request.top_k, top_p=request.top_p
            )
            token = int(ids[0, sampling.draw(probs, self.stream.random(1))[0]])
        self.logprob += sampling.log_probability(logits[0], token)
        self.text = (*self.text, token)
        self.reason = self._ended(new=1)

    def value(self) -> Decoded:
        return Decoded(self.decoded, self.reason, self.logprob)  # type: ignore[arg-type]
