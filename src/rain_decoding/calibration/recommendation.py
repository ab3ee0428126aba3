"""What follows from a calibration: how to let the model judge, and whether its judgement is worth anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np

from rain_decoding.calibration.figures import VOTES, position_biases
from rain_decoding.calibration.judging import JudgedAnswer
from rain_decoding.calibration.saved import Recommendation, Verdict
from rain_decoding.calibration.scores import Scores, is_scored, scores_of
from rain_decoding.measurement.statistics import Estimate, paired_difference, surely_below
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Votes, log_odds

MARGIN = 0.03
"""A cheaper form of the question is taken where it is surely right on at most this share of the answers less."""
WORTH = 0.01
"""Other votes than the default are taken where they surely gain more than this."""
FOLDS = 5
"""Parts of the answers; a threshold is tried on each after it was chosen on the others."""
USEFUL = 0.6
"""A judge whose balanced accuracy is surely below this, and not surely above 0.5, is called chance."""
DEFAULT_VOTES: Votes = "debiased"

ByForm = Mapping[str, Sequence[JudgedAnswer]]
"""The same answers, whole and cut, in the same order by form; the cheapest form last."""


def recommend(
    criterion: Criterion,
    judged: ByForm,
    *,
    min_label_mass: float,
    votes: Votes | None = None,
    seed: int = 0,
) -> Recommendation:
    """How to judge. `votes` None chooses these, too. Raises ValueError without both good and bad whole answers."""
    by_form = {
        form: fit(scores_of(own, votes or DEFAULT_VOTES, min_label_mass), seed)
        for form, own in judged.items()
    }
    form, why_so_asked = _form(criterion, by_form)
    chosen = judged[form]
    kinds = (votes,) if votes else VOTES
    fits = {kind: fit(scores_of(chosen, kind, min_label_mass), seed) for kind in kinds}
    kind, why_so = (votes, "as asked for") if votes else _votes(fits)
    mass, why_mass = _label_mass(chosen)
    margin, why_margin = _order_margin([one for one in chosen if is_scored(one.judgement, min_label_mass)])
    return Recommendation(
        form,
        kind,
        fits[kind].threshold,
        mass,
        margin,
        {
            "form": why_so_asked,
            "votes": why_so,
            "accept_value": fits[kind].reason,
            "min_label_mass": why_mass,
            "order_margin": why_margin,
        },
    )


def verdict(scores: Scores, right: np.ndarray) -> tuple[Verdict, str]:
    """Whether these scores, and what is right by them, beat a coin, and why it is said so.

    better: balanced accuracy and the area under the ROC curve both surely lie above 0.5.
    chance: one of them does not, and the accuracy surely lies below `USEFUL`. Else undecided.
    """
    accuracy, area = scores.balanced(right), scores.area()
    assert accuracy is not None and area is not None
    found = f"balanced accuracy {_percent(accuracy)}, AUC {_plain(area)}"
    if accuracy.low > 0.5 and area.low > 0.5:
        return "better", found
    if area.high < 0.5:
        return "chance", f"{found}: worse than a coin; are the labels swapped?"
    if accuracy.high < USEFUL:
        return "chance", found
    return "undecided", f"{found}: use more examples"


@dataclass(frozen=True, slots=True)
class Fit:
    """The threshold for some scores, why it was taken, and what is `right` with it: each answer by a threshold that
    was chosen without it."""

    scores: Scores
    threshold: float
    reason: str
    right: np.ndarray

    @property
    def balanced(self) -> float:
        """Balanced accuracy in [0, 1]."""
        return float(np.mean(self.scores.weights() * self.right))


def fit(scores: Scores, seed: int) -> Fit:
    """The threshold with the best balanced accuracy, if it gains something on answers it was not chosen on; else 0.

    The gain over 0 is measured by cross-fitting, since on the answers it was chosen on any threshold looks good.
    """
    at_zero, best = scores.right(0.0), scores.best_threshold()
    if best == 0:
        return Fit(scores, 0.0, "0 has the best balanced accuracy", at_zero)
    fold_of, right = _folds(scores.groups, seed), at_zero.copy()
    for fold in range(FOLDS):
        own, rest = fold_of == fold, scores.part(fold_of != fold)
        if rest.good.any() and not rest.good.all():
            right[own] = scores.part(own).right(rest.best_threshold())
    gain = _gain(scores, right, at_zero)
    if gain is None or gain.low <= 0:
        return Fit(scores, 0.0, f"{best:.3g} gains no more than noise over 0 on other answers", at_zero)
    reason = f"gains {_points(gain)} points of balanced accuracy over 0 on other answers"
    return Fit(scores, round(best, 6), reason, right)


def _form(criterion: Criterion, fits: Mapping[str, Fit]) -> tuple[str, str]:
    """The cheapest form that is about as good as the best; `fits` has the cheapest last."""
    own = criterion.placement if criterion.placement in fits else next(iter(fits))
    best = max(fits, key=lambda form: (fits[form].balanced, form == own))
    found = "; ".join(f"{form} {fits[form].balanced:.1%}" for form in fits)
    for form in reversed(list(fits)):
        loss = _gain(fits[best].scores, fits[best].right, fits[form].right)
        if form != best and loss is not None and surely_below(loss, MARGIN):
            return (
                form,
                f"balanced accuracy {found}; surely at most {100 * MARGIN:g} points below {best}, and cheaper",
            )
    loss = _gain(fits[best].scores, fits[best].right, fits[own].right)
    if own != best and loss is not None and loss.low <= 0:
        return own, f"balanced accuracy {found}; the criterion's own is not shown to be worse than {best}"
    return best, f"balanced accuracy {found}: the best"


def nested(fits: Mapping[str, Fit], seed: int) -> tuple[Scores, np.ndarray]:
    """Scores, and what is right, of each answer by the form that is best on the other answers."""
    first = next(iter(fits.values())).scores
    fold_of = _folds(first.groups, seed)
    values, right, weights = first.values.copy(), np.zeros(len(first), dtype=bool), first.weights()
    for fold in range(FOLDS):
        own, rest = fold_of == fold, fold_of != fold
        best = max(fits.values(), key=lambda each: float((weights * each.right)[rest].sum()))
        values[own], right[own] = best.scores.values[own] - best.threshold, best.right[own]
    return Scores(values, first.good, first.groups), right


def _folds(groups: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each answer, in [0, `FOLDS`), drawn by `seed`; those of a group are in one."""
    names = np.unique(groups)
    folds = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    return np.asarray(folds[np.searchsorted(names, groups)])


def _votes(fits: Mapping[Votes, Fit]) -> tuple[Votes, str]:
    """The finest votes without a preference for a label, unless others are surely right more often."""
    default = fits[DEFAULT_VOTES]
    for votes, other in fits.items():
        gain = _gain(default.scores, other.right, default.right)
        if gain is not None and gain.low > WORTH:
            return votes, f"balanced accuracy better than with {DEFAULT_VOTES} by {_points(gain)} points"
    return DEFAULT_VOTES, "no other votes are surely better by more than a point"


def _gain(scores: Scores, ours: np.ndarray, theirs: np.ndarray) -> Estimate | None:
    """How much balanced accuracy `ours` has more than `theirs`; arrays of what is right of the same answers."""
    weights = scores.weights()
    return paired_difference((weights * ours).tolist(), (weights * theirs).tolist(), scores.groups.tolist())


def _label_mass(judged: Sequence[JudgedAnswer]) -> tuple[float, str]:
    """A tenth of what the labels hold at least in 95 of 100 judgements: less means that something else was said."""
    masses = [min(one.judgement.label_mass) for one in judged if one.judgement.label_mass]
    usual = float(np.percentile(masses, 5)) if masses else 0.0
    return _floor(usual / 10), f"a tenth of the label mass that 95% of the judgements reach, {usual:.3g}"


def _floor(value: float) -> float:
    """The value rounded down to one significant digit."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** floor(log10(value))
    return float(f"{floor(value / unit) * unit:.1g}")


def _order_margin(scored: Sequence[JudgedAnswer]) -> tuple[float | None, str]:
    """The position bias that 95% of the judgements stay below, in nats.

    Log-odds of one order are the evidence and the bias; where they lie beyond the bias, the other order cannot
    turn the verdict. See `SearchConfig.order_margin`.
    """
    biases = position_biases(scored)
    if not len(biases):
        return None, "one order is asked"
    margin = float(f"{np.percentile(np.abs(biases), 95):.2g}")
    last = np.array([log_odds(one.judgement.probabilities[-1]) for one in scored])
    both = np.array([log_odds(one.judgement.probabilities[0]) for one in scored]) + last
    alone = last > margin
    turned = alone & (both <= 0)
    return margin, (
        f"95% of the position biases are smaller; the other order would be left out of {alone.mean():.0%} of the "
        f"judgements, and {turned.mean():.1%} of the verdicts would change"
    )


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def _plain(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"
