"""The paper's analyses, each of which is an experiment and what it finds in the records; and their registry."""

from __future__ import annotations

from rain_decoding.evaluation.analyses import (
    ablation,
    attacks,
    comparison,
    efficiency,
    human,
    judging,
    noise,
    time,
)
from rain_decoding.evaluation.analyses.base import Analysis, Column, Experiment, Findings, Part, Table

ANALYSES: dict[str, Analysis] = {
    module.ANALYSIS.name: module.ANALYSIS
    for module in (comparison, ablation, efficiency, judging, time, human, noise, attacks)
}

__all__ = ["ANALYSES", "Analysis", "Column", "Experiment", "Findings", "Part", "Table"]
