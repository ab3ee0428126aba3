"""What is no answer, whatever a judge says of it."""

from __future__ import annotations

from collections.abc import Iterable

from rain_decoding.measurement.degeneration import WORDS, circling, foreign_letters


def why_no_answer(answer: str, proposed: str | None, conversation: Iterable[str]) -> str:
    """Why a text is no answer, in a few words; empty where nothing is wrong with it.

    What goes round in circles for an evaluation does so here: see `measurement.degeneration`.

    Args:
        answer: All of the answer, with what is proposed at its end.
        proposed: What was proposed; None: it goes on as the model would, and must only not repeat itself.
        conversation: The texts before it, whose scripts it may be written in.
    """
    if proposed is not None and not WORDS.search(proposed):
        return "it says nothing"
    if circling(answer):
        return "it repeats itself"
    if proposed is None:
        return ""
    known = "".join((*conversation, answer.removesuffix(proposed)))
    return "it is in another script" if foreign_letters(known, proposed) > 0.5 else ""
