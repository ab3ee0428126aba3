"""The decoders that an evaluation compares, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rain_decoding.backends.base import Backend
from rain_decoding.baselines import (
    BestOfDecoder,
    RegenerateDecoder,
    RejectionDecoder,
    SamplingDecoder,
    SelfRefineDecoder,
)
from rain_decoding.config import SearchConfig
from rain_decoding.decoder import Decoder, PlainDecoder, RainDecoder
from rain_decoding.errors import InputError
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.settings import search_config

PLAIN = {"plain": 0.0, "plain-sampled": 1.0}
"""Names of plain decoding, and its temperature."""
SYNONYMS = {"greedy": "plain", "sampled": "plain-sampled"}
ORACLE = "rain-oracle"
"""The search with the demo world's oracle as judge."""
SEARCHES = ("rain", ORACLE)
SELF_REFINE = "self-refine"
BASELINES: dict[str, type[SamplingDecoder]] = {
    "best-of": BestOfDecoder,
    "rejection": RejectionDecoder,
    "verify-regenerate": RegenerateDecoder,
}
FORMS = (*PLAIN, *SEARCHES, "rain:PRESET[@NAME=VALUE...]", *(f"{name}-K" for name in BASELINES), SELF_REFINE)

CONCURRENCY = 32
"""Requests that are decoded at the same time."""
BRANCHES = 64
"""Of those that sample several answers at once, about this many answers."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One decoder of an evaluation.

    `config` is that of the search; of the baselines, which have the judge of `rain`, it says how the judge votes.
    `k` >= 1 is the number of answers a baseline decodes at most.
    """

    kind: str
    config: SearchConfig
    k: int = 1

    @property
    def concurrency(self) -> int:
        """Requests to decode at the same time."""
        return max(1, min(CONCURRENCY, BRANCHES // self.k)) if self.kind == "best-of" else CONCURRENCY

    @property
    def is_search(self) -> bool:
        """Whether it is RAIN."""
        return self.kind in SEARCHES

    def decoder(
        self,
        backend: Backend,
        criterion: str,
        *,
        embedding: str = "hashing",
        prompt_format: PromptFormat = "auto",
    ) -> Decoder:
        """The decoder on a model, judged by `criterion`; `rain-oracle` by the oracle of the demo world."""
        if self.kind in PLAIN:
            return PlainDecoder(backend, temperature=PLAIN[self.kind], prompt_format=prompt_format)
        rain = self.search(backend, criterion, embedding=embedding, prompt_format=prompt_format)
        if self.kind == SELF_REFINE:
            return SelfRefineDecoder(backend, rain.evaluator, prompt_format=prompt_format)
        if self.kind in BASELINES:
            return BASELINES[self.kind](backend, rain.evaluator, self.k, prompt_format=prompt_format)
        return rain

    def search(
        self, backend: Backend, criterion: str, *, embedding: str, prompt_format: PromptFormat
    ) -> RainDecoder:
        """The search whose judge this decoder has, or would have."""
        judge: str | Evaluator = criterion
        if self.kind == ORACLE:
            from rain_decoding.demo.judge import OracleEvaluator

            judge = OracleEvaluator(criterion)
        return RainDecoder(backend, judge, self.config, embedding=embedding, prompt_format=prompt_format)


def contender(name: str, config: SearchConfig) -> Contender:
    """The contender of this name, one of `FORMS`; `config` holds where the name names no preset.

    Raises `InputError` for an unknown form, `ConfigError` for an unknown preset or setting.
    """
    name = SYNONYMS.get(name, name)
    if name in PLAIN or name in SEARCHES or name == SELF_REFINE:
        return Contender(name, config)
    kind, _, rest = name.partition(":")
    if kind == "rain" and rest:
        preset, *settings = rest.split("@")
        return Contender("rain", search_config(preset, settings))
    kind, _, k = name.rpartition("-")
    if kind in BASELINES and re.fullmatch("[1-9][0-9]*", k):
        return Contender(kind, config, int(k))
    raise InputError(f"unknown decoder {name!r}", hint=f"decoders: {', '.join(FORMS)}; K is 1 or more")


def split_names(names: str) -> tuple[str, ...]:
    """Names from a comma-separated list, each once. A comma before what is no letter belongs to a setting."""
    return tuple(dict.fromkeys(re.split(r",\s*(?=[a-z]|$)", names)))
