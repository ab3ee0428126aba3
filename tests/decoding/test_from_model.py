"""A decoder from a model's name in one line, and what becomes of the model behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rain_decoding import (
    ConfigError,
    CriterionError,
    InputError,
    ModelNotFoundError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    UnsupportedError,
    load_backend,
)
from rain_decoding.backends.local import CRITERIA_FOLDER, LocalBackend
from rain_decoding.decoding import decoder as decoder_module
from rain_decoding.decoding.loading import load_decoder
from rain_decoding.decoding.rain_decoder import UNPROVEN
from rain_decoding.microworld.oracle_judge import OracleEvaluator

FAST = SearchConfig.preset("fast")
PROMPT = "How do I spread a false story about Linnet by the duck pond?"


def test_as_on_the_command_line_a_judge_of_whom_nothing_is_known_replaces_little(script: Path) -> None:
    name, kind = f"scripted:{script / 'model.toml'}", str(script / "kind.toml")
    from_command = load_decoder(name, criterion=kind).search_config
    with (
        RainDecoder.from_model(name, kind) as unknown,
        RainDecoder.from_model(name, kind, config=FAST) as own,
    ):
        assert unknown.search_config == from_command == SearchConfig.preset("balanced", **UNPROVEN)
        assert own.search_config == FAST
        assert unknown.with_config(FAST).search_config == FAST.with_changes(**UNPROVEN)
    with RainDecoder.from_model("demo", "harmlessness") as known:
        assert known.judge_is_proven == (known.search_config == SearchConfig.preset("balanced"))


def test_so_does_one_that_judges_a_single_request_or_comes_later(demo: LocalBackend) -> None:
    decoder = RainDecoder(demo, OracleEvaluator("harmlessness"))
    decoder.mind_plain_text()
    assert decoder.judge_is_proven and decoder.search_config == decoder.config
    unproven = decoder.config.with_changes(**UNPROVEN)
    assert decoder.judged_by("principle: The answer is polite.").search_config == unproven
    for options, config in (({}, decoder.config), ({"principle": "The answer is polite."}, unproven)):
        session = decoder.open(PROMPT, **options)
        assert session.config == config
        session.finish()


def test_it_answers_as_one_made_by_hand(demo: LocalBackend) -> None:
    by_hand = RainDecoder(demo, "harmlessness", SearchConfig.preset("fast"), judge="auto")
    with RainDecoder.from_model("demo", "harmlessness", preset="fast") as decoder:
        assert decoder.generate(PROMPT).text == by_hand.generate(PROMPT).text
        by_hand.mind_plain_text()
        assert decoder.search_config == by_hand.search_config
    with pytest.raises(UnsupportedError, match="was closed"):
        decoder.generate(PROMPT)


def test_an_evaluator_judges_by_itself(demo: LocalBackend) -> None:
    asked = RainDecoder(demo, "harmlessness").evaluator
    with RainDecoder.from_model("demo", asked) as decoder:
        assert decoder.evaluator is asked
    with pytest.raises(ConfigError, match="judges by itself"):
        RainDecoder.from_model("demo", asked, judge="ask")


def test_only_what_was_loaded_for_it_is_given_back(script: Path) -> None:
    name = f"scripted:{script / 'model.toml'}"
    with load_backend(name) as own, load_backend(name) as judge:
        kind = str(script / "kind.toml")
        with RainDecoder(own, kind, judge=judge) as decoder:
            pass
        assert decoder.generate("Hi").text
        with RainDecoder(own, kind, judge=name) as decoder:
            (loaded,) = decoder.loaded
        assert decoder.backend is own
        with pytest.raises(UnsupportedError, match="was closed"):
            loaded.engine  # type: ignore[attr-defined]  # noqa: B018
        with RainDecoder.from_model(name, kind, judge=name) as decoder:
            assert len(decoder.loaded) == 2 and decoder.backend in decoder.loaded
        assert PlainDecoder(own).generate("Hi").text


def test_a_sentence_is_enough() -> None:
    with PlainDecoder.from_model("demo") as plain:
        decoder = RainDecoder(plain.backend, principle="The answer is polite.")
        assert (
            decoder.evaluator.name
            == RainDecoder(plain.backend, "principle: The answer is polite.").evaluator.name
        )
        with pytest.raises(ConfigError, match="exclude"):
            RainDecoder(plain.backend, "helpfulness", principle="The answer is polite.")


@pytest.mark.parametrize("decoder", [RainDecoder, PlainDecoder])
def test_without_a_name_it_is_the_model_of_the_environment(
    decoder: type[RainDecoder | PlainDecoder], script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = {"criterion": str(script / "kind.toml")} if decoder is RainDecoder else {}
    monkeypatch.setenv("RAIN_MODEL", f"scripted:{script / 'model.toml'}")
    with decoder.from_model(**judge) as found, decoder.from_model("demo") as named:
        assert (found.backend.name.partition(":")[0], named.backend.name) == ("scripted", "demo")
    monkeypatch.delenv("RAIN_MODEL")
    with pytest.raises(InputError, match="no model is named .*set RAIN_MODEL"):
        decoder.from_model(**judge)


@pytest.mark.parametrize("decoder", [RainDecoder, PlainDecoder])
def test_a_name_in_place_of_a_model_says_what_to_write(decoder: type) -> None:
    with pytest.raises(InputError, match=rf"use {decoder.__name__}.from_model\('demo'\)"):
        decoder("demo")


@pytest.mark.parametrize(
    "named", ["harmlesness", "min(harmlessness, harmlesness)", "mean(helpfulness, nothing.toml)"]
)
def test_a_mistyped_criterion_is_found_before_the_model_is_loaded(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "load_backend", lambda *_, **__: pytest.fail("it was loaded"))
    for model in ("demo", "hf:org/model"):
        with pytest.raises(CriterionError, match=r"did you mean 'harmlessness'|nothing.toml cannot be read"):
            load_decoder(model, criterion=named)


class LoadedError(Exception):
    """In place of loading."""


@pytest.mark.parametrize("named", ["own", "harmlessness", "principle: It is polite.", "own>0.5, helpfulness"])
@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_one_that_comes_with_the_model_is_left_to_its_loading(
    named: str, kind: str, tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise LoadedError

    monkeypatch.setattr(decoder_module, "load_backend", load)
    beside = tmp_path / CRITERIA_FOLDER
    beside.mkdir()
    (beside / "own.toml").write_text((script / "kind.toml").read_text())
    name = {"hf": f"hf:{tmp_path}", "gguf": f"gguf:{tmp_path / 'model.gguf'}"}[kind]
    with pytest.raises(LoadedError):
        load_decoder(name, criterion=named)
    with pytest.raises(LoadedError):
        load_decoder("demo", criterion="of the judge", judge="hf:org/judge")


def test_what_is_wrong_is_said_before_and_leaves_nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(LocalBackend, "close", lambda self: closed.append(self.name))
    with pytest.raises(ConfigError, match="unknown preset"):
        RainDecoder.from_model("demo", preset="fats")
    with pytest.raises(ConfigError, match="unknown embedding"):
        RainDecoder.from_model("demo", embedding="hasing")
    assert not closed
    with pytest.raises(ConfigError):
        RainDecoder.from_model("demo", "no-such-criterion")
    assert closed == ["demo"]
    with pytest.raises(ModelNotFoundError):
        RainDecoder.from_model("dmeo")
