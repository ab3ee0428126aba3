"""A preset judges by its criterion through whatever door it is asked for; a criterion that is named goes before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import rain_decoding.custom_generate.calling
import rain_decoding.decoding.decoder
import rain_decoding.integrations.arguments
from rain_decoding import PRESETS, RainDecoder, SearchConfig
from rain_decoding.backends.local import LocalBackend
from rain_decoding.benchmarks.speed.judge import JudgeOptions
from rain_decoding.cli.options import set_up
from rain_decoding.evaluation.contenders import contender
from rain_decoding.integrations.arguments import Arguments
from rain_decoding.server.decoders import Decoders, Way

NAMED = "helpfulness"
"""A criterion that no preset has."""


def by_python(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return RainDecoder(backend, criterion, SearchConfig.preset(preset))


def by_changed_config(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return RainDecoder(backend, criterion, SearchConfig.preset(preset, max_simulations=3))


def by_command_line(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return set_up("demo", criterion=criterion, preset=preset).decoder


def by_request_to_the_server(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    """Of an operator's preset: what a client's preset may change, see `server/test_permissions.py`."""
    return Decoders(RainDecoder(backend, criterion, SearchConfig.preset(preset)), preset).get(Way())


def by_evaluation(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return contender(f"rain:{preset}", SearchConfig()).decoder(backend, criterion)


def by_baseline(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return contender("best-of-2", SearchConfig.preset(preset)).decoder(backend, criterion)


def by_harness(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return Arguments(preset=preset, criterion=criterion).load("demo")[0]


def by_harness_decoder(preset: str, criterion: str | None, backend: LocalBackend) -> Any:
    return Arguments(decoder=f"rain:{preset}", criterion=criterion).load("demo")[0]


DOORS: list[Callable[[str, str | None, LocalBackend], Any]] = [
    by_python,
    by_changed_config,
    by_command_line,
    by_request_to_the_server,
    by_evaluation,
    by_baseline,
    by_harness,
    by_harness_decoder,
]


@pytest.fixture
def backend(demo: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    for module in (rain_decoding.decoding.decoder, rain_decoding.integrations.arguments):
        monkeypatch.setattr(module, "load_backend", lambda *_, **__: demo)
    return demo


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_judges_by_the_presets_criterion(door: Any, preset: str, backend: LocalBackend) -> None:
    assert door(preset, None, backend).evaluator.name == PRESETS[preset].criterion


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("door", DOORS)
def test_a_named_criterion_goes_before_it(door: Any, preset: str, backend: LocalBackend) -> None:
    assert door(preset, NAMED, backend).evaluator.name == NAMED


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("named", [None, NAMED])
def test_generate_of_transformers_takes_the_presets_name_or_the_preset(
    preset: str, named: str | None, demo: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import GenerationConfig

    class MadeError(Exception):
        """Ends a call where its decoder is made."""

    def make(_: Any, *arguments: Any, **named: Any) -> None:
        made.append(RainDecoder(demo, *arguments, **named).evaluator.name)
        raise MadeError

    monkeypatch.setattr(rain_decoding.custom_generate.calling, "RainDecoder", make)
    monkeypatch.setattr(rain_decoding.custom_generate.calling, "backend_over", lambda *_: demo)
    monkeypatch.setattr(rain_decoding.custom_generate.calling, "check_arguments", lambda *_: None)
    made: list[str] = []
    for config in (preset, SearchConfig.preset(preset)):
        with pytest.raises(MadeError):
            rain_decoding.rain_generate(
                torch.nn.Linear(1, 1),
                torch.tensor([[5]]),
                [],
                [],
                GenerationConfig(),
                rain_criterion=named,
                rain_config=config,
            )
    assert made == [named or PRESETS[preset].criterion] * 2


@pytest.mark.parametrize("preset", PRESETS)
def test_benchmarks(preset: str, demo: LocalBackend) -> None:
    assert JudgeOptions().decoder(preset, demo).evaluator.name == PRESETS[preset].criterion


def test_the_criterion_is_an_option_of_the_search(backend: LocalBackend) -> None:
    decoder = set_up("demo", settings=[f"criterion={NAMED}"]).decoder
    assert decoder.evaluator.name == NAMED


def test_an_operators_own_judge_stays_with_another_preset(demo: LocalBackend) -> None:
    judge = RainDecoder(demo, NAMED).evaluator
    decoder = RainDecoder(demo).judged_by(judge).with_config(SearchConfig.preset("paper-truth"))
    assert decoder.evaluator is judge
