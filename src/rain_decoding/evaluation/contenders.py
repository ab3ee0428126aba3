"""The decoders that an evaluation compares, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rain_decoding.backends.base import Backend
from rain_decoding.config import SearchConfig, search_config
from rain_decoding.decoding.baselines import (
    BestOfDecoder,
    ContrastDecoder,
    CritiqueDecoder,
    PrincipleDecoder,
    PrincipleOrRefusalDecoder,
    ReflectionDecoder,
    RegenerateDecoder,
    RejectionDecoder,
    SamplingDecoder,
    SelfRefineDecoder,
)
from rain_decoding.decoding.baselines.guided import GuidedDecoder
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.errors import InputError
from rain_decoding.plugins import Registry
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.self_evaluation.loading import find_criterion
from rain_decoding.self_evaluation.noise import NoisyEvaluator

SYNONYMS = {"greedy": "plain", "sampled": "plain-sampled"}
PLAIN = "plain"
ORACLE = "rain-oracle"
"""The search with the demo world's oracle as judge."""
FLIPS = "flips="
"""Begins the setting that makes a search's judge err."""
JUDGE = "judge="
"""Begins the setting that says who judges in the search."""
SELF_REFINE = "self-refine"
FORM_NOTE = (
    f"K is 1 or more; PRESET may be followed by @NAME=VALUE and @{FLIPS}P, all that judge by @{JUDGE}FORM"
)

CONCURRENCY = 32
"""Requests that are decoded at the same time."""
BRANCHES = 64
"""Of those that sample several answers at once, about this many answers."""

Make = Callable[[Backend, PromptFormat, Callable[[], RainDecoder], int], Decoder]


@dataclass(frozen=True, slots=True)
class DecoderKind:
    """Decoders of one name.

    `make(backend, prompt_format, search, k)` makes one; `search()` is the search whose judge it has. A name that
    `takes` a preset may say the search's preset and settings, one that takes k (NAME-K) the number of answers that
    are decoded at most.
    """

    name: str
    make: Make
    takes: Literal["nothing", "preset", "k"] = "nothing"
    judged: bool = True
    """Whether it has a judge; plain decoding has none."""
    side_by_side: bool = False
    """Whether the k answers are decoded at the same time."""
    continues_text: bool = True
    """Whether it takes prompts of the format `text`."""
    summary: str = "a decoder of another package"
    """What it does, for somebody who does not know the name; `{k}` in it is the number of answers."""

    @property
    def form(self) -> str:
        """How the name is written."""
        return self.name + {"nothing": "", "k": "-K", "preset": "[:PRESET...]"}[self.takes]


def _plain(temperature: float) -> Make:
    return lambda backend, prompt_format, *_: PlainDecoder(
        backend, temperature=temperature, prompt_format=prompt_format
    )


def _search(_: Backend, __: PromptFormat, search: Callable[[], RainDecoder], k: int) -> Decoder:
    return search()


def _sampling(kind: type[SamplingDecoder]) -> Make:
    return lambda backend, prompt_format, search, k: kind(
        backend, search().evaluator, k, prompt_format=prompt_format
    )


def _guided(kind: type[GuidedDecoder]) -> Make:
    def make(
        backend: Backend, prompt_format: PromptFormat, search: Callable[[], RainDecoder], k: int
    ) -> Decoder:
        rain = search()
        return kind(backend, rain.evaluator, guide=_guide(rain), prompt_format=prompt_format)

    return make


def _unjudged(kind: Callable[[Backend, Criterion, PromptFormat], Decoder]) -> Make:
    return lambda backend, prompt_format, search, k: kind(backend, _guide(search()), prompt_format)


def _guide(rain: RainDecoder) -> Criterion:
    """The criterion whose words tell the model what its answer should be. Raises `CriterionError` for no single one."""
    named = rain.criterion or rain.config.criterion
    if isinstance(named, Criterion):
        return named
    return find_criterion(named if isinstance(named, str) else named.name, rain.backend)


DECODERS: Registry[DecoderKind] = Registry(
    "rain_decoding.decoders",
    DecoderKind,
    [
        DecoderKind(PLAIN, _plain(0.0), judged=False, summary="ordinary decoding; nothing is judged"),
        DecoderKind(
            "plain-sampled",
            _plain(1.0),
            judged=False,
            summary="ordinary decoding, each token drawn at temperature 1; nothing is judged",
        ),
        DecoderKind("rain", _search, takes="preset", summary="RAIN"),
        DecoderKind(ORACLE, _search, takes="preset", summary="RAIN with the demo world's oracle as judge"),
        DecoderKind(
            "best-of",
            _sampling(BestOfDecoder),
            takes="k",
            side_by_side=True,
            summary="the best judged of {k} sampled answers",
        ),
        DecoderKind(
            "rejection",
            _sampling(RejectionDecoder),
            takes="k",
            summary="answers are sampled one after the other, at most {k}, until one is judged good; if none is, the "
            "best one counts",
        ),
        DecoderKind(
            "verify-regenerate",
            _sampling(RegenerateDecoder),
            takes="k",
            summary="the greedy answer; if it is judged bad, sampled ones until one is good, at most {k} answers in "
            "all; if none is, the best one counts",
        ),
        DecoderKind(
            SELF_REFINE,
            _guided(SelfRefineDecoder),
            continues_text=False,
            summary="the greedy answer, the model's own criticism of it, and the greedy answer after that; of the two "
            "answers the better judged one counts",
        ),
        DecoderKind(
            "plain+principle",
            _unjudged(PrincipleDecoder),
            judged=False,
            continues_text=False,
            summary="greedy decoding under a system message that says what is wanted; nothing is judged",
        ),
        DecoderKind(
            "plain+principle+refusal",
            _guided(PrincipleOrRefusalDecoder),
            continues_text=False,
            summary="greedy decoding under a system message that says what is wanted; an answer that is judged bad "
            "becomes a refusal",
        ),
        DecoderKind(
            "care",
            _guided(CritiqueDecoder),
            continues_text=False,
            summary="after CARE: every 40 tokens are judged; bad ones are rolled back, the model criticises them, and "
            "writes on with the criticism behind the request",
        ),
        DecoderKind(
            "psr",
            _guided(ReflectionDecoder),
            continues_text=False,
            summary="after Progressive Self-Reflection: every 32 tokens are judged; bad ones are taken back, and the "
            "model writes on behind a reflection that is not shown",
        ),
        DecoderKind(
            "contrast",
            _unjudged(ContrastDecoder),
            judged=False,
            continues_text=False,
            summary="after ROSE: each token is the one that a system message saying what is wanted favours most over "
            "the opposite message; nothing is judged",
        ),
    ],
)

SEARCHES = {
    "verify-first": "decodes plainly while a judge follows; from text that is judged bad it turns back and "
    "searches for another",
    "paper": "before every few tokens, searches a tree of continuations that a judge scores (the paper's Algorithm 1)",
}
"""What a search does, by its strategy."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One decoder of an evaluation.

    `config` is that of the search; of the baselines, which have the judge of `rain`, it says how the judge votes.
    `k` >= 1 is the number of answers a baseline decodes at most. `flips` in [0, 1] is the probability with which a
    verdict of the search's judge is flipped. `judge` says who judges, as `RainDecoder` takes it; None: the run says it.
    """

    kind: str
    config: SearchConfig
    k: int = 1
    flips: float = 0.0
    judge: str | None = None

    @property
    def concurrency(self) -> int:
        """Requests to decode at the same time."""
        side_by_side = DECODERS[self.kind].side_by_side
        return max(1, min(CONCURRENCY, BRANCHES // self.k)) if side_by_side else CONCURRENCY

    @property
    def summary(self) -> str:
        """What it does, in words."""
        said = DECODERS[self.kind].summary.format(k=self.k)
        return f"{said}: {SEARCHES[self.config.strategy]}" if self.is_search else said

    @property
    def is_search(self) -> bool:
        """Whether it is RAIN."""
        return DECODERS[self.kind].takes == "preset"

    @property
    def is_plain(self) -> bool:
        """Whether no judge takes part."""
        return not DECODERS[self.kind].judged

    @property
    def decodes_plainly(self) -> bool:
        """Whether it is plain decoding, or is as long as nothing is wrong, at the run's temperature."""
        return self.kind == PLAIN or (self.is_search and self.config.strategy == "verify-first")

    def answers(self, prompt_format: PromptFormat) -> bool:
        """Whether it answers prompts of this format: criticism needs an answer, so self-refine continues no text."""
        return prompt_format != "text" or DECODERS[self.kind].continues_text

    def decoder(
        self,
        backend: Backend,
        criterion: str | None = None,
        *,
        embedding: str = "hashing",
        prompt_format: PromptFormat = "auto",
        judge: str | None = None,
    ) -> Decoder:
        """The decoder on a model. `criterion` None: the preset's; `judge` where the contender names none; `rain-oracle`
        is judged by the demo's oracle."""

        def search() -> RainDecoder:
            return self.search(
                backend, criterion, embedding=embedding, prompt_format=prompt_format, judge=judge
            )

        return DECODERS[self.kind].make(backend, prompt_format, search, self.k)

    def search(
        self,
        backend: Backend,
        criterion: str | None,
        *,
        embedding: str,
        prompt_format: PromptFormat,
        judge: str | None = None,
    ) -> RainDecoder:
        """The search whose judge this decoder has, or would have."""
        options: dict[str, Any] = {"embedding": embedding, "prompt_format": prompt_format}
        named: str | Evaluator | None = criterion
        if self.kind == ORACLE:
            from rain_decoding.microworld.oracle_judge import OracleEvaluator

            named = OracleEvaluator(criterion or self.config.criterion)
        else:
            options["judge"] = self.judge or judge
        rain = RainDecoder(backend, named, self.config, **options)
        return rain.judged_by(NoisyEvaluator(rain.evaluator, self.flips)) if self.flips else rain


def contender(name: str, config: SearchConfig) -> Contender:
    """The contender of this name, of a form in `DECODERS`; `config` holds where the name names no preset.

    Raises `InputError` for an unknown form, `ConfigError` for an unknown preset or setting.
    """
    name = SYNONYMS.get(name, name)
    start, *settings = name.split("@")
    judge = next((text.removeprefix(JUDGE) for text in settings if text.startswith(JUDGE)), None)
    settings = [text for text in settings if not text.startswith(JUDGE)]
    if _takes(start) == "nothing" and not settings and (judge is None or DECODERS[start].judged):
        return Contender(start, config, judge=judge)
    kind, _, k = start.rpartition("-")
    if re.fullmatch("[1-9][0-9]*", k) and _takes(kind) == "k" and not settings:
        return Contender(kind, config, int(k), judge=judge)
    kind, colon, preset = start.partition(":")
    if _takes(kind) == "preset" and bool(colon) == bool(preset) and (judge is None or kind != ORACLE):
        flips = [_flips(setting) for setting in settings if setting.startswith(FLIPS)]
        settings = [setting for setting in settings if not setting.startswith(FLIPS)]
        if len(flips) <= 1 and (preset or not settings):
            chosen = search_config(preset, settings) if preset else config
            return Contender(kind, chosen, flips=flips[0] if flips else 0.0, judge=judge)
    forms = ", ".join(kind.form for kind in DECODERS.values())
    raise InputError(f"unknown decoder {name!r}", hint=f"decoders: {forms}; {FORM_NOTE}")


def _takes(name: str) -> str | None:
    """What a name may say beside itself; None for an unknown one."""
    return DECODERS[name].takes if name in DECODERS else None


def _flips(setting: str) -> float:
    text = setting.removeprefix(FLIPS)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"flips = {text!r}", hint="use a probability, such as flips=0.2")
    return value


def split_names(names: str) -> tuple[str, ...]:
    """Names from a comma-separated list, each once. A comma before what is no letter belongs to a setting."""
    return tuple(dict.fromkeys(re.split(r",\s*(?=[a-z]|$)", names)))
