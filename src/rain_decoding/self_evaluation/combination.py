"""Several criteria at once: the least score, a weighted mean, or thresholds and an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rain_decoding.errors import CriterionError
from rain_decoding.programs import Launch, gather
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator, Judging
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.types import Judgement, Tokens

Rule = Literal["min", "mean", "thresholds"]

CLEAR = 0.05
"""A combination by thresholds that holds scores at least this, one that fails at most this below 0."""


@dataclass(frozen=True, slots=True)
class Part:
    """One criterion of several. `weight` > 0 counts in a mean; a score above `threshold` in [-1, 1) holds.

    The objective of a combination by thresholds is the part without a threshold. `name` is the evaluator's if empty.
    """

    evaluator: Evaluator
    weight: float = 1.0
    threshold: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.evaluator.name)


class Combined:
    """Judges by several criteria; their judge prompts run together.

    `rule`: "min", the least score; "mean", weighted; "thresholds": every part with a threshold must score
    above it, and as long as all do, the part without one decides. Such a score is below 0 where a threshold is
    missed, by the largest shortfall, and above 0 where none is. All scores are in [-1, 1]. Where one part is
    unscored, the whole is. Raises `CriterionError` for parts that do not fit the rule.
    """

    def __init__(self, rule: Rule, parts: Sequence[Part], name: str = ""):
        self.rule, self.parts = rule, tuple(parts)
        self.name = name or f"{rule}({', '.join(part.name for part in parts)})"
        self._check()

    def _check(self) -> None:
        names = [part.name for part in self.parts]
        if self.rule not in _RULES or not names:
            raise CriterionError(
                f"{self.name}: a combination needs a rule and parts", hint=f"rules: {', '.join(_RULES)}"
            )
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise CriterionError(f"{self.name}: {twice!r} is named twice", hint="name each criterion once")
        if not all(part.weight > 0 for part in self.parts):
            raise CriterionError(
                f"{self.name}: a weight is not above 0", hint="use a weight above 0, or leave the part out"
            )
        bounds = [part.threshold for part in self.parts if part.threshold is not None]
        if not all(-1 <= bound < 1 for bound in bounds):
            raise CriterionError(f"{self.name}: a threshold is not in [-1, 1)", hint="scores lie in [-1, 1]")
        if self.rule == "thresholds" and not len(self.parts) - 1 <= len(bounds):
            raise CriterionError(
                f"{self.name}: {len(self.parts) - len(bounds)} parts have no threshold",
                hint="leave at most one without a threshold: the objective",
            )
        if self.rule != "thresholds" and bounds:
            raise CriterionError(f"{self.name}: {self.rule} does not take thresholds")

    @property
    def doubt(self) -> str:
        """Why the parts are not to be trusted, those that are not; empty where all are."""
        return "; ".join(filter(None, (getattr(part.evaluator, "doubt", "") for part in self.parts)))

    def conversation(self, prompt: Prompt) -> CombinedJudge:
        """A judge for answers to one prompt."""
        return CombinedJudge(self, prompt)

    def score(self, scores: Mapping[str, float]) -> float:
        """The score of the whole from those of all parts by name."""
        return _RULES[self.rule](self.parts, [scores[part.name] for part in self.parts])


def _least(parts: Sequence[Part], scores: Sequence[float]) -> float:
    return min(scores)


def _mean(parts: Sequence[Part], scores: Sequence[float]) -> float:
    weights = [part.weight for part in parts]
    return sum(weight * score for weight, score in zip(weights, scores, strict=True)) / sum(weights)


def _thresholds(parts: Sequence[Part], scores: Sequence[float]) -> float:
    """Shortfall and objective, each scaled to [0, 1], on either side of 0."""
    bounded = [(s, p.threshold) for p, s in zip(parts, scores, strict=True) if p.threshold is not None]
    missed = [
        (bound - score) / (bound + 1) if bound > -1 else 0.0 for score, bound in bounded if score <= bound
    ]
    if missed:
        return -_clear(max(missed))
    free = [score for part, score in zip(parts, scores, strict=True) if part.threshold is None]
    if free:
        return _clear((1 + free[0]) / 2)
    return _clear(min((score - bound) / (1 - bound) for score, bound in bounded))


def _clear(share: float) -> float:
    return CLEAR + (1 - CLEAR) * share


_RULES: dict[str, Callable[[Sequence[Part], Sequence[float]], float]] = {
    "min": _least,
    "mean": _mean,
    "thresholds": _thresholds,
}


class CombinedJudge(ConversationEvaluator):
    """Has an answer judged by all parts at the same time."""

    def __init__(self, combined: Combined, prompt: Prompt):
        self.combined = combined
        self.judges = {part.name: part.evaluator.conversation(prompt) for part in combined.parts}
        self._prompt = prompt
        self.warnings: list[str] = []

    @property
    def prompt(self) -> Prompt:
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        self._prompt = prompt
        for judge in self.judges.values():
            judge.prompt = prompt

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        judgements = yield from gather(Launch(judge.judge(answer, tokens)) for judge in self.judges.values())
        self.warnings[:] = [text for judge in self.judges.values() for text in judge.warnings]
        return self._combine(dict(zip(self.judges, judgements, strict=True)))

    def _combine(self, judgements: Mapping[str, Judgement]) -> Judgement:
        scores = {name: judgement.score for name, judgement in judgements.items()}
        scored = {name: score for name, score in scores.items() if score is not None}
        problems = [f"{name}: {judgements[name].problem}" for name in scores if name not in scored]
        for judgement in judgements.values():
            scores |= judgement.parts
        return Judgement(
            None if problems else self.combined.score(scored),
            next(iter(judgements.values())).text,
            problem="; ".join(problems),
            remembered=all(judgement.remembered for judgement in judgements.values()),
            escalated=any(judgement.escalated for judgement in judgements.values()),
            unreached=any(judgement.unreached for judgement in judgements.values()),
            parts=scores,
            harmful=max(judgement.harmful for judgement in judgements.values()),
        )

    @property
    def guidance(self) -> Guidance | None:
        """That of all parts: every principle, and the first one's words."""
        parts = [judge.guidance for judge in self.judges.values() if judge.guidance is not None]
        if not parts:
            return None
        return replace(parts[0], principle=" ".join(part.principle for part in parts))

    @property
    def question_tokens(self) -> int:
        return sum(judge.question_tokens for judge in self.judges.values())

    def held(self, answer: str) -> list[Tokens]:
        return [tokens for judge in self.judges.values() for tokens in judge.held(answer)]

    def retain(self, answer: str) -> None:
        for judge in self.judges.values():
            judge.retain(answer)

    def close(self) -> None:
        for judge in self.judges.values():
            judge.close()
