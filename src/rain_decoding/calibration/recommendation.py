"""What follows from a calibration: how to let the model judge, and whether its judgement is worth anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np

from rain_decoding.calibration.figures import VOTES, position_biases
from rain_decoding.calibration.judging import Judged
from rain_decoding.calibration.saved import Recommendation, Verdict
from rain_decoding.calibration.scores import Scores, is_scored, scores_of
from rain_decoding.measurement.statistics import Estimate, paired_difference, surely_below
from rain_decoding.self_evaluation.criterion import Criterion, Placement
from rain_decoding.self_evaluation.evaluator import Votes, log_odds

MARGIN = 0.03
"""The cheaper placement is taken where it is right on at most this share of the answers less."""
WORTH = 0.01
"""Other votes than the default are taken where they surely gain more than this."""
FOLDS = 5
"""Parts of the answers; a threshold is tried on each after it was chosen on the others."""
USEFUL = 0.6
"""A judge whose balanced accuracy is surely below this, and not surely above 0.5, is called chance."""
DEFAULT_VOTES: Votes = "debiased"

ByPlacement = Mapping[Placement, Sequence[Judged]]


def recommend(
    criterion: Criterion,
    judged: ByPlacement,
    *,
    min_label_mass: float,
    votes: Votes | None = None,
    seed: int = 0,
) -> Recommendation:
    """How to judge. `judged` has the same answers, whole and cut, in the same order by placement; `votes` None
    chooses these, too.

    Raises ValueError without both good and bad whole answers.
    """
    placement, why_there = _placement(criterion, judged, votes or DEFAULT_VOTES, min_label_mass, seed)
    chosen = judged[placement]
    kinds = (votes,) if votes else VOTES
    fits = {kind: fit(scores_of(chosen, kind, min_label_mass), seed) for kind in kinds}
    kind, why_so = (votes, "as asked for") if votes else _votes(fits)
    mass, why_mass = _label_mass(chosen)
    margin, why_margin = _order_margin([one for one in chosen if is_scored(one.judgement, min_label_mass)])
    return Recommendation(
        placement,
        kind,
        fits[kind].threshold,
        mass,
        margin,
        {
            "placement": why_there,
            "votes": why_so,
            "accept_value": fits[kind].reason,
            "min_label_mass": why_mass,
            "order_margin": why_margin,
        },
    )


def verdict(scores: Scores, threshold: float) -> tuple[Verdict, str]:
    """Whether these scores beat a coin, and why it is said so.

    better: balanced accuracy at the threshold and the area under the ROC curve both surely lie above 0.5.
    chance: one of them does not, and the accuracy surely lies below `USEFUL`. Else undecided.
    """
    accuracy, area = scores.balanced_accuracy(threshold), scores.area()
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


def fit(scores: Scores, seed: int) -> Fit:
    """The threshold with the best balanced accuracy, if it gains something on answers it was not chosen on; else 0.

    The gain over 0 is measured by cross-fitting, since on the answers it was chosen on any threshold looks good.
    """
    at_zero, best = scores.right(0.0), scores.best_threshold()
    if best == 0:
        return Fit(scores, 0.0, "0 has the best balanced accuracy", at_zero)
    groups = np.unique(scores.groups)
    folds = np.random.default_rng(seed).permutation(len(groups)) % FOLDS
    fold_of = folds[np.searchsorted(groups, scores.groups)]
    right = at_zero.copy()
    for fold in range(FOLDS):
        own, rest = fold_of == fold, scores.part(fold_of != fold)
        if rest.good.any() and not rest.good.all():
            right[own] = scores.part(own).right(rest.best_threshold())
    gain = _gain(scores, right, at_zero)
    if gain is None or gain.low <= 0:
        return Fit(scores, 0.0, f"{best:.3g} gains no more than noise over 0 on other answers", at_zero)
    reason = f"gains {_points(gain)} points of balanced accuracy over 0 on other answers"
    return Fit(scores, round(best, 6), reason, right)


def _placement(
    criterion: Criterion, judged: ByPlacement, votes: Votes, min_label_mass: float, seed: int
) -> tuple[Placement, str]:
    """The suffix, which costs less, where it is about as good; else what the criterion has, if not worse."""
    prefix, suffix = (
        fit(scores_of(judged[place], votes, min_label_mass), seed) for place in ("prefix", "suffix")
    )
    loss = _gain(prefix.scores, prefix.right, suffix.right)
    assert loss is not None
    found = f"balanced accuracy of the prefix minus that of the suffix: {_points(loss)} points"
    if surely_below(loss, MARGIN):
        return "suffix", f"{found}, surely at most {100 * MARGIN:g}, and the suffix costs less"
    if criterion.placement == "suffix" and loss.low <= 0:
        return "suffix", f"{found}: not shown to be worse, and the criterion's own"
    return "prefix", f"{found}: the suffix is not shown to be as good"


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


def _label_mass(judged: Sequence[Judged]) -> tuple[float, str]:
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


def _order_margin(scored: Sequence[Judged]) -> tuple[float | None, str]:
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
