"""`TopTokens` and `Sample` over HTTP: what the search may go on with, and how probable it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from math import exp, prod
from typing import Any

from rain_decoding.backends.endings import INCOMPLETE, holds_marker
from rain_decoding.backends.openai.client import Meter
from rain_decoding.backends.openai.codec import END
from rain_decoding.backends.openai.endpoint import Endpoint, short
from rain_decoding.backends.openai.wire import Choice, Token, mass, pieces_of
from rain_decoding.errors import UnsupportedError
from rain_decoding.search.randomness import derive_seed
from rain_decoding.types import Candidate, Sample, Tokens, TokenSet, TopTokens

DRAWS = 64
"""Samples of one token that stand in for probabilities where a server lists none."""
LARGEST_VOCABULARY = 300_000
"""Tokens that what is not listed may be spread over."""
TOLERANCE = 0.01
"""Share of the normaliser that may be unknown."""


@dataclass(frozen=True)
class Proposals:
    """Answers one request of the search."""

    endpoint: Endpoint
    meter: Meter

    async def top_tokens(self, request: TopTokens) -> list[Candidate]:
        """The most probable next tokens; tokens that hold part of a character are left out, since text cannot."""
        if not self.endpoint.facts.logprobs:
            probabilities = await self._drawn(request)
        else:
            probabilities = await self._listed(request)
        ordered = sorted(probabilities.items(), key=lambda entry: (-entry[1], entry[0]))
        return [
            Candidate(self._token_set(request, (token,)), probability)
            for token, probability in ordered[: request.count]
        ]

    async def _listed(self, request: TopTokens) -> dict[int, float]:
        temperature, facts = request.temperature, self.endpoint.facts
        if (
            temperature != 1 and facts.server == "llama-server"
        ):  # says what is left after the temperature, too
            after: dict[str, Any] = {"temperature": temperature, "post_sampling_probs": True}
            top = await self._next(request.prefix, request.count, **after)
            shares = {text: exp(logprob) for text, logprob in top.items()}
        else:
            count = request.count if temperature == 1 else facts.logprobs
            top = await self._next(request.prefix, count, temperature=0.0)
            shares = full_softmax(top, temperature)
        found: dict[int, float] = {}
        for text, share in shares.items():
            if INCOMPLETE not in text and share > 0:
                token = self.endpoint.token(Token(text))
                found[token] = min(1.0, found.get(token, 0.0) + share)
        return found

    async def _next(self, prefix: Tokens, top: int, **parameters: Any) -> Mapping[str, float]:
        (choice,) = await self.endpoint.complete(prefix, self.meter, top=top, **parameters)
        return (choice.tokens[0].top or {}) if choice.tokens else {"": 0.0}

    async def _drawn(self, request: TopTokens) -> dict[int, float]:
        """Shares among samples of one token."""
        n, found = self.endpoint.facts.samples_per_request, dict[int, float]()
        for start in range(0, DRAWS, n):
            seed = short(derive_seed(start, request.prefix, "top tokens"))
            choices = await self._draw(request.prefix, min(n, DRAWS - start), 1, request.temperature, seed)
            for choice in choices:
                token = END if not choice.text else self.endpoint.codec.intern(choice.text)
                found[token] = found.get(token, 0.0) + 1 / DRAWS
        return found

    async def _draw(
        self, prefix: Tokens, n: int, length: int, temperature: float, seed: int, **parameters: Any
    ) -> list[Choice]:
        return await self.endpoint.complete(
            prefix, self.meter, n=n, max_tokens=length, temperature=temperature, seed=seed, **parameters
        )

    async def sample(self, request: Sample) -> list[Candidate]:
        """The greedy set, and one per seed.

        Draws come several to a request, by one seed made of all of theirs; so the same seeds give the same sets.
        """
        facts = self.endpoint.facts
        if not facts.logprobs or facts.logprobs < request.top_k:
            raise UnsupportedError(
                f"{facts.model} lists {facts.logprobs} token probabilities per position, and sampled token sets need "
                f"{request.top_k or 1}",
                hint="use a preset that verifies first (balanced, fast, thorough), or lower top_k to the number listed",
            )
        sets: list[Candidate] = []
        top = max(request.top_k, 1)
        if request.greedy:
            sets += [
                self._candidate(request, choice, drawn=False)
                for choice in await self.endpoint.complete(
                    request.prefix, self.meter, max_tokens=request.length, temperature=0.0, top=top
                )
            ]
        drawn = await self._drawn_sets(request, top)
        return sets + [drawn[seed] for seed in request.seeds]

    async def _drawn_sets(self, request: Sample, top: int) -> dict[int, Candidate]:
        seeds, n = sorted(set(request.seeds)), self.endpoint.facts.samples_per_request
        restrict = {"top_k": request.top_k} if request.top_k and self.endpoint.facts.top_k else {}
        sets: dict[int, Candidate] = {}
        for start in range(0, len(seeds), n):
            chunk = seeds[start : start + n]
            seed = short(derive_seed(len(chunk), tuple(one % 2**62 for one in chunk), "sets"))
            choices = await self._draw(
                request.prefix, len(chunk), request.length, request.temperature, seed, top=top, **restrict
            )
            for one, choice in zip(chunk, choices, strict=True):
                sets[one] = self._candidate(request, choice, drawn=True)
        return sets

    def _candidate(self, request: Sample, choice: Choice, *, drawn: bool) -> Candidate:
        ended = (END,) if choice.finish == "stop" else ()
        tokens = tuple(self.endpoint.codec.intern(token.text) for token in pieces_of(choice)) + ended
        facts = self.endpoint.facts
        top_k = request.top_k if facts.top_k else 0
        temperature = 1.0 if drawn and facts.tempered_logprobs else request.temperature
        probability = prod(conditional(token, top_k, temperature) for token in choice.tokens)
        return Candidate(self._token_set(request, tokens), probability)

    def _token_set(self, request: TopTokens | Sample, tokens: Tokens) -> TokenSet:
        codec = self.endpoint.codec
        text = (*request.prefix, *tokens)
        return TokenSet(
            tokens, tokens[-1] in codec.eos or holds_marker(codec, text, request.stop, new=len(tokens))
        )


def conditional(token: Token, top_k: int, temperature: float) -> float:
    """A token's probability at a temperature among the `top_k` most probable ones (0: all), in (0, 1].

    Raises `UnsupportedError` where it takes tokens that are not listed.
    """
    assert token.logprob is not None
    top = token.top or {}
    if top_k:
        kept = nlargest(top_k, top.values())
        normaliser = sum(exp(logprob / temperature) for logprob in kept)
    elif temperature == 1:
        normaliser = 1.0
    else:
        normaliser = _normaliser(top, temperature)
    return max(min(1.0, exp(token.logprob / temperature) / normaliser), 1e-300)


def full_softmax(top: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Probabilities at a temperature from those at 1 of the most probable tokens.

    Raises `UnsupportedError` where what is not listed may matter.
    """
    normaliser = 1.0 if temperature == 1 else _normaliser(top, temperature)
    return {text: exp(logprob / temperature) / normaliser for text, logprob in top.items()}


def _normaliser(top: Mapping[str, float], temperature: float) -> float:
    known = sum(exp(logprob / temperature) for logprob in top.values())
    if _unlisted(top.values(), 1.0 - mass(top), temperature) > TOLERANCE * known:
        raise UnsupportedError(
            f"the {len(top)} tokens that the server lists do not fix the probabilities at temperature {temperature:g}",
            hint="use temperature 1, or let the server list more tokens (vLLM: --max-logprobs)",
        )
    return known


def _unlisted(listed: Iterable[float], rest: float, temperature: float) -> float:
    """The most that tokens with probability `rest` in all can add to the normaliser at a temperature."""
    if rest <= 0:
        return 0.0
    if temperature > 1:  # most where they are all alike
        return LARGEST_VOCABULARY ** (1 - 1 / temperature) * rest ** (1 / temperature)
    least = exp(min(listed, default=0.0))  # most where they are as probable as they can be
    return rest / least * least ** (1 / temperature)
