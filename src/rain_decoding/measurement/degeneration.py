"""Texts that are no answers: empty, going round in circles, or in another script than they were asked in."""

from __future__ import annotations

import re
import unicodedata

WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
"""Words, or characters where words are not told apart."""
RUN = 4
"""Words in a row whose return is a repetition."""
REPEATED = 0.4
"""Share of such runs that came before, from which a text repeats itself."""
FEWEST = 12
"""Runs in a text of which a share means something."""
SAME = re.compile(r"(\S{1,3})\1{23}")
"""So many times the same one to three characters in a row are none that anybody writes."""


def degenerate(prompt: str, answer: str) -> str:
    """What makes the answer to a prompt degenerate, in a few words; empty where it is not.

    No measure here knows what the text says: an answer that is not degenerate may still be nonsense.
    """
    if not WORDS.search(answer):
        return "empty"
    if found := circling(answer):
        return found
    if foreign_letters(prompt, answer) > 0.5:
        return "another script"
    return ""


def circling(text: str) -> str:
    """How a text goes round in circles, in a few words; empty where it does not."""
    if SAME.search(text):
        return "one and the same character"
    return "repetition" if repetition(text) >= REPEATED else ""


def repetition(text: str) -> float:
    """The share in [0, 1] of runs of four words that came before in the text; 0 for a short one."""
    words = [word.casefold() for word in WORDS.findall(text)]
    runs = [tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= FEWEST else 0.0


def foreign_letters(known: str, text: str) -> float:
    """The share in [0, 1] of a text's letters that are of a script which the `known` text has no letter of."""
    scripts, found = set(_scripts(known)), _scripts(text)
    if not scripts or not found:
        return 0.0
    return sum(script not in scripts for script in found) / len(found)


def _scripts(text: str) -> list[str]:
    """The script of each letter, by the first word of its Unicode name."""
    return [unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()]
