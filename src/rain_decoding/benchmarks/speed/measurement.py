"""What one measurement gives."""

from __future__ import annotations

from dataclasses import dataclass

Case = tuple[tuple[str, str | int | float], ...]
"""What was asked for, as names and values, such as `(("family", "benign"), ("max_tokens", 160))`."""

Key = tuple[Case, str, int, int]
"""A measurement's case, contender, unit and repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One contender's work on one unit: one prompt, or a batch of prompts.

    Measurements of different contenders with the same case, unit and repeat are pairs.
    """

    case: Case
    contender: str
    unit: int
    repeat: int
    answers: int
    """Prompts answered, >= 1."""
    texts: tuple[str, ...] = ()
    """The answers."""
    seconds: float
    """Wall time."""
    cpu_seconds: float = 0.0
    """Processor time of this process, all its threads: what a busy machine does not lengthen."""
    model_seconds: float
    """Of these, the ones inside the model's forward."""
    first_release: float | None = None
    """Seconds until the reader saw the first text; None for a batch."""
    passes: int
    """Forwards of the model."""
    tokens_forwarded: int
    tokens_released: int
    """Tokens of the answers."""
    kv_slots: int
    """Tokens whose keys and values were held at peak, beyond the pinned ones."""
    kv_pinned: int
    """Pinned tokens: the judge's prefix."""
    rewinds: int = 0
    """Times that text was found bad and taken back."""

    @property
    def key(self) -> Key:
        """What tells it from all others of a run."""
        return self.case, self.contender, self.unit, self.repeat
