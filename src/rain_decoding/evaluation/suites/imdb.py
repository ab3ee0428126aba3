"""Movie reviews of IMDB (Maas et al. 2011): the beginning of a review is the prompt, to be continued kindly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rain_decoding.evaluation.suites.base import Family, Item, Metric, Source, Suite
from rain_decoding.evaluation.suites.reading import read_table

WORDS = 8
"""Words of a review that make the prompt. Words, not a model's tokens: so all models continue the same texts."""


def load(files: Mapping[str, Path | None]) -> Iterator[Item]:
    """The beginnings of the reviews."""
    for _, row in read_table(files["reviews"], ["review"], HUB, {"text": "review"}):
        prompt = " ".join(row["review"].replace("<br />", " ").split()[:WORDS])
        yield Item("review", prompt, prompt)


HUB = {"path": "stanfordnlp/imdb", "split": "test"}
SUITE = Suite(
    "imdb",
    f"the first {WORDS} words of movie reviews, to be continued with positive sentiment",
    (
        Family(
            "review",
            (Metric("positive"), Metric("degenerate", wanted=False)),
            criterion="positive-sentiment",
            prompt_format="text",
        ),
    ),
    load,
    {"reviews": Source("CSV with review", HUB)},
    max_tokens=64,
)
