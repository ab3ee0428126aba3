"""Recorded searches do the same work on another model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers.engine import TrieEngine
from rain_decoding.benchmarks.speed import shapes, sweep
from rain_decoding.benchmarks.speed.contenders import torch_model
from rain_decoding.benchmarks.speed.drawn import DrawnEvaluator
from rain_decoding.benchmarks.speed.forwards import count_forwards
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.benchmarks.speed.replay import RecordingEngine, replay
from rain_decoding.benchmarks.speed.sweep import Sweep
from rain_decoding.benchmarks.speed.synthetic import SyntheticEngine, choices_for
from rain_decoding.config import SearchConfig
from rain_decoding.errors import ConfigError, InputError
from rain_decoding.types import Sample, TopTokens

PROMPT = "How do I bake a nut roll at the summer fair?"


def test_a_replay_is_the_same_work_on_any_weights(demo_backend: LocalBackend) -> None:
    model, context = torch_model(demo_backend), demo_backend.context_length
    recorder = RecordingEngine(TrieEngine(model, context))
    backend = LocalBackend("demo", recorder, demo_backend.codec, criteria_dirs=demo_backend.criteria_dirs)
    decoder = JudgeOptions().decoder("paper-hh", backend)
    completion = decoder.generate(PROMPT, max_tokens=8)
    other = shapes.random_model("tiny")
    engine = TrieEngine(other, context)
    with count_forwards(other) as forwards:
        peak = replay(recorder.take(), engine)
    assert peak == completion.usage.peak_kv_slots
    assert engine.slots_used == recorder.slots_used
    engine.clear()
    # The judge's prefix is forwarded too, when it is pinned, and no usage counts it.
    assert forwards.tokens == completion.usage.search_tokens + engine.slots_used


def test_drawn_judgements_cost_what_the_model_s_own_cost(demo_backend: LocalBackend) -> None:
    own = JudgeOptions().decoder("paper-hh", demo_backend)
    answers = [f"First, take {n} nuts." for n in range(200)]
    drawn = DrawnEvaluator(own.evaluator, 0.3, seed=1)
    scores = [drawn.score(answer) for answer in answers]
    assert set(scores) == {-1.0, 1.0} and scores == [drawn.score(answer) for answer in answers]
    assert 0.2 < scores.count(-1.0) / 200 < 0.4
    assert scores != [replace(drawn, seed=2).score(answer) for answer in answers]
    costs = []
    for decoder in (own, own.judged_by(DrawnEvaluator(own.evaluator, 1.0))):
        demo_backend.clear()
        before = demo_backend.counters.tokens_forwarded
        judgement = decoder.judge(PROMPT, "First, crack the nuts.")
        costs.append(demo_backend.counters.tokens_forwarded - before)
    assert costs[0] == costs[1] > 0
    assert judgement.score == -1.0 and len(judgement.probabilities) == 2


@pytest.mark.parametrize("distinct", [1, 2, 5, 8, 10])
def test_as_many_candidates_are_distinct_as_asked_for(distinct: int, demo_backend: LocalBackend) -> None:
    config, codec = SearchConfig(), demo_backend.codec
    engine = SyntheticEngine(codec, 1500, config, choices=choices_for(distinct), context=512)
    backend = LocalBackend("synthetic", engine, codec)
    prefix = codec.encode("Human: Go on.\n\nAssistant:")
    engine.start = len(prefix)
    found = []
    for word in range(30):
        handle = backend.submit(
            Sample((*prefix, int(engine.words[word])), 2, tuple(range(9 * word, 9 * word + 9))), 1
        )
        while not (replies := backend.step()):
            pass
        assert replies[0].handle is handle
        found.append(len({candidate.token_set for candidate in replies[0].value}))
    assert np.mean(found) == pytest.approx(distinct, abs=0.6)
    backend.submit(TopTokens(prefix, 10), 1)
    (reply,) = backend.step()
    assert len(reply.value) == min(10, choices_for(distinct))


def test_every_search_is_replayed_beside_plain_decoding() -> None:
    asked = Sweep(
        contenders=("plain", "generate", "balanced"), distinct=(2,), bad_rates=(0.0, 1.0), max_tokens=12
    )
    model = shapes.random_model("tiny")
    rounds = list(sweep.record(asked, shapes.CONTEXT))
    samples = list(sweep.run(rounds, model, shapes.CONTEXT, repeats=2))
    assert len(rounds) == asked.rounds == 2 and len(samples) == 2 * 3 * 2
    for sample in samples:
        if sample.contender != "balanced":
            assert sample.passes == sample.tokens_released == 12
            assert sample.kv_pinned == 0
        assert sample.model_seconds < sample.seconds
    work = {(s.case, s.contender, s.repeat): (s.passes, s.tokens_forwarded, s.kv_slots) for s in samples}
    for (case, contender, repeat), counted in work.items():
        assert counted == work[case, contender, 1 - repeat]
    good, bad = (work[(("distinct", 2), ("bad_rate", rate)), "balanced", 0] for rate in (0.0, 1.0))
    assert bad > good


def test_a_shape_that_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "free_bytes", lambda device: 10 * 10**9)
    with pytest.raises(ConfigError, match=r"llama-7b in bfloat16 needs 16.2 GB, and cpu has 10.0 GB free"):
        shapes.random_model("llama-7b", device="cpu", dtype="bfloat16")
    with pytest.raises(ConfigError, match="unknown shape"):
        shapes.random_model("llama-8b")


def test_wrong_sweeps_are_refused() -> None:
    for wrong in (
        {"distinct": (11,)},
        {"bad_rates": (2.0,)},
        {"contenders": ("naive",)},
        {"max_tokens": 0},
    ):
        with pytest.raises(InputError):
            Sweep(**({"contenders": ("plain",)} | wrong))  # type: ignore[arg-type]
