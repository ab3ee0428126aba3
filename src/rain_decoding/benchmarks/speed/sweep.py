"""Searches recorded on the synthetic model, done again on a model of another shape beside plain decoding.

Swept: how many of ten candidates are distinct, and the rate of bad text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from transformers import AutoTokenizer

from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers.codec import HFCodec
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.benchmarks.speed.contenders import PLAIN, check_names
from rain_decoding.benchmarks.speed.forwards import count_forwards
from rain_decoding.benchmarks.speed.generate import generate_exactly
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.benchmarks.speed.measurement import Case, Measurement
from rain_decoding.benchmarks.speed.measuring import WARM_UP_TOKENS
from rain_decoding.benchmarks.speed.prompts import demo_prompts
from rain_decoding.benchmarks.speed.replay import Call, RecordingEngine, replay
from rain_decoding.benchmarks.speed.synthetic import SyntheticEngine, choices_for
from rain_decoding.config import PRESETS, SearchConfig
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.demo import CRITERIA_DIR, MODEL_DIR
from rain_decoding.errors import InputError
from rain_decoding.prompting import build_prompt
from rain_decoding.types import Tokens

NOTE = (
    "Searches recorded on a synthetic model and replayed on random weights: the same forwards, no real text or "
    "judgement. It bounds what this shape costs on this machine and does not claim to be it. Seconds are those "
    "of the replay and those the search itself took while it was recorded."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """`n` prompts for every number of distinct candidates (1 to 10 of 10) and every rate of bad text (0 to 1).

    `judge` says how RAIN judges (its rate of bad text does not count here) and holds the seed.
    Raises `InputError` for values out of range.
    """

    contenders: tuple[str, ...]
    distinct: tuple[int, ...] = (2, 5, 10)
    bad_rates: tuple[float, ...] = (0.0, 0.2, 0.5)
    n: int = 1
    max_tokens: int = 160
    repeats: int = 3
    judge: JudgeOptions = field(default_factory=JudgeOptions)

    def __post_init__(self) -> None:
        check_names(self.contenders, (*PLAIN, *PRESETS))
        if not self.distinct or not all(1 <= each <= 10 for each in self.distinct):
            raise InputError(f"distinct = {self.distinct}", hint="use whole numbers from 1 to 10")
        if not self.bad_rates or not all(0 <= each <= 1 for each in self.bad_rates):
            raise InputError(f"bad_rates = {self.bad_rates}", hint="use numbers from 0 to 1")
        if min(self.n, self.max_tokens, self.repeats) < 1:
            raise InputError("n, max_tokens and repeats must be at least 1")

    @property
    def rounds(self) -> int:
        """How many times all contenders search."""
        return len(self.distinct) * len(self.bad_rates) * self.n


@dataclass(frozen=True, slots=True)
class Recording:
    """One contender's work on one prompt, as calls of an engine. `seconds` is the time it took outside of them."""

    case: Case
    unit: int
    contender: str
    prompt: Tokens
    setup: list[Call]
    calls: list[Call]
    released: int
    seconds: float


def record(sweep: Sweep, context: int) -> Iterator[list[Recording]]:
    """All searches, those of different contenders on the same prompt together; `context` is the other model's.

    A short one of each comes first, for the sake of the times, and is left out.
    """
    codec = HFCodec(AutoTokenizer.from_pretrained(MODEL_DIR))
    prompts = demo_prompts(["sensitive"], sweep.n)["sensitive"]
    brief = replace(sweep, max_tokens=WARM_UP_TOKENS)
    for name in sweep.contenders:
        _record(name, prompts[0], 0, codec, brief, context, sweep.distinct[0], sweep.bad_rates[0])
    for case in product(sweep.distinct, sweep.bad_rates):
        for unit, prompt in enumerate(prompts):
            yield [_record(name, prompt, unit, codec, sweep, context, *case) for name in sweep.contenders]


def _record(
    name: str, prompt: str, unit: int, codec: HFCodec, sweep: Sweep, context: int, distinct: int, rate: float
) -> Recording:
    config = SearchConfig() if name in PLAIN else SearchConfig.preset(name)
    size = len(codec.tokenizer)
    engine = SyntheticEngine(codec, size, config, choices=choices_for(distinct), context=context)
    recorder = RecordingEngine(engine)
    backend = LocalBackend("synthetic", recorder, codec, criteria_dirs=[CRITERIA_DIR], dialogue_header="")
    tokens = build_prompt(prompt, backend).tokens
    engine.start = len(tokens)
    judge = replace(sweep.judge, bad_rate=rate)
    decoder: Decoder = PlainDecoder(backend) if name in PLAIN else judge.decoder(name, backend)
    setup, started = recorder.take(), time.perf_counter()
    completion = decoder.generate(prompt, max_tokens=sweep.max_tokens, seed=sweep.judge.seed)
    seconds = time.perf_counter() - started - recorder.seconds
    return Recording(
        case=(("distinct", distinct), ("bad_rate", rate)),
        unit=unit,
        contender=name,
        prompt=tokens,
        setup=setup,
        calls=recorder.take(),
        released=len(completion.tokens),
        seconds=seconds,
    )


def run(
    rounds: Sequence[Sequence[Recording]], model: Any, context: int, repeats: int
) -> Iterator[Measurement]:
    """Replay every recording `repeats` times, in an order that changes with each, after one that does not count."""
    engine = TrieEngine(model, context)
    for recording in rounds[0]:
        measure(recording, engine, model)
    for repeat in range(repeats):
        for position, recordings in enumerate(rounds):
            turn = (repeat + position) % len(recordings)
            for recording in (*recordings[turn:], *recordings[:turn]):
                yield replace(measure(recording, engine, model), repeat=repeat)


def measure(recording: Recording, engine: TrieEngine, model: Any) -> Measurement:
    """Do a recording's work again, or `model.generate` in the place of plain decoding."""
    engine.clear()
    replay(recording.setup, engine)
    pinned = engine.slots_used
    with count_forwards(model) as forwards:
        started = time.perf_counter()
        if recording.contender == "generate":
            generate_exactly(model, recording.prompt, recording.released)
            peak, host = pinned + len(recording.prompt) + recording.released - 1, 0.0
        else:
            peak, host = replay(recording.calls, engine), recording.seconds
        seconds = time.perf_counter() - started + host
    return Measurement(
        case=recording.case,
        contender=recording.contender,
        unit=recording.unit,
        repeat=0,
        answers=1,
        seconds=seconds,
        model_seconds=forwards.seconds(),
        passes=forwards.passes,
        tokens_forwarded=forwards.tokens,
        tokens_released=recording.released,
        kv_slots=peak - pinned,
        kv_pinned=pinned if recording.setup else 0,
    )
