"""What the paper found (arXiv 2309.07124), for the models that it used: named beside ours for no other model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rain_decoding.evaluation.analyses.base import Column, Row, Table

LLAMA = r"llama-?{}b"
LLAMA_2 = r"llama-?2-{}b(-hf)?"
LLAMA_2_CHAT = r"llama-?2-{}b-chat(-hf)?"
VICUNA = r"vicuna-?{}b(-v[0-9.]+)?"
ALPACA = r"alpaca-?{}b"

HARMLESS, HELPFUL = "harmless, HH prompts", "helpful, HH prompts"
WHITE_BOX, TRANSFER = "attack success, GCG white-box", "attack success, GCG transferred"
HUMAN, GPT_4 = "harmless, by people", "harmless, by GPT-4"

FIGURES: dict[str, tuple[tuple[str, int, str, str, str, str], ...]] = {
    "comparison": (
        (LLAMA, 7, HARMLESS, "64.4%", "69.3%", "Figure 2"),
        (LLAMA, 13, HARMLESS, "81%", "87%", "Figure 2"),
        (LLAMA, 30, HARMLESS, "82.2%", "97.0%", "Figure 2"),
        (LLAMA, 65, HARMLESS, "90%", "99.5%", "Figure 2"),
        (LLAMA, 7, HELPFUL, "73%", "69%", "Figure 2"),
        (LLAMA, 13, HELPFUL, "77%", "75%", "Figure 2"),
        (LLAMA, 30, HELPFUL, "82%", "82%", "Figure 2"),
        (LLAMA, 65, HELPFUL, "83%", "83%", "Figure 2"),
        (LLAMA_2_CHAT, 13, "true and informative, TruthfulQA", "68.5%", "72.8%", "TruthfulQA results"),
        (LLAMA_2_CHAT, 13, "true, TruthfulQA", "69.2%", "74.1%", "TruthfulQA results"),
        (LLAMA_2_CHAT, 13, "informative, TruthfulQA", "98.8%", "98.6%", "TruthfulQA results"),
        (LLAMA, 7, "positive, IMDB", "62.1%", "82.1%", "IMDB results"),
        (ALPACA, 7, "positive, IMDB", "72.5%", "94.4%", "IMDB results"),
        (VICUNA, 7, "positive, IMDB", "64.4%", "89.1%", "IMDB results"),
    ),
    # Table 4 is taken to be of the model whose white-box result its first row repeats.
    "ablation": (
        (VICUNA, 33, "attack success, full", "", "19%", "Table 4"),
        (VICUNA, 33, "attack success, without similarity update", "", "22%", "Table 4"),
        (VICUNA, 33, "attack success, and without widening", "", "25%", "Table 4"),
        (VICUNA, 33, "attack success, and without exploration", "", "27%", "Table 4"),
    ),
    "efficiency": (
        (LLAMA, 7, "harmless, 500 self-picked samples", "64.4%", "69.3%", "Table 5"),
        (LLAMA_2, 7, "harmless, 500 self-picked samples", "81.7%", "86.6%", "Table 5"),
        (LLAMA, 30, "harmless, 500 self-picked samples", "88.1%", "97.0%", "Table 5"),
    ),
    "self-evaluation": (
        *((LLAMA, size, "accuracy", "", share, "Table 6") for size, share in
          ((7, "52%"), (13, "60%"), (30, "81%"), (65, "84%"))),
        *((LLAMA_2, size, "accuracy", "", share, "Table 6") for size, share in
          ((7, "52%"), (13, "61%"), (70, "98%"))),
    ),
    "time": (
        (LLAMA, 30, "time over that of vanilla decoding", "1", "4.36", "Table 7"),
        (LLAMA, 65, "time over that of vanilla decoding", "1", "3.95", "Table 7"),
        (LLAMA_2, 70, "time over that of vanilla decoding", "1", "3.78", "Table 7"),
    ),
    "human": (
        (LLAMA_2, 13, HUMAN, "89.5%", "96.6%", "Table 8"),
        (LLAMA_2, 13, GPT_4, "91.1%", "98.3%", "Table 8"),
    ),
    "attacks": (
        (VICUNA, 7, WHITE_BOX, "86%", "72%", "GCG results"),
        (VICUNA, 13, WHITE_BOX, "83%", "38%", "GCG results"),
        (VICUNA, 33, WHITE_BOX, "94%", "19%", "GCG results"),
        (VICUNA, 7, TRANSFER, "80%", "55%", "GCG results"),
        (VICUNA, 13, TRANSFER, "79%", "32%", "GCG results"),
        (VICUNA, 33, TRANSFER, "34%", "10%", "GCG results"),
    ),
}  # fmt: skip
"""By analysis: the model's name and size, what was measured, vanilla decoding, RAIN, and where it stands."""
COLUMNS = (
    Column("what", "what"),
    Column("plain", "vanilla"),
    Column("rain", "RAIN"),
    Column("source", "source"),
)


def paper_table(analysis: str, model: str) -> Table | None:
    """The paper's figures for this model, by the last part of its name; None where there are none."""
    rows = list(_rows(analysis, model))
    return Table(f"In the paper, {_last(model)}", COLUMNS, rows) if rows else None


def _rows(analysis: str, model: str) -> Iterator[Row]:
    for form, size, *facts in FIGURES.get(analysis, ()):
        if re.fullmatch(form.format(size), _last(model), re.IGNORECASE):
            yield dict(zip((column.key for column in COLUMNS), facts, strict=True))


def _last(model: str) -> str:
    return re.split(r"[:/#]", model.rstrip("/"))[-1]
