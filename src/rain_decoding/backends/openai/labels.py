"""Probabilities of the judge's labels, by the way that the server has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from rain_decoding.backends.openai.client import Meter
from rain_decoding.backends.openai.endpoint import Endpoint
from rain_decoding.backends.openai.facts import LabelRoute
from rain_decoding.backends.openai.wire import Token, mass, read_cost, read_scores
from rain_decoding.errors import CriterionError, EndpointError
from rain_decoding.types import LabelProbabilities, Unanswered

LISTED = 20
"""Most probable tokens that are looked through for the labels."""
DRAWS = 32
"""Samples that stand in for probabilities where a server gives none; their standard error is at most 0.09."""
BIAS = 100.0
"""Added to a label's logit, so that nothing but labels is left."""


@dataclass(frozen=True)
class Labels:
    """One request for label probabilities: softmax over the whole vocabulary, unless said otherwise.

    Of a label that is not among the listed tokens, and whose probability the server has no way to give, the
    largest possible value is taken: it is no more probable than the last one listed.
    """

    endpoint: Endpoint
    request: LabelProbabilities
    meter: Meter
    say: Callable[[str], None]
    """Told what had to be worked around."""

    @property
    def texts(self) -> list[str]:
        return [self.endpoint.codec.text(label) for label in self.request.labels]

    @property
    def route(self) -> LabelRoute:
        """The server's best way for a text; of what it renders itself the text is not known."""
        facts = self.endpoint.facts
        if self.endpoint.codec.conversation(self.request.prefix) is None:
            return facts.labels
        return "top_logprobs" if facts.logprobs else "samples"

    async def probabilities(self) -> np.ndarray | Unanswered:
        """One per label, or why there are none."""
        match self.route:
            case "/v1/score":
                found = await self._scored()
            case "logprob_token_ids":
                found = await self._named()
            case "samples":
                return await self._drawn()
            case _:
                return await self._listed()
        return _checked(np.array(found, dtype=np.float64))

    async def _ids(self) -> list[int]:
        """The server's tokens that the labels begin with."""
        prompt = self.endpoint.codec.decode(self.request.prefix)
        ids = [await self.endpoint.tokenizer.label_id(prompt, text) for text in self.texts]
        if len(set(ids)) < len(ids):
            raise CriterionError(
                f"the labels {self.texts} start with the same token in the vocabulary of the server",
                hint="choose labels that differ in their first token, such as A and B",
            )
        return ids

    async def _scored(self) -> list[float]:
        """SGLang: probabilities of given tokens after a prompt, without decoding one."""
        facts, prompt = self.endpoint.facts, self.endpoint.codec.decode(self.request.prefix)
        body = {"model": facts.model, "query": "", "items": [prompt], "label_token_ids": await self._ids()}

        def read(data: Any) -> list[float]:
            scores, cost = read_scores(data), read_cost(data)
            self.meter.forwarded(len(self.request.prefix) if cost.prompt is None else cost.prompt)
            return scores

        return await self.endpoint.client.post("/v1/score", body, read, meter=self.meter)

    async def _named(self) -> list[float]:
        """vLLM: log-probabilities of given tokens beside the one that is decoded."""
        ids = await self._ids()
        token = await self._next(len(ids), logprob_token_ids=ids, return_tokens_as_token_ids=True)
        logprobs = [(token.top or {}).get(f"token_id:{label}") for label in ids]
        if any(logprob is None for logprob in logprobs):
            raise EndpointError(
                "the reply lacks the labels' log-probabilities, which were requested by token id"
            )
        return [exp(logprob or 0.0) for logprob in logprobs]

    async def _listed(self) -> np.ndarray | Unanswered:
        """Labels among the most probable tokens; the others by a second way, where there is one."""
        top = (await self._next(LISTED)).top or {}
        found = {text: exp(top[text]) for text in self.texts if text in top}
        missing = [text for text in self.texts if text not in found]
        if missing and self.route == "logit_bias":
            found = await self._shares(found, _most(top))
        elif missing and self.route == "allowed_token_ids":
            found |= {text: await self._allowed(text) for text in missing}
        elif not found:
            return Unanswered(f"no label is among the {len(top)} most probable tokens that the server lists")
        elif missing:
            self.say(
                f"a label missing from the {len(top)} listed tokens is assumed to be as probable as the last of them"
            )
        return _checked(np.array([found.get(text, _most(top)) for text in self.texts]))

    async def _shares(self, found: dict[str, float], most: float) -> dict[str, float]:
        """llama-server: what the labels share between them, with everything else ruled out by a bias.

        That leaves their common weight open: the listed ones give it; where none is listed, the largest possible.
        """
        bias = {str(label): BIAS for label in await self._ids()}
        token = await self._next(len(bias) + 1, logit_bias=bias, post_sampling_probs=True, temperature=1.0)
        shares = {text: _share(token.top or {}, text) for text in self.texts}
        listed = sum(shares[text] for text in found)
        weight = sum(found.values()) / listed if listed else most / max(max(shares.values()), 1e-300)
        return {text: share * weight for text, share in shares.items()}

    async def _allowed(self, label: str) -> float:
        """vLLM: the log-probability of the one token that may be decoded, as it was before the others went."""
        (token_id,) = [i for i, text in zip(await self._ids(), self.texts, strict=True) if text == label]
        logprob = (await self._next(1, allowed_token_ids=[token_id])).logprob
        if logprob is None:
            raise EndpointError("the reply lacks the log-probability of the only allowed token")
        return exp(logprob)

    async def _drawn(self) -> np.ndarray | Unanswered:
        """Shares of the labels among samples."""
        self.say(
            f"the server lists no label probabilities: they are estimated from {DRAWS} samples, standard error "
            f"up to {0.5 / DRAWS**0.5:.2f}"
        )
        n, left, seen = self.endpoint.facts.samples_per_request, DRAWS, []
        while left:
            count = min(n, left)
            left -= count
            seed = {"seed": left} if self.endpoint.facts.seed else {}
            choices = await self.endpoint.complete(
                self.request.prefix, self.meter, n=count, temperature=1.0, **seed
            )
            seen += [choice.text.strip() for choice in choices]
        counts = np.array([seen.count(text.strip()) for text in self.texts], dtype=np.float64)
        if not counts.any():
            return Unanswered(f"none of {DRAWS} samples is a label")
        return counts / DRAWS

    async def _next(self, top: int, **parameters: Any) -> Token:
        """The next token with what is listed beside it."""
        choices = await self.endpoint.complete(
            self.request.prefix, self.meter, top=top, **{"temperature": 0.0, **parameters}
        )
        return choices[0].tokens[0] if choices[0].tokens else Token("")


def _share(top: Mapping[str, float], label: str) -> float:
    """The probability of the listed token that the label begins with; 0 for none."""
    return (
        exp(top[max(begins, key=len)])
        if (begins := [one for one in top if one and label.startswith(one)])
        else 0.0
    )


def _checked(probabilities: np.ndarray) -> np.ndarray | Unanswered:
    """The probabilities, if that is what they are."""
    if np.isfinite(probabilities).all() and (probabilities >= 0).all() and probabilities.sum() < 1.001:
        return probabilities
    return Unanswered(
        f"the server's label probabilities do not form a distribution: {probabilities.tolist()}"
    )


def _most(top: Mapping[str, float]) -> float:
    """The largest probability that a token which is not listed may have."""
    return max(0.0, min(exp(min(top.values())), 1.0 - mass(top))) if top else 0.0
