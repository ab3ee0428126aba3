"""The decoder that a request asks for. A request's criterion is no matter of its decoder's: see `Options`."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from rain_decoding.config import SearchConfig
from rain_decoding.decoding.decoder import Decoder, PlainDecoder, RainDecoder
from rain_decoding.prompting import PromptFormat


@dataclass(frozen=True, slots=True)
class Way:
    """How to decode, as far as it is not as the operator said (None)."""

    plain: bool = False
    preset: str | None = None
    threshold: float | None = None
    prompt_format: PromptFormat | None = None


class Decoders:
    """Decoders by what is asked for, made when they are first needed. Used in the worker's thread."""

    def __init__(self, operator: RainDecoder, preset: str):
        self.operator, self.preset = operator, preset
        self._by_preset = {preset: operator}

    def get(self, way: Way) -> Decoder:
        """Raises `ConfigError` for a preset that does not exist."""
        prompt_format = way.prompt_format or self.operator.prompt_format
        if way.plain:
            return PlainDecoder(self.operator.backend, prompt_format=prompt_format)
        decoder = copy(self._with_preset(way.preset or self.preset))
        decoder.prompt_format = prompt_format
        if way.threshold is not None:
            decoder.config = _with_threshold(decoder.config, way.threshold)
        return decoder

    def _with_preset(self, preset: str) -> RainDecoder:
        """The operator's judge, with another preset."""
        if preset not in self._by_preset:
            self._by_preset[preset] = self.operator.with_config(SearchConfig.preset(preset))
        return self._by_preset[preset]


def _with_threshold(config: SearchConfig, threshold: float) -> SearchConfig:
    name = "accept_value" if config.strategy == "verify-first" else "value_threshold"
    return config.with_changes(**{name: threshold})
