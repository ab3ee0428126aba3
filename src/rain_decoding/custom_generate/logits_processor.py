"""The logits processors and stopping criteria of a `generate` call, for one prompt of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.generation import logits_process, stopping_criteria

from rain_decoding.errors import NumericalError, UnsupportedError
from rain_decoding.types import Tokens

KNOWS_ITS_ROW = (
    logits_process.RepetitionPenaltyLogitsProcessor,
    logits_process.EncoderRepetitionPenaltyLogitsProcessor,
    logits_process.EncoderNoRepeatNGramLogitsProcessor,
    logits_process.PrefixConstrainedLogitsProcessor,
)
"""Processors of transformers that treat the rows of a batch differently."""

FOLLOWS_ONE_TEXT = (
    logits_process.UnbatchedClassifierFreeGuidanceLogitsProcessor,
    logits_process.ClassifierFreeGuidanceLogitsProcessor,
    logits_process.SynthIDTextWatermarkLogitsProcessor,
)
"""Processors that remember the text from call to call, which a search with many branches cannot feed."""


class RowLogitsProcessor:
    """Implements `backends.base.Steering` for row `row` of a batch of `batch` prompts.

    Processors and criteria get the whole `input_ids` of a branch, padded on the left as generate's are. Those that
    may depend on the place in the batch get a batch in which every row is that branch, and their own row counts.
    """

    def __init__(
        self,
        row: int,
        batch: int,
        padding: Tokens,
        processors: Sequence[Any],
        criteria: Sequence[Any],
        device: torch.device,
    ):
        for processor in processors:
            if isinstance(processor, FOLLOWS_ONE_TEXT):
                raise UnsupportedError(
                    f"{type(processor).__name__} needs a single growing text, and RAIN searches over many",
                    hint="omit guidance_scale and SynthID watermarks",
                )
        self.row, self.batch, self.padding, self.device = row, batch, padding, device
        self.processors = list(processors)
        self.criteria = [criterion for criterion in criteria if not _is_known(criterion)]

    def scores(self, sequences: Sequence[Tokens], logits: np.ndarray) -> np.ndarray:
        """The processed logits."""
        if not self.processors:
            return logits
        ids = self._input_ids(sequences)
        scores = torch.from_numpy(logits).to(self.device)
        for processor in self.processors:
            if _is_alike_for_rows(processor):
                scores = processor(ids, scores)
            else:
                rows = range(len(sequences))
                scores = torch.cat([self._own(processor, ids[[r]], scores[[r]]) for r in rows])
        processed = scores.float().cpu().numpy()
        if not np.isfinite(processed.max(axis=1)).all():
            raise NumericalError(
                "the logits processors rule out every token", hint="check which tokens they ban"
            )
        return processed

    def ended(self, sequence: Tokens) -> bool:
        """Whether one of the criteria stops the text."""
        if not self.criteria:
            return False
        ids = self._input_ids([sequence]).repeat(self.batch, 1)
        return any(self._stops(criterion, ids) for criterion in self.criteria)

    def _stops(self, criterion: Any, ids: torch.Tensor) -> bool:
        stopped = criterion(ids, None)
        return bool(stopped[self.row] if isinstance(stopped, torch.Tensor) and stopped.ndim else stopped)

    def _own(self, processor: Any, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """What a processor makes of one branch in its prompt's row."""
        processed = processor(ids.repeat(self.batch, 1), scores.repeat(self.batch, 1))
        return processed[self.row : self.row + 1]

    def _input_ids(self, sequences: Sequence[Tokens]) -> torch.Tensor:
        return torch.tensor([self.padding + sequence for sequence in sequences], device=self.device)


def _is_alike_for_rows(processor: Any) -> bool:
    own = type(processor).__module__ == logits_process.__name__
    return own and not isinstance(processor, KNOWS_ITS_ROW)


def _is_known(criterion: Any) -> bool:
    """Ends of sequence and the limit are the search's own matter."""
    kinds = (stopping_criteria.EosTokenCriteria, stopping_criteria.MaxLengthCriteria)
    return type(criterion) in kinds
