"""From judged answers to a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rain_decoding.backends.base import Backend
from rain_decoding.calibration.figures import form_figures
from rain_decoding.calibration.judging import JudgedAnswer
from rain_decoding.calibration.labelled import LabelledAnswer, check_labels
from rain_decoding.calibration.recommendation import fit, nested, recommend, verdict
from rain_decoding.calibration.saved import Calibration, criterion_hash
from rain_decoding.calibration.scores import scores_of
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Votes
from rain_decoding.self_evaluation.question_forms import in_form


def summarise(
    backend: Backend,
    criterion: Criterion,
    judged: Iterable[JudgedAnswer],
    *,
    min_label_mass: float,
    votes: Votes | None = None,
    seed: int = 0,
    source: str = "",
) -> Calibration:
    """Figures, recommendation and verdict. What was not judged by every form is left out.

    The verdict is of answers for which form and threshold were chosen without them. Raises `InputError` without good
    and bad answers.
    """
    by_form = _complete(judged)
    answers = [one.answer for one in next(iter(by_form.values()), [])]
    check_labels(criterion, answers)
    asked = {form: in_form(criterion, form, backend.codec) for form in by_form}
    figures = {
        form: form_figures(backend.codec, asked[form], own, min_label_mass) for form, own in by_form.items()
    }
    by_cost = sorted(by_form, key=lambda form: -(figures[form]["tokens_per_judgement"] or 0))
    chosen = recommend(
        criterion,
        {form: by_form[form] for form in by_cost},
        min_label_mass=min_label_mass,
        votes=votes,
        seed=seed,
    )
    whole = {form: [one for one in own if not one.answer.cut] for form, own in by_form.items()}
    fits = {form: fit(scores_of(own, chosen.votes, min_label_mass), seed) for form, own in whole.items()}
    found, reason = verdict(*nested(fits, seed))
    return Calibration(
        model=backend.name,
        criterion=criterion.name,
        criterion_hash=criterion_hash(criterion),
        source=source,
        seed=seed,
        min_label_mass=min_label_mass,
        counts=_counts(answers),
        figures=figures,
        recommendation=chosen,
        verdict=found,
        reason=reason,
    )


def _complete(judged: Iterable[JudgedAnswer]) -> dict[str, list[JudgedAnswer]]:
    """By form, in the order of the answers, what was judged by all of them."""
    found: dict[str, dict[int, JudgedAnswer]] = {}
    for one in judged:
        found.setdefault(one.form, {})[one.index] = one
    common = sorted(set.intersection(*(set(own) for own in found.values()))) if found else []
    return {form: [own[index] for index in common] for form, own in found.items()}


def _counts(answers: Sequence[LabelledAnswer]) -> dict[str, int]:
    """Of whole answers, and how many cut ones there are beside them."""
    whole = [answer for answer in answers if not answer.cut]
    labels = {
        label: sum(answer.label == label for answer in whole) for label in ("positive", "negative", "neutral")
    }
    return {"answers": len(whole), **labels, "cut": len(answers) - len(whole)}
