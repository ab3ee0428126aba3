"""The decoder that a request asks for. Used in the worker's thread: a new judge may forward its prompt's beginning."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from dataclasses import dataclass

from rain_decoding.config import SearchConfig
from rain_decoding.decoder import Decoder, PlainDecoder, RainDecoder
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.criterion import load_criterion, principle_criterion

KEPT = 64
"""Decoders with a client's judge that are kept for its next request."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to decode, as far as it is not as the operator said (None)."""

    plain: bool = False
    preset: str | None = None
    criterion: str | None = None
    principle: str | None = None
    threshold: float | None = None
    prompt_format: PromptFormat | None = None


class Decoders:
    """Decoders by what is asked for, made when they are first needed."""

    def __init__(self, operator: RainDecoder, preset: str):
        self.operator, self.preset = operator, preset
        self._by_preset = {preset: operator}
        self._judged: OrderedDict[tuple[str, str | None, str | None], RainDecoder] = OrderedDict()

    def get(self, way: Way) -> Decoder:
        """Raises `ConfigError` or `CriterionError` for what does not exist."""
        prompt_format = way.prompt_format or self.operator.prompt_format
        if way.plain:
            return PlainDecoder(self.operator.backend, prompt_format=prompt_format)
        decoder = copy(self._judged_decoder(way))
        decoder.prompt_format = prompt_format
        if way.threshold is not None:
            decoder.config = _with_threshold(decoder.config, way.threshold)
        return decoder

    def _judged_decoder(self, way: Way) -> RainDecoder:
        base = self._with_preset(way.preset or self.preset)
        if way.criterion is None and way.principle is None:
            return base
        key = (way.preset or self.preset, way.criterion, way.principle)
        if key not in self._judged:
            dirs = base.backend.criteria_dirs
            if way.principle is not None:
                judge = principle_criterion(way.principle, search_dirs=dirs)
            else:
                assert way.criterion is not None
                judge = load_criterion(way.criterion, search_dirs=dirs)
            self._judged[key] = base.judged_by(judge)
        self._judged.move_to_end(key)
        if len(self._judged) > KEPT:
            self._judged.popitem(last=False)
        return self._judged[key]

    def _with_preset(self, preset: str) -> RainDecoder:
        """The operator's judge, with another preset."""
        if preset not in self._by_preset:
            self._by_preset[preset] = self.operator.with_config(SearchConfig.preset(preset))
        return self._by_preset[preset]


def _with_threshold(config: SearchConfig, threshold: float) -> SearchConfig:
    name = "accept_value" if config.strategy == "verify-first" else "value_threshold"
    return config.with_changes(**{name: threshold})
