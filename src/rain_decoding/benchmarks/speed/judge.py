"""How RAIN judges in the benchmark."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rain_decoding.backends.base import Backend
from rain_decoding.benchmarks.speed.drawn import DrawnEvaluator
from rain_decoding.config import SearchConfig
from rain_decoding.decoding.baselines import CritiqueDecoder
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.errors import ConfigError, InputError
from rain_decoding.self_evaluation.criterion import Criterion, load_criterion
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.self_evaluation.loading import ASK, READ, load_evaluator
from rain_decoding.self_evaluation.question_forms import in_form
from rain_decoding.self_evaluation.rendering import Renderer

JUDGES = (f":{ASK}", f":{READ}")
"""What may stand behind a preset: how it judges. Without it, it asks."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """`few_shot` takes the built-in criterion with its examples in place of a model's own short form; `form` is that of
    the question, as in `question_forms` (None: the criterion's own); `bad_rate` in [0, 1] draws the scores of judges
    that ask, by `seed` (None: they are the model's own).
    """

    few_shot: bool = False
    form: str | None = None
    bad_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bad_rate is not None and not 0 <= self.bad_rate <= 1:
            raise InputError(f"bad_rate = {self.bad_rate}", hint="use a number from 0 to 1")

    def decoder(self, name: str, backend: Backend) -> RainDecoder:
        """RAIN with a preset, behind whose name may stand how it judges. Raises `ConfigError` where the criterion does
        not fit into the context."""
        preset, colon, judge = name.partition(":")
        config = SearchConfig.preset(preset)
        criterion = self.criterion(config.criterion, backend)
        decoder = RainDecoder(backend, criterion, config, judge=judge if colon else ASK)
        return decoder.judged_by(self._drawn(decoder.evaluator)) if judge in ("", ASK) else decoder

    def guard(self, backend: Backend) -> CritiqueDecoder:
        """A guard that watches a buffer, and asks as RAIN's preset `balanced` does."""
        config = SearchConfig.preset("balanced")
        criterion = self.criterion(config.criterion, backend)
        evaluator = load_evaluator(
            backend,
            criterion,
            votes=config.votes,
            min_label_mass=config.min_label_mass,
            order_margin=config.order_margin,
        )
        return CritiqueDecoder(backend, self._drawn(evaluator), guide=criterion)

    def _drawn(self, evaluator: Evaluator) -> Evaluator:
        return evaluator if self.bad_rate is None else DrawnEvaluator(evaluator, self.bad_rate, self.seed)

    def criterion(self, name: str, backend: Backend) -> Criterion:
        """The criterion of this name, as these options have it asked."""
        criterion = load_criterion(name, search_dirs=() if self.few_shot else backend.criteria_dirs)
        if self.form is not None:
            criterion = replace(in_form(criterion, self.form, backend.codec), suffix_as_good=False)
        renderer = Renderer(criterion, backend.codec)
        needed = len(renderer.encode(renderer.judge_prompt("", criterion.orders[0])))
        if criterion.placement == "prefix" and needed >= backend.context_length:
            raise ConfigError(
                f"the criterion {name!r} needs {needed} tokens besides the conversation, and "
                f"{backend.name} has a context of {backend.context_length}",
                hint="omit --few-shot, or use --model random",
            )
        return criterion
