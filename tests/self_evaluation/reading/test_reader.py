"""From a criterion to a judge that reads: examples, fitting on a real model, the cache, the command."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from self_evaluation.reading.synthetic import probe

from rain_decoding import ConfigError, InputError, PlainDecoder, RainDecoder, load_criterion
from rain_decoding.demo import SHOWCASE
from rain_decoding.microworld import find_request, label
from rain_decoding.microworld.labelled import demo_answers
from rain_decoding.self_evaluation.criterion import builtin_criteria
from rain_decoding.self_evaluation.reading import store
from rain_decoding.self_evaluation.reading.examples import ReadingExample, examples_of
from rain_decoding.self_evaluation.reading.learning import learn
from rain_decoding.self_evaluation.reading.probe import Probe, load_probe
from rain_decoding.self_evaluation.reading.reader import Reader, fitted_probe, why_not_read

READ = sorted(name for name in builtin_criteria() if name not in ("principle", "llama-guard", "qwen3-guard"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def demo_examples(n: int = 120) -> list[ReadingExample]:
    """Answers of the demo's world, which its model knows."""
    return [
        ReadingExample(each.messages, each.answer, each.label == "positive", str(each.group))
        for each in demo_answers("harmlessness", n)
        if each.label != "neutral"
    ]


@pytest.mark.parametrize("name", READ)
def test_every_builtin_criterion_brings_examples(name: str) -> None:
    examples = examples_of(load_criterion(name))
    assert len(examples) >= 160 and len({each.group for each in examples}) >= 40
    share = sum(each.good for each in examples) / len(examples)
    assert 0.4 <= share <= 0.6
    answers = Counter((each.messages, each.answer) for each in examples)
    assert answers.most_common(1)[0][1] == 1, "each stands there once"
    labels: dict[str, set[bool]] = {}
    for each in examples:
        labels.setdefault(each.group, set()).add(each.good)
    assert sum(len(both) == 2 for both in labels.values()) / len(labels) > 0.5, "families have both labels"
    for count in (80, 160):
        assert 0.35 <= sum(each.good for each in examples[:count]) / count <= 0.65


def test_reading_tells_the_demos_answers_apart(demo: Any) -> None:
    probe = learn(demo, demo_examples(), "harmlessness")
    assert probe.figures["auc"]["low"] > 0.9 and probe.figures["balanced_accuracy"]["value"] > 0.85
    assert probe.model == demo.fingerprint and set(probe.layers) <= set(demo.capabilities.layers)
    again = learn(demo, demo_examples(), "harmlessness")
    assert np.array_equal(again.weights, probe.weights) and again.threshold == probe.threshold
    strict = learn(demo, demo_examples(), "harmlessness", false_alarms=0.02)
    assert strict.false_alarms <= 0.02 + 1 / sum(each.good for each in demo_examples())
    assert demo.counters.kv_slots <= 9000, "what was read is given back, but for the prefix cache"


def test_figures_of_some_of_the_answers(demo: Any) -> None:
    examples = demo_examples()
    probe = learn(demo, examples, "harmlessness", measured_on=range(40))
    assert probe.figures["examples"] == 40


def test_too_few_examples(demo: Any) -> None:
    with pytest.raises(InputError, match="at least 20 of each label"):
        learn(demo, demo_examples()[:30], "harmlessness")


def test_a_probe_is_fitted_once_and_kept(demo: Any, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    examples = demo_examples(60)
    first = fitted_probe(demo, examples, "kind", told=lambda done, of: told.append((done, of)))
    assert told[-1] == (len(examples), len(examples))
    (file,) = cache.rglob("*.json")
    told.clear()
    again = fitted_probe(demo, examples, "kind", told=lambda done, of: told.append((done, of)))
    assert np.array_equal(first.weights, again.weights) and not told
    file.write_text("{}")
    fitted_probe(demo, examples, "kind", told=lambda done, of: told.append((done, of)))
    assert told and load_probe(file).layers == first.layers, "a broken file is written anew"


def test_of_processes_that_want_the_same_probe_one_fits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, looked = tmp_path / "probe.json", Event()

    def load(path: Path) -> Probe:
        try:
            return load_probe(path)
        finally:
            looked.set()

    monkeypatch.setattr(store, "load_probe", load)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(file.with_suffix(".lock")):  # somebody else fits it
            waiting = pool.submit(store.kept_probe, file, lambda: pytest.fail("fitted twice"))
            assert looked.wait(60)
            probe().save(file)
        assert np.array_equal(waiting.result(60).weights, probe().weights)


def test_a_cache_that_cannot_be_written_is_no_error(demo: Any, cache: Path) -> None:
    cache.write_text("a file")
    assert fitted_probe(demo, demo_examples(60), "kind").figures


def test_a_model_that_brings_a_criterion_is_asked(demo: Any) -> None:
    criterion = load_criterion("harmlessness", search_dirs=demo.criteria_dirs)
    assert why_not_read(Reader(demo), criterion)
    assert RainDecoder(demo, judge="auto").evaluator.name == "harmlessness"


def test_a_saved_probe_judges(demo: Any, tmp_path: Path) -> None:
    learn(demo, demo_examples(), "harmlessness").save(tmp_path / "probe.json")
    decoder = RainDecoder(demo, "harmlessness", judge=f"read#probe={tmp_path / 'probe.json'}")
    for prompt in SHOWCASE[:3]:  # the sensitive ones: it has seen no benign ones
        request = find_request(prompt)
        assert request is not None
        plain, read = PlainDecoder(demo).generate(prompt), decoder.generate(prompt)
        assert (
            label(request, plain.text).outcome == "harmful" and label(request, read.text).outcome == "refused"
        )
        assert read.score is not None and read.score > 0 and read.usage.rewinds > 0
    with pytest.raises(ConfigError, match="of the criterion 'harmlessness', not 'helpfulness'"):
        RainDecoder(demo, "helpfulness", judge=f"read#probe={tmp_path / 'probe.json'}")
