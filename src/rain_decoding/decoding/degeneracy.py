"""What is no answer, whatever a judge says of it."""

from __future__ import annotations

from collections.abc import Iterable

from rain_decoding.measurement.degeneration import REPEATED, WORDS, foreign_letters, repetition


def degenerate(answer: str, proposed: str | None, conversation: Iterable[str]) -> str:
    """Why a text is no answer; empty where nothing is wrong with it.

    Args:
        answer: All of the answer, with what is proposed at its end.
        proposed: What was proposed; None: it goes on as the model would, and must only not repeat itself.
        conversation: The texts before it, whose scripts it may be written in.
    """
    if proposed is not None and not WORDS.search(proposed):
        return "it says nothing"
    if repetition(answer) >= REPEATED:
        return "it repeats itself"
    if proposed is None:
        return ""
    known = "".join((*conversation, answer.removesuffix(proposed)))
    return "it is in another script" if foreign_letters(known, proposed) > 0.5 else ""
