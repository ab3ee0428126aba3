"""From what a user asks for, in words, to a decoder whose model is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rain_decoding.backends import find_model, read_options
from rain_decoding.backends.local import criteria_of
from rain_decoding.config import DEFAULT_PRESET, search_config
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL
from rain_decoding.decoding.rain_decoder import UNPROVEN, RainDecoder
from rain_decoding.errors import InputError
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.loading import ASK, AUTO, PRINCIPLE, READS, JudgeChoice, check_names
from rain_decoding.self_evaluation.reading.reader import Told, logged

LOCAL = ("demo", "gguf", "hf")
"""Forms of models that may have criteria of their own beside them; those of the demo model are called as ours."""


def load_decoder(
    model: str,
    *,
    criterion: str | None = None,
    principle: str | None = None,
    judge: str | JudgeChoice | None = None,
    preset: str = DEFAULT_PRESET,
    settings: Iterable[str] | None = None,
    fallback: str | None = None,
    refusal: str | None = None,
    embedding: str = "hashing",
    prompt_format: PromptFormat = "auto",
    thinking: bool = False,
    device: str | None = None,
    dtype: str | None = None,
    trust_model_criteria: bool = False,
    engine_options: Iterable[str] = (),
    told: Told = logged,
) -> RainDecoder:
    """Load model, judge and criterion. The cheap checks come first, so that a typing error costs no loading.

    `settings` change the preset and `engine_options` how the model is loaded, each as NAME=VALUE; None of `device` and
    `dtype` leaves them to the backend; `judge` as for `RainDecoder`; `told` hears of a probe that is fitted. Raises
    `ConfigError`, `InputError`, or `BackendError` where a model cannot be loaded.
    """
    changes = list(settings or ())
    config = search_config(preset, changes)
    if fallback is not None:
        config = config.with_changes(fallback=fallback)
    if refusal is not None and config.fallback != "refusal":
        raise InputError("--refusal needs --fallback refusal", hint="use both, or leave out --refusal")
    named = named_criterion(criterion, principle)
    if named is not None:
        _check_criterion(named, model, judge)
    options: dict[str, Any] = {"device": device, "dtype": dtype, **read_options(model, engine_options)}
    if trust_model_criteria:
        options["trust_model_criteria"] = True
    if embedding == "hidden":
        options["keep_hidden"] = True
    decoder = RainDecoder.from_model(
        model,
        named,
        config=config,
        engine_options={key: value for key, value in options.items() if value is not None},
        embedding=embedding,
        prompt_format=prompt_format,
        thinking=thinking,
        judge=judge,
        refusal=DEFAULT_REFUSAL if refusal is None else refusal,
        told=told,
    )
    if not any(setting.partition("=")[0] in UNPROVEN for setting in changes):
        decoder.mind_plain_text()
    return decoder


def _check_criterion(named: str, model: str, judge: str | JudgeChoice | None) -> None:
    """Raise `CriterionError` for a criterion that there will not be, where that is known before a model is loaded.

    What our loaders find beside a model is; what a judge's model or another package's backend brings is not.
    """
    entry, name = find_model(model)
    own = judge is None or (isinstance(judge, str) and (judge in (ASK, AUTO) or READS.match(judge)))
    if entry.name in LOCAL and own:
        place = Path(name).expanduser()
        folder = place.parent if entry.name == "gguf" else place
        check_names(named, criteria_of(folder, trusted=True))


def named_criterion(name: str | None, principle: str | None) -> str | None:
    """The criterion asked for, if one is."""
    if name is not None and principle is not None:
        raise InputError("--criterion and --principle exclude each other", hint="use one of them")
    return name if principle is None else f"{PRINCIPLE} {principle}"
