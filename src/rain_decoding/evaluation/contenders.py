"""The decoders that an evaluation compares, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rain_decoding.backends.base import Backend
from rain_decoding.config import SearchConfig, search_config
from rain_decoding.decoding.baselines import (
    BestOfDecoder,
    RegenerateDecoder,
    RejectionDecoder,
    SamplingDecoder,
    SelfRefineDecoder,
)
from rain_decoding.decoding.decoder import Decoder, PlainDecoder, RainDecoder
from rain_decoding.errors import InputError
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.self_evaluation.noise import NoisyEvaluator

PLAIN = {"plain": 0.0, "plain-sampled": 1.0}
"""Names of plain decoding, and its temperature."""
SYNONYMS = {"greedy": "plain", "sampled": "plain-sampled"}
ORACLE = "rain-oracle"
"""The search with the demo world's oracle as judge."""
SEARCHES = ("rain", ORACLE)
FLIPS = "flips="
"""Begins the setting that makes a search's judge err."""
SELF_REFINE = "self-refine"
BASELINES: dict[str, type[SamplingDecoder]] = {
    "best-of": BestOfDecoder,
    "rejection": RejectionDecoder,
    "verify-regenerate": RegenerateDecoder,
}
FORMS = (
    *PLAIN,
    *SEARCHES,
    *(f"{name}[:PRESET[@NAME=VALUE...]][@{FLIPS}P]" for name in SEARCHES),
    *(f"{name}-K" for name in BASELINES),
    SELF_REFINE,
)

CONCURRENCY = 32
"""Requests that are decoded at the same time."""
BRANCHES = 64
"""Of those that sample several answers at once, about this many answers."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One decoder of an evaluation.

    `config` is that of the search; of the baselines, which have the judge of `rain`, it says how the judge votes.
    `k` >= 1 is the number of answers a baseline decodes at most. `flips` in [0, 1] is the probability with which a
    verdict of the search's judge is turned over.
    """

    kind: str
    config: SearchConfig
    k: int = 1
    flips: float = 0.0

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
        criterion: str | None = None,
        *,
        embedding: str = "hashing",
        prompt_format: PromptFormat = "auto",
    ) -> Decoder:
        """The decoder on a model. `criterion` None: the preset's; `rain-oracle` is judged by the demo's oracle."""
        if self.kind in PLAIN:
            return PlainDecoder(backend, temperature=PLAIN[self.kind], prompt_format=prompt_format)
        rain = self.search(backend, criterion, embedding=embedding, prompt_format=prompt_format)
        if self.kind == SELF_REFINE:
            return SelfRefineDecoder(backend, rain.evaluator, prompt_format=prompt_format)
        if self.kind in BASELINES:
            return BASELINES[self.kind](backend, rain.evaluator, self.k, prompt_format=prompt_format)
        return rain

    def search(
        self, backend: Backend, criterion: str | None, *, embedding: str, prompt_format: PromptFormat
    ) -> RainDecoder:
        """The search whose judge this decoder has, or would have."""
        judge: Evaluator | None = None
        if self.kind == ORACLE:
            from rain_decoding.microworld.oracle_judge import OracleEvaluator

            judge = OracleEvaluator(criterion or self.config.criterion)
        rain = RainDecoder(
            backend, judge or criterion, self.config, embedding=embedding, prompt_format=prompt_format
        )
        return rain.judged_by(NoisyEvaluator(rain.evaluator, self.flips)) if self.flips else rain


def contender(name: str, config: SearchConfig) -> Contender:
    """The contender of this name, one of `FORMS`; `config` holds where the name names no preset.

    Raises `InputError` for an unknown form, `ConfigError` for an unknown preset or setting.
    """
    name = SYNONYMS.get(name, name)
    if name in PLAIN or name == SELF_REFINE:
        return Contender(name, config)
    start, *settings = name.split("@")
    kind, colon, preset = start.partition(":")
    if kind in SEARCHES and bool(colon) == bool(preset):
        flips = [_flips(setting) for setting in settings if setting.startswith(FLIPS)]
        settings = [setting for setting in settings if not setting.startswith(FLIPS)]
        if len(flips) <= 1 and (preset or not settings):
            chosen = search_config(preset, settings) if preset else config
            return Contender(kind, chosen, flips=flips[0] if flips else 0.0)
    kind, _, k = name.rpartition("-")
    if kind in BASELINES and re.fullmatch("[1-9][0-9]*", k):
        return Contender(kind, config, int(k))
    raise InputError(f"unknown decoder {name!r}", hint=f"decoders: {', '.join(FORMS)}; K is 1 or more")


def _flips(setting: str) -> float:
    text = setting.removeprefix(FLIPS)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"flips = {text!r}", hint="a probability, such as flips=0.2")
    return value


def split_names(names: str) -> tuple[str, ...]:
    """Names from a comma-separated list, each once. A comma before what is no letter belongs to a setting."""
    return tuple(dict.fromkeys(re.split(r",\s*(?=[a-z]|$)", names)))
