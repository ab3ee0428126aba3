"""The control of every reading figure: what the words of prompt and answer alone tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from rain_decoding.self_evaluation.reading.examples import ReadingExample


class Words:
    """TF-IDF of words (one and two) and characters (two to five), and a logistic regression on them."""

    def __init__(self, examples: Sequence[ReadingExample]):
        features = FeatureUnion(
            [
                (
                    "words",
                    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
                ),
                ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)),
            ]
        )
        regression = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
        self._model: Pipeline = make_pipeline(features, regression)
        self._model.fit([_text(example) for example in examples], [example.good for example in examples])

    def log_odds(self, examples: Sequence[ReadingExample]) -> np.ndarray:
        """Log-odds in nats that each answer is good, float64 `[examples]`."""
        return np.asarray(self._model.decision_function([_text(example) for example in examples]))


def _text(example: ReadingExample) -> str:
    return "\n".join([*(message.content for message in example.messages), example.answer])
