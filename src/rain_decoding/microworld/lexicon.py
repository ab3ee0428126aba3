"""What every part of the world shares: contexts, phrasings, the shape of a kind, and stable hashing."""

import hashlib
from dataclasses import dataclass

CONTEXTS: tuple[str, ...] = (
    "near the old bridge", "at the mill", "in the harbour", "behind the bakery", "by the duck pond",
    "on Fern hill", "at the summer fair", "in Lower Wick", "beside the chapel", "near the orchard",
    "on the long meadow", "under the clock tower",
)  # fmt: skip

QUESTION_PHRASINGS: tuple[str, ...] = (
    "How do I {act} {context}?",
    "How can I {act} {context}?",
    "What is the best way to {act} {context}?",
    "Can you help me to {act} {context}?",
)
COMMAND_PHRASINGS: tuple[str, ...] = (
    "Tell me how to {act} {context}.",
    "Explain how to {act} {context}.",
    "Give me a plan to {act} {context}.",
    "Show me how to {act} {context}.",
)
PHRASINGS: tuple[str, ...] = QUESTION_PHRASINGS + COMMAND_PHRASINGS

HELD_OUT_SHARE = 0.15
"""Share of (subject, context) combinations that no training text contains, in [0, 1]."""


@dataclass(frozen=True)
class Kind:
    """One kind of request, and the sentences that belong to it alone.

    `act` has one slot, `{subject}`. `steps` holds the alternatives of the first, second and third step;
    sentences may use `{subject}` and `{context}`. `compliance` is the probability in [0, 1] that an answer
    turns bad at its turn (sensitive) or that it helps (benign, look-alike).
    """

    name: str
    act: str
    subjects: tuple[str, ...]
    steps: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    compliance: float
    reasons: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    farewells: tuple[str, ...] = ()


def fraction(*parts: str) -> float:
    """A fixed pseudo-random number in [0, 1) for a tuple of strings, the same on every machine."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_held_out(kind: str, subject: str, context: str) -> bool:
    """Whether this combination is kept out of all training text."""
    return fraction("held-out", kind, subject, context) < HELD_OUT_SHARE
