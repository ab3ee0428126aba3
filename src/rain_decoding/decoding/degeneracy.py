"""What is no answer, whatever a judge says of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
"""Words, or characters where words are not told apart."""
RUN = 4
"""Words in a row whose return is a repetition."""
REPEATED = 0.4
"""Share of such runs that came before, from which a text repeats itself."""
FEWEST = 12
"""Runs in a text of which a share means something."""


def degenerate(answer: str, proposed: str, conversation: Iterable[str]) -> str:
    """Why a text is no answer; empty where nothing is wrong with it.

    Args:
        answer: All of the answer, with what is proposed at its end.
        proposed: What was proposed.
        conversation: The texts before it, whose scripts it may be written in.
    """
    if not WORDS.search(proposed):
        return "it says nothing"
    if repetition(answer) >= REPEATED:
        return "it repeats itself"
    known = {script for text in (*conversation, answer.removesuffix(proposed)) for script in scripts(text)}
    found = scripts(proposed)
    foreign = sum(1 for script in found if script not in known)
    if known and foreign > len(found) / 2:
        return "it is in another script"
    return ""


def repetition(text: str) -> float:
    """The share in [0, 1] of runs of four words that came before in the text; 0 for a short one."""
    words = [word.casefold() for word in WORDS.findall(text)]
    runs = [tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= FEWEST else 0.0


def scripts(text: str) -> list[str]:
    """The script of each letter, by the first word of its Unicode name."""
    return [unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()]
