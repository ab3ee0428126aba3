"""What the speed benchmark counts, against the decoders' own counters and against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from decoder_worlds import lock_world

from rain_decoding.backends import load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers.plain import PlainEngine
from rain_decoding.benchmarks.speed import measuring, modes
from rain_decoding.benchmarks.speed.contenders import (
    Contender,
    DecoderContender,
    check_names,
    make_contenders,
    torch_model,
)
from rain_decoding.benchmarks.speed.forwards import count_forwards
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.benchmarks.speed.measurement import Measurement
from rain_decoding.benchmarks.speed.measuring import SpeedPlan, measure
from rain_decoding.benchmarks.speed.prompts import demo_prompts
from rain_decoding.benchmarks.speed.random_model import random_backend
from rain_decoding.benchmarks.speed.replay import RecordingEngine
from rain_decoding.benchmarks.speed.report import fits
from rain_decoding.benchmarks.speed.shards import Shards
from rain_decoding.benchmarks.speed.turns import converse
from rain_decoding.benchmarks.speed.unit import Unit
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.errors import ConfigError, InputError, UnsupportedError
from rain_decoding.microworld.export import write_gguf
from rain_decoding.self_evaluation.evaluator import SelfEvaluator

NAMES = ("plain", "generate", "paper-hh", "naive")


@pytest.fixture(scope="module")
def contenders(demo_backend: LocalBackend) -> dict[str, Contender]:
    made = make_contenders(NAMES, demo_backend, JudgeOptions())
    return {contender.name: contender for contender in made}


@pytest.fixture(scope="module")
def samples(demo_backend: LocalBackend, contenders: dict[str, Contender]) -> list[Measurement]:
    """Two prompts, twice, in single file."""
    plan = SpeedPlan(families=demo_prompts(["sensitive", "benign"], 1), max_tokens=(12,), repeats=2)
    units, model = plan.units(demo_backend), torch_model(demo_backend)
    return list(measuring.run(units, list(contenders.values()), model, repeats=2, seed=0))


def of(samples: list[Measurement], name: str) -> list[Measurement]:
    found = [sample for sample in samples if sample.contender == name]
    return sorted(found, key=lambda sample: (sample.case, sample.unit, sample.repeat))


def test_every_contender_is_measured_on_every_prompt_in_changing_order(samples: list[Measurement]) -> None:
    assert len(samples) == len(NAMES) * 2 * 2
    rounds = [samples[start : start + 4] for start in range(0, 16, 4)]
    for each in rounds:
        assert {sample.contender for sample in each} == set(NAMES)
        assert len({(sample.case, sample.unit, sample.repeat) for sample in each}) == 1
    assert len({each[0].contender for each in rounds}) > 1


def test_naive_rain_gives_the_same_texts_without_a_cache(samples: list[Measurement]) -> None:
    for mine, naive in zip(of(samples, "paper-hh"), of(samples, "naive"), strict=True):
        assert mine.texts == naive.texts
        assert naive.kv_slots == naive.kv_pinned == 0 < mine.kv_pinned


def test_naive_rain_takes_ten_times_the_tokens_for_a_whole_answer(
    demo_backend: LocalBackend, contenders: dict[str, Contender]
) -> None:
    (unit,) = SpeedPlan(families=demo_prompts(["benign"], 1)).units(demo_backend)
    ours, naive = (
        measure(contenders[name], unit, torch_model(demo_backend)) for name in ("paper-hh", "naive")
    )
    assert ours.texts == naive.texts
    assert naive.tokens_forwarded >= 10 * ours.tokens_forwarded


def test_generate_says_what_plain_decoding_says_in_as_many_passes(samples: list[Measurement]) -> None:
    ours, theirs = of(samples, "plain"), of(samples, "generate")
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.texts == other.texts
        assert mine.passes == other.passes == mine.tokens_released == other.tokens_released
        assert mine.tokens_forwarded == other.tokens_forwarded == mine.kv_slots == other.kv_slots


def test_times_are_parts_of_the_whole(samples: list[Measurement]) -> None:
    for sample in samples:
        assert 0 < sample.model_seconds < sample.seconds
        assert sample.first_release is not None and 0 < sample.first_release < sample.seconds


@pytest.mark.parametrize("name", ["plain", "paper-hh"])
def test_counts_from_outside_are_those_of_the_decoder(
    name: str, demo_backend: LocalBackend, contenders: dict[str, Contender]
) -> None:
    contender = contenders[name]
    assert isinstance(contender, DecoderContender)
    contender.reset()
    with count_forwards(torch_model(demo_backend)) as forwards:
        completion = contender.decoder.generate(*demo_prompts(["benign"], 1)["benign"], max_tokens=8)
    assert forwards.tokens == completion.usage.search_tokens
    assert forwards.passes <= completion.usage.forward_passes
    assert contender.peak_slots == completion.usage.peak_kv_slots


def test_naive_rain_forwards_every_token_of_every_sequence(demo_backend: LocalBackend) -> None:
    model = torch_model(demo_backend)
    recorder = RecordingEngine(PlainEngine(model, demo_backend.context_length))
    backend = LocalBackend("naive", recorder, demo_backend.codec, criteria_dirs=demo_backend.criteria_dirs)
    decoder = JudgeOptions().decoder("paper-hh", backend)
    with count_forwards(model) as forwards:
        decoder.generate("How do I bake a nut roll at the summer fair?", max_tokens=4)
    asked = [call[1][0] for call in recorder.calls if call[0] == "forward"]
    assert forwards.tokens == sum(len(sequence) for sequences in asked for sequence in sequences)
    assert forwards.passes == sum(len({len(sequence) for sequence in sequences}) for sequences in asked)


def test_a_batch_answers_every_prompt_as_if_it_were_alone(
    demo_backend: LocalBackend, contenders: dict[str, Contender]
) -> None:
    prompts = demo_prompts(["benign"], 3)
    model = torch_model(demo_backend)
    (batch,) = SpeedPlan(families=prompts, max_tokens=(8,), concurrency=(2,)).units(demo_backend)
    single = SpeedPlan(families=prompts, max_tokens=(8,)).units(demo_backend)
    assert (len(batch.prompts), len(single)) == (3, 3)
    for name in ("plain", "generate"):
        alone = [measure(contenders[name], unit, model) for unit in single]
        together = measure(contenders[name], batch, model)
        assert together.texts == tuple(sample.texts[0] for sample in alone)
        assert together.answers == 3
        assert together.tokens_released == sum(sample.tokens_released for sample in alone)
        assert together.passes < sum(sample.passes for sample in alone)


@pytest.fixture(scope="module")
def random() -> LocalBackend:
    torch.set_num_threads(1)
    return random_backend(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )


def test_with_a_long_few_shot_prefix_naive_rain_takes_fifty_times_the_tokens(random: LocalBackend) -> None:
    judge = JudgeOptions(few_shot=True, bad_rate=0.0)
    compared = make_contenders(["paper-hh", "naive"], random, judge)
    plan = SpeedPlan(families=demo_prompts(["benign"], 1), max_tokens=(24,), prompt_tokens=(100,))
    (unit,) = plan.units(random)
    ours, naive = (measure(contender, unit, torch_model(random)) for contender in compared)
    assert ours.texts == naive.texts
    assert ours.kv_pinned >= 1000
    assert naive.tokens_forwarded >= 50 * ours.tokens_forwarded


@pytest.mark.parametrize(
    ("form", "placement"), [(None, "suffix"), ("suffix", "suffix"), ("prefix", "prefix")]
)
def test_a_form_of_question_is_asked_as_it_is(
    demo_backend: LocalBackend, form: str | None, placement: str
) -> None:
    """Left to itself the demo's criterion is asked where that is cheapest."""
    decoder = JudgeOptions(form=form).decoder("balanced", demo_backend)
    assert isinstance(decoder.evaluator, SelfEvaluator)
    assert decoder.evaluator.criterion.placement == placement


def test_cost_grows_linearly_with_the_response(random: LocalBackend) -> None:
    compared = make_contenders(["plain", "balanced"], random, JudgeOptions(bad_rate=0.0))
    plan = SpeedPlan(families=demo_prompts(["benign"], 1), max_tokens=(16, 32, 64))
    units = plan.units(random)
    samples = list(measuring.run(units, compared, torch_model(random), repeats=1, seed=0))
    assert all(sample.tokens_released >= dict(sample.case)["max_tokens"] for sample in samples)
    lines = {(line["contender"], line["cost"]): line for line in fits(samples)}
    assert lines["plain", "tokens_forwarded"]["per_released_token"] == 1
    assert lines["plain", "tokens_forwarded"]["r_squared"] == 1
    assert lines["balanced", "tokens_forwarded"]["r_squared"] > 0.97


def test_a_conversation_does_not_pay_for_its_earlier_turns(
    demo_backend: LocalBackend, contenders: dict[str, Contender]
) -> None:
    prompts = demo_prompts(["benign"], 5)["benign"]
    model = torch_model(demo_backend)
    costs = {
        name: list(converse(contenders[name], prompts, demo_backend, model, max_tokens=8, seed=0))
        for name in ("plain", "generate")
    }
    for turn in costs["plain"]:
        # What is new: the turn's own tokens, and the answers, whose last token needs no forward.
        assert turn["tokens_forwarded"] <= turn["fresh_tokens"] + turn["tokens_released"]
    for turn in costs["generate"]:
        assert turn["tokens_forwarded"] == turn["prompt_tokens"] + turn["tokens_released"] - 1


def test_prompts_grow_by_earlier_turns_of_their_own(demo_backend: LocalBackend) -> None:
    plan = SpeedPlan(families=demo_prompts(["benign"], 2), prompt_tokens=(0, 150))
    short, _, *long = plan.units(demo_backend)
    assert len(short.prompts[0]) == 1
    first, second = (unit.prompts[0] for unit in long)
    assert len(first) > 3 and first[-1] == short.prompts[0][0]
    assert first[0] != second[0]


def test_wrong_plans_and_names_are_refused(demo_backend: LocalBackend) -> None:
    families = demo_prompts(["benign"], 1)
    for wrong in ({"max_tokens": (0,)}, {"concurrency": ()}, {"repeats": 0}, {"prompt_tokens": (-1,)}):
        with pytest.raises(InputError):
            SpeedPlan(families=families, **wrong)  # type: ignore[arg-type]
    for names in (["plain", "plain"], ["fastest"]):
        with pytest.raises(InputError):
            check_names(names)
    with pytest.raises(InputError, match="bad_rate"):
        JudgeOptions(bad_rate=1.5)
    with pytest.raises(ConfigError, match="no form of question 'odd'"):
        JudgeOptions(form="odd").decoder("balanced", demo_backend)
    with pytest.raises(InputError, match="families"):
        demo_prompts(["odd"], 1)
    with pytest.raises(InputError, match="too large"):
        demo_prompts(["benign"], 10**6)
    with pytest.raises(ConfigError, match="context of 1024"):
        JudgeOptions(few_shot=True).decoder("paper-hh", demo_backend)


def test_llama_cpps_own_loop_says_what_plain_decoding_says(tmp_path: Path) -> None:
    file = tmp_path / "demo.gguf"
    write_gguf(file)
    backend = load_backend(f"gguf:{file}", threads=1)
    assert isinstance(backend, LocalBackend)
    loop, plain = make_contenders(["generate", "plain"], backend, JudgeOptions())
    for unit in SpeedPlan(families=demo_prompts(["sensitive"], 4), max_tokens=(60,)).units(backend):
        theirs, ours = (measure(each, unit, None) for each in (loop, plain))
        assert theirs.texts == ours.texts
        assert (theirs.passes, theirs.tokens_forwarded) == (ours.passes, ours.tokens_forwarded)
        assert (theirs.tokens_released, theirs.kv_slots) == (ours.tokens_released, ours.kv_slots)


def test_generate_needs_an_engine_that_has_a_loop_of_its_own() -> None:
    with pytest.raises(UnsupportedError, match="scripted"):
        make_contenders(["generate"], lock_world(), JudgeOptions())


def test_shards_answer_what_one_process_answers(
    demo_backend: LocalBackend, contenders: dict[str, Contender]
) -> None:
    families = demo_prompts(["benign"], 3)
    (unit,) = SpeedPlan(families=families, max_tokens=(6,), concurrency=(3,)).units(demo_backend)
    alone = measure(contenders["paper-hh"], unit, torch_model(demo_backend), seed=5)
    with Shards(2, partial(load_backend, "demo"), ["paper-hh"], JudgeOptions(), 1) as shards:
        shared = shards.measure("paper-hh", unit, repeat=0, seed=5)
    assert (shared.texts, shared.answers) == (alone.texts, 3)
    # In one process the prompts share the tokens that all of them begin with.
    assert 0 <= shared.tokens_forwarded - alone.tokens_forwarded < 8
    assert shared.tokens_released == alone.tokens_released
    # One process takes a forward for all three, two take one each for a part of them.
    assert alone.passes < shared.passes < 3 * alone.passes


def test_a_backend_that_is_not_on_torch_is_counted_by_its_own_counters() -> None:
    backend, prompt = lock_world(), "How do I pick a lock?"
    expected = PlainDecoder(lock_world()).generate(prompt, max_tokens=6).usage
    (contender,) = make_contenders(["plain"], backend, JudgeOptions())
    sample = measure(contender, Unit((), 0, (prompt,), 6, 1), None)
    assert (sample.passes, sample.tokens_forwarded) == (expected.forward_passes, expected.search_tokens)
    assert 0 < sample.model_seconds < sample.seconds
    assert "forward" not in vars(backend.engine), "nothing is left behind"


def test_what_was_measured_before_ctrl_c_is_reported(demo_backend: LocalBackend) -> None:
    plan = SpeedPlan(families=demo_prompts(["benign"], 1), max_tokens=(4,), repeats=3)
    made = make_contenders(["plain"], demo_backend, JudgeOptions())

    def stopped(items: Iterable[Measurement], total: int) -> Iterator[Measurement]:
        yield from islice(items, 2)
        raise KeyboardInterrupt

    report = modes.compare(plan, made, demo_backend, stopped)
    assert report["note"] == "stopped after 2 of 3 measurements"
    assert [each["samples"] for each in report["results"]] == [2]
