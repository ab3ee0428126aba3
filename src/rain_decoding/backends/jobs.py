"""Token-level state machines: which logits a request still needs, and what it makes of them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rain_decoding.backends import sampling
from rain_decoding.backends.base import Codec
from rain_decoding.backends.endings import ends_in, holds_marker
from rain_decoding.randomness import uniforms
from rain_decoding.types import (
    BackendRequest,
    Candidate,
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


def make_job(request: BackendRequest, codec: Codec, context_length: int) -> Job:
    """The job that answers `request`."""
    match request:
        case TopTokens():
            return TopTokensJob(request, codec)
        case Sample():
            return SampleJob(request, codec)
        case Decode():
            return DecodeJob(request, codec, context_length)
        case LabelProbabilities():
            return LabelJob(request)
        case HiddenStates():
            return IdleJob()


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


class TopTokensJob(OneRowJob):
    def __init__(self, request: TopTokens, codec: Codec):
        super().__init__(request.prefix)
        self.request, self.codec = request, codec

    def advance(self, logits: np.ndarray) -> None:
        logits = sampling.biased(logits, self.request.logit_bias)
        probs = sampling.softmax(logits[0], self.request.temperature)
        self._value = [
            Candidate(self._token_set(token), probability)
            for token, probability in sampling.most_probable(probs, self.request.count)
        ]
        self.done = True

    def _token_set(self, token: int) -> TokenSet:
        text = (*self.prefix, token)
        return TokenSet(
            (token,), token in self.codec.eos or holds_marker(self.codec, text, self.request.stop, new=1)
        )


class LabelJob(OneRowJob):
    def __init__(self, request: LabelProbabilities):
        super().__init__(request.prefix)
        self.request = request

    def advance(self, logits: np.ndarray) -> None:
        self._value = sampling.softmax(logits[0])[list(self.request.labels)]
        self.done = True


class SampleJob:
    """All token sets of one request, each a branch that grows by a token per step."""

    decoded: Tokens = ()

    def __init__(self, request: Sample, codec: Codec):
        self.request, self.codec = request, codec
        count = len(request.seeds) + request.greedy
        self.sets: list[list[int]] = [[] for _ in range(count)]
        self.probabilities = np.ones(count)
        self.open = list(range(count))
        # Row i holds the uniform numbers of branch i; the greedy branch needs none.
        streams = [uniforms(seed).random(request.length) for seed in request.seeds]
        self.uniforms = np.array([[0.0] * request.length] * request.greedy + streams)
        self.done = not count

    def wants(self) -> list[Tokens]:
        return [(*self.request.prefix, *self.sets[branch]) for branch in self.open]

    def advance(self, logits: np.ndarray) -> None:
        request = self.request
        logits = sampling.biased(logits, request.logit_bias)
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
            for branch, token in zip(self.open, tokens, strict=True)
            if token not in self.codec.eos and position + 1 < request.length
        ]
        self.done = not self.open

    def value(self) -> list[Candidate]:
        return [
            Candidate(self._token_set(tuple(tokens)), float(probability))
            for tokens, probability in zip(self.sets, self.probabilities, strict=True)
        ]

    def _token_set(self, tokens: Tokens) -> TokenSet:
        text = (*self.request.prefix, *tokens)
        ended = tokens[-1] in self.codec.eos or holds_marker(
            self.codec, text, self.request.stop, new=len(tokens)
        )
        return TokenSet(tokens, ended)


class DecodeJob:
    """One continuation, tested for its end before every token."""

    def __init__(self, request: Decode, codec: Codec, context_length: int):
        self.request, self.codec = request, codec
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
        request = self.request
        generated = self.text[request.stop.start :] if request.stop.start else self.decoded
        if generated and generated[-1] in self.codec.eos:
            return "stop"
        if holds_marker(self.codec, self.text, request.stop, new=new or len(self.text)):
            return "stop"
        if len(self.decoded) >= request.min_tokens and ends_in(self.codec, self.text, request.endings):
            return "ending"
        return "length" if len(self.decoded) >= self.limit else None

    def wants(self) -> list[Tokens]:
        return [] if self.done else [self.text]

    def advance(self, logits: np.ndarray) -> None:
        request = self.request
        logits = sampling.biased(logits, request.logit_bias)
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
