"""From judged answers to a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rain_decoding.backends.base import Backend
from rain_decoding.calibration.figures import placement_figures
from rain_decoding.calibration.judging import Judged
from rain_decoding.calibration.labelled import LabelledAnswer, check_labels
from rain_decoding.calibration.recommendation import recommend, verdict
from rain_decoding.calibration.saved import Calibration, criterion_hash
from rain_decoding.calibration.scores import scores_of
from rain_decoding.self_evaluation.criterion import Criterion, Placement
from rain_decoding.self_evaluation.evaluator import Votes


def summarise(
    backend: Backend,
    criterion: Criterion,
    judged: Iterable[Judged],
    *,
    min_label_mass: float,
    votes: Votes | None = None,
    seed: int = 0,
    source: str = "",
) -> Calibration:
    """Figures, recommendation and verdict. What was not judged in every placement is left out.

    Raises `InputError` without good and bad answers.
    """
    by_placement = _complete(judged)
    answers = [one.answer for one in next(iter(by_placement.values()), [])]
    check_labels(criterion, answers)
    chosen = recommend(criterion, by_placement, min_label_mass=min_label_mass, votes=votes, seed=seed)
    whole = [one for one in by_placement[chosen.placement] if not one.answer.cut]
    found, reason = verdict(scores_of(whole, chosen.votes, min_label_mass), chosen.accept_value)
    return Calibration(
        model=backend.name,
        criterion=criterion.name,
        criterion_hash=criterion_hash(criterion),
        source=source,
        seed=seed,
        min_label_mass=min_label_mass,
        counts=_counts(answers),
        figures={
            placement: placement_figures(backend.codec, criterion, own, min_label_mass)
            for placement, own in by_placement.items()
        },
        recommendation=chosen,
        verdict=found,
        reason=reason,
    )


def _complete(judged: Iterable[Judged]) -> dict[Placement, list[Judged]]:
    """By placement, in the order of the answers, what was judged in all of them."""
    found: dict[Placement, dict[int, Judged]] = {}
    for one in judged:
        found.setdefault(one.placement, {})[one.index] = one
    common = sorted(set.intersection(*(set(own) for own in found.values()))) if found else []
    return {placement: [own[index] for index in common] for placement, own in found.items()}


def _counts(answers: Sequence[LabelledAnswer]) -> dict[str, int]:
    """Of whole answers, and how many cut ones there are beside them."""
    whole = [answer for answer in answers if not answer.cut]
    labels = {
        label: sum(answer.label == label for answer in whole) for label in ("positive", "negative", "neutral")
    }
    return {"answers": len(whole), **labels, "cut": len(answers) - len(whole)}
