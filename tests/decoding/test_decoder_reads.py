"""A reading judge in the search: good text is plain decoding's at plain decoding's cost, bad text is rewound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_worlds import BAD, CRITERION, GOOD, SCRIPT, lock_world
from self_evaluation import judges
from self_evaluation.reading.synthetic import probe

from rain_decoding import ConfigError, CriterionError, PlainDecoder, RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.scripted import Rule, ScriptedBackend
from rain_decoding.backends.transformers.loading import wrap
from rain_decoding.prompting import build_prompt
from rain_decoding.self_evaluation.cascade import Cascade
from rain_decoding.self_evaluation.elsewhere import ElsewhereEvaluator
from rain_decoding.self_evaluation.evaluator import SelfEvaluator
from rain_decoding.self_evaluation.reading.judge import ReadingEvaluator
from rain_decoding.self_evaluation.reading.probe import Probe, Wary
from rain_decoding.self_evaluation.reading.reader import Reader
from rain_decoding.types import LAST

PRESETS = ("fast", "balanced", "thorough")
PROMPTS = ("How do I bake a nut roll?", "Who is Linnet?", "How do I steal the show?")


def contented(width: int, layer: int, *, reads_requests: bool = False) -> Probe:
    """Finds everything good."""
    line = {"weights": np.zeros((1, 2 * width)), "bias": 5.0, "threshold": 0.0, "patience": 0.0}
    if not reads_requests:
        return probe(layers=(layer,), **line)
    shared = {"pooling": "mean", "slope": 1.0, "intercept": 0.0, "request_bias": 0.0}
    return probe(layers=(layer,), wary=Wary(request=np.ones((1, width)), **line, **shared), **line)


def wary(backend: Any, of: str) -> Probe:
    """Finds good what does not hold the token `of`. A scripted model's states are its tokens."""
    size = backend.engine.vocabulary_size
    weights = np.zeros((1, 2 * size))
    (token,) = backend.codec.encode(of, start=False)
    weights[0, token] = -50.0
    return probe(layers=(LAST,), weights=weights, bias=5.0, threshold=0.0, patience=0.0)


@pytest.fixture(params=["trie", "rows", "gguf"])
def backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "gguf":
        pytest.importorskip("cyllama")
        return load_backend(f"gguf:{request.getfixturevalue('demo_file')}")
    tokenizer = judges.tokenizer("byte-level")
    model = judges.model(len(tokenizer))
    return wrap(model, tokenizer, name="tiny", engine=request.param, dialogue_header="")


@pytest.fixture(scope="module")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from rain_decoding.microworld.export import write_gguf

    file = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    write_gguf(file)
    return file


def width_and_layer(backend: Any) -> tuple[int, int]:
    layer = max(backend.capabilities.layers)
    backend.keep_layers([layer])
    owner = backend.new_owner()
    states, *_ = backend.engine.hidden((1, 2), 0, (layer,), owner)
    backend.finish(owner)
    backend.clear()
    return states.shape[-1], layer


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("max_tokens", [2, 9, 33])
@pytest.mark.parametrize("reads_requests", [False, True], ids=["", "reads requests"])
def test_good_text_is_plain_decodings_and_costs_what_it_costs(
    backend: Any, preset: str, max_tokens: int, reads_requests: bool
) -> None:
    own = contented(*width_and_layer(backend), reads_requests=reads_requests)
    evaluator = ReadingEvaluator(backend, own, "kind")
    reading = RainDecoder(backend, evaluator, SearchConfig.preset(preset))
    for prompt in PROMPTS[:2]:
        backend.clear()
        plain = PlainDecoder(backend).generate(prompt, max_tokens=max_tokens)
        backend.clear()
        read = reading.generate(prompt, max_tokens=max_tokens)
        assert (read.text, read.tokens, read.finish_reason) == (plain.text, plain.tokens, plain.finish_reason)
        if reads_requests and backend.kept_layers == (LAST,):
            # llama.cpp keeps no states of a prompt: it is read once more, up to where the first look was taken.
            assert read.usage.forward_passes <= plain.usage.forward_passes + 1
            most = plain.usage.prompt_tokens + SearchConfig.preset(preset).read_every
            assert read.usage.search_tokens + read.usage.judge_tokens <= plain.usage.search_tokens + most
        else:
            assert read.usage.forward_passes == plain.usage.forward_passes
            assert read.usage.search_tokens == plain.usage.search_tokens and not read.usage.judge_tokens
        assert read.score is not None and read.score > 0.9 and read.usage.rewinds == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_a_cascade_costs_nothing_where_the_reading_is_sure(backend: Any, preset: str) -> None:
    reading = ReadingEvaluator(backend, contented(*width_and_layer(backend)), "kind")
    cascade = Cascade(reading, SelfEvaluator(backend, CRITERION), SearchConfig.preset(preset).read_surely)
    decoder = RainDecoder(backend, cascade, SearchConfig.preset(preset))
    for prompt in PROMPTS[:2]:
        backend.clear()
        plain = PlainDecoder(backend).generate(prompt, max_tokens=33)
        backend.clear()
        read = decoder.generate(prompt, max_tokens=33)
        assert (read.text, read.tokens, read.finish_reason) == (plain.text, plain.tokens, plain.finish_reason)
        assert read.usage.forward_passes == plain.usage.forward_passes
        assert read.usage.search_tokens == plain.usage.search_tokens
        assert read.usage.self_evaluations and not read.usage.escalations


def test_the_same_text_beside_others(backend: Any) -> None:
    evaluator = ReadingEvaluator(backend, contented(*width_and_layer(backend)), "kind")
    decoder = RainDecoder(backend, evaluator)
    alone = [decoder.generate(prompt, max_tokens=20).text for prompt in PROMPTS]
    backend.clear()
    assert [each.text for each in decoder.generate_batch(PROMPTS, max_tokens=20)] == alone


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("spoken", [" Sure", ", take", " a hairpin"])
def test_bad_text_is_rewound_wherever_it_turns_bad(preset: str, spoken: str) -> None:
    backend = lock_world()
    evaluator = ReadingEvaluator(backend, wary(backend, spoken), "kind")
    completion = RainDecoder(backend, evaluator, SearchConfig.preset(preset)).generate(
        "Open the lock.", trace=True
    )
    assert completion.text == GOOD and completion.usage.rewinds >= 1 and completion.score is not None
    assert completion.score > 0.9 and not completion.flagged
    assert PlainDecoder(backend).generate("Open the lock.").text == BAD


def test_a_glance_every_token_stops_at_the_first_bad_one() -> None:
    backend = lock_world()
    evaluator = ReadingEvaluator(backend, wary(backend, " Sure"), "kind")
    config = SearchConfig.preset("balanced", read_every=1)
    completion = RainDecoder(backend, evaluator, config).generate("Open the lock.", trace=True)
    first = next(event for event in completion.trace if event["event"] == "expand")
    assert first["children"][0]["text"] == " Sure" and completion.text == GOOD
    judged = [event for event in completion.trace if event["event"] == "judge"]
    assert all(event["course"][-1] == pytest.approx(event["score"], abs=1e-4) for event in judged)


def test_a_judgement_has_the_course_of_its_text() -> None:
    backend = lock_world()
    evaluator = ReadingEvaluator(backend, wary(backend, ", take"), "kind")
    judgement = RainDecoder(backend, evaluator).judge("Open the lock.", BAD)
    assert judgement.score == judgement.course[-1]
    assert judgement.course[0] > 0.9 and max(judgement.course[1:]) < -0.9
    assert judgement.probabilities[0][0] < 0.01


def test_another_model_reads_along() -> None:
    speaker, reader = lock_world(), lock_world()
    evaluator = ElsewhereEvaluator(ReadingEvaluator(reader, wary(reader, " a hairpin"), "kind", along=True))
    completion = RainDecoder(speaker, evaluator).generate("Open the lock.")
    assert completion.text == GOOD and completion.usage.rewinds >= 1
    assert speaker.kept_layers == reader.kept_layers, "a scripted model always has them"


def test_only_the_generating_models_own_states_are_free() -> None:
    backend = lock_world()
    own = ReadingEvaluator(backend, wary(backend, " Sure"), "kind")
    prompt = build_prompt("Open the lock.", backend)
    assert own.conversation(prompt).free and not ElsewhereEvaluator(own).conversation(prompt).free


def test_an_answer_of_one_token_is_read() -> None:
    backend = lock_world()
    evaluator = ReadingEvaluator(backend, wary(backend, " Sure"), "kind")
    assert RainDecoder(backend, evaluator).generate("Open the lock.", max_tokens=1).text == "No"


def test_names_of_judges(tmp_path: Path) -> None:
    from rain_decoding import load_criterion

    for name, text in SCRIPT.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    backend = load_backend(f"scripted:{tmp_path / 'model.toml'}")
    kind = load_criterion(tmp_path / "kind.toml")
    with pytest.raises(CriterionError, match="apart"):
        RainDecoder(backend, kind, judge="read")
    assert RainDecoder(backend, kind, judge="auto").evaluator.name == "kind", "it is asked"
    own = wary(backend, " Sure")
    own.save(tmp_path / "probe.json")
    with pytest.raises(ConfigError, match="the probe is of the model model, not"):
        RainDecoder(backend, kind, judge=f"read#probe={tmp_path / 'probe.json'}")
    replace(own, model=backend.fingerprint, criterion_name="kind").save(tmp_path / "probe.json")
    decoder = RainDecoder(backend, kind, judge=f"read#probe={tmp_path / 'probe.json'}")
    assert decoder.generate("Open the lock.").text == GOOD
    along = RainDecoder(
        lock_world(), kind, judge=f"read:scripted:{tmp_path / 'model.toml'}#probe={tmp_path / 'probe.json'}"
    )
    assert along.generate("Open the lock.").text == GOOD


def test_auto_fits_no_probe_for_a_single_request(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[str] = []
    monkeypatch.setattr(Reader, "probe", lambda _, criterion: fitted.append(criterion.name))
    decoder = RainDecoder(lock_world(), CRITERION, judge="auto")
    with pytest.raises(ConfigError, match="no tokens for the criterion.s labels"):  # it is asked
        decoder.generate("Open the lock.", criterion="truthfulness")
    assert not fitted


def test_where_nobody_is_named_ours_read_and_the_papers_presets_ask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, kind = lock_world(), replace(CRITERION, reading_file=tmp_path / "answers.jsonl")
    known = replace(wary(backend, " Sure"), figures={"balanced_accuracy": {"value": 0.9, "low": 0.8}})
    monkeypatch.setattr(Reader, "probe", lambda *_: known)
    ours, papers = SearchConfig.preset("fast"), SearchConfig.preset("paper-hh")

    def reads(decoder: RainDecoder) -> bool:
        return isinstance(decoder.evaluator, ReadingEvaluator)

    usual, asked = RainDecoder(backend, kind, ours), RainDecoder(backend, kind, papers)
    assert reads(usual) and not reads(asked)
    assert reads(usual.with_config(ours)) and not reads(usual.with_config(papers))
    assert not reads(asked.with_config(ours)), "a request waits for no probe"
    named = RainDecoder(backend, kind, papers, judge="read")
    assert reads(named) and reads(named.with_config(papers))
    assert not reads(RainDecoder(backend, kind, ours, judge="ask"))


@pytest.mark.parametrize("max_simulations", [1, 6, 40])
def test_a_search_does_not_come_back_to_an_undecided_beginning_for_ever(max_simulations: int) -> None:
    """The first part is undecided, the second good, and all that can follow is bad."""
    steps = {"Assistant:": " Well", " Well": ".", " Well.": " Take", " Take": " it"}
    backend = ScriptedBackend.from_rules([Rule({token: 1.0}, after) for after, token in steps.items()])
    size = backend.engine.vocabulary_size
    weights = np.zeros((1, 2 * size))
    for text, weight in ((" Well", -0.2), (".", 2.0), (" Take", -9.0), (" it", -9.0)):
        (token,) = backend.codec.encode(text, start=False)
        weights[0, token] = weight
    sour = probe(layers=(LAST,), weights=weights, bias=0.0, threshold=0.0, patience=0.0, slope=1.0)
    config = SearchConfig.preset("balanced", read_every=1, max_simulations=max_simulations)
    decoder = RainDecoder(backend, ReadingEvaluator(backend, sour, "kind"), config)
    completion = decoder.generate("Open the lock.", max_tokens=8, trace=True)
    assert completion.text == "Well. Take it" and completion.flagged
    assert completion.usage.self_evaluations < 20
