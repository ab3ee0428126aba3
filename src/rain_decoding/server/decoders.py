"""The decoder that a request asks for. A request's criterion is no matter of its decoder's: see `Options`."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields
from typing import Any

from rain_decoding.config import SearchConfig
from rain_decoding.decoding.decoder import Decoder
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.web.errors import ApiError

ALWAYS_KEPT = ("criterion", "fallback", "fallback_alternatives", "on_unscored", "calibration")
"""What is judged, and what happens to what is not good, is no matter of a preset that a client chooses."""
STRICTER_IS_MORE = ("accept_value", "value_threshold", "min_label_mass", "order_margin")
"""What a client's choice may raise and not lower."""
HOW_JUDGED = ("votes", "placement")
"""What scores mean: another preset's would move them past the operator's thresholds."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to decode, as far as it is not as the operator said (None); `relaxed`: it may be laxer than that; `judged`:
    what is decoded plainly is judged when it is finished."""

    plain: bool = False
    preset: str | None = None
    threshold: float | None = None
    relaxed: bool = False
    prompt_format: PromptFormat | None = None
    judged: bool = False


class Decoders:
    """Decoders by what is asked for, made when they are first needed. `get` belongs to the worker's thread."""

    def __init__(self, operator: RainDecoder, preset: str):
        self.operator, self.preset = operator, preset
        self._made: dict[SearchConfig, RainDecoder] = {operator.config: operator}

    def get(self, way: Way) -> Decoder:
        """Raises `ConfigError` for a preset that does not exist."""
        prompt_format = way.prompt_format or self.operator.prompt_format
        if way.plain:
            judge = self.operator if way.judged else None
            return PlainDecoder(self.operator.backend, prompt_format=prompt_format, judge=judge)
        config = self.config(way)
        base = self._preset_config(way)
        if base not in self._made:
            self._made[base] = self.operator.with_config(base)
        decoder = copy(self._made[base])
        decoder.config, decoder.prompt_format = config, prompt_format
        return decoder

    def prompt(self, way: Way, prompt: Any) -> Prompt:
        """The prompt as that decoder encodes it, without stop strings. From any thread."""
        return build_prompt(
            prompt,
            self.operator.backend,
            prompt_format=way.prompt_format or self.operator.prompt_format,
            next_turn_ends=way.plain or self.config(way).next_turn_ends,
            thinking=self.operator.thinking and not way.plain,
        )

    def config(self, way: Way) -> SearchConfig:
        """How that decoder searches: as the operator's, but for what was chosen. Raises `ApiError`."""
        config = self._preset_config(way)
        if way.threshold is None:
            return config
        name = threshold_name(config)
        least = -1.0 if way.relaxed else getattr(config, name)
        return config.with_changes(**{name: max(way.threshold, least)})

    def _preset_config(self, way: Way) -> SearchConfig:
        """The chosen preset with all that the operator changed in theirs, and, unless relaxed, nowhere laxer."""
        operator = self.operator.config
        if way.preset in (None, self.preset):
            return operator
        original, chosen = SearchConfig.preset(self.preset), SearchConfig.preset(way.preset)
        kept = {
            field.name
            for field in fields(SearchConfig)
            if getattr(operator, field.name) != getattr(original, field.name)
        }
        config = chosen.with_changes(**{name: getattr(operator, name) for name in {*kept, *ALWAYS_KEPT}})
        if way.relaxed:
            return config
        config = config.with_changes(
            **{name: getattr(operator, name) for name in HOW_JUDGED},
            **{name: max(getattr(config, name), getattr(operator, name)) for name in STRICTER_IS_MORE},
        )
        if (
            config.fallback_threshold < operator.fallback_threshold
        ):  # the paper's presets have one of their own
            raise ApiError(
                403,
                f"rain.preset = {way.preset} calls answers good whose score is above {config.fallback_threshold:g}, "
                f"the operator's configuration those above {operator.fallback_threshold:g}; use another preset",
                param="rain.preset",
                code="not_allowed",
            )
        return config


def threshold_name(config: SearchConfig) -> str:
    """The field that a request sets by `rain.threshold`."""
    return "accept_value" if config.strategy == "verify-first" else "value_threshold"
