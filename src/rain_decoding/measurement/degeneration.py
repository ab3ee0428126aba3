"""Texts that are no answers: empty, going round in circles, or in another script than they were asked in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

WORDS = 4
"""Words of a sequence that is looked for again."""
REPEATED = 0.35
"""From this share of repeated sequences on, a text goes round in circles."""
LEAST = 8
"""With fewer sequences, the share says nothing."""
RUN = 24
"""So many times the same one to three characters in a row are none that anybody writes."""
FOREIGN = 0.3
"""From this share of letters on that are of a script which the request has none of, the script was switched."""


def degenerate(prompt: str, answer: str) -> str:
    """What makes the answer to a prompt degenerate, in a few words; empty where it is not.

    No measure here knows what the text says: an answer that is not degenerate may still be nonsense.
    """
    text = answer.strip()
    if not any(character.isalnum() for character in text):
        return "empty"
    if re.search(rf"(\S{{1,3}})\1{{{RUN - 1}}}", text):
        return "one and the same character"
    if repetition(text) >= REPEATED:
        return "repetition"
    if foreign_letters(prompt, text) >= FOREIGN:
        return "another script"
    return ""


def repetition(text: str) -> float:
    """The share in [0, 1] of the text's sequences of `WORDS` words that stood there before; 0 for a short text."""
    words = re.findall(r"\w+", text.lower())
    sequences = list(zip(*(words[start:] for start in range(WORDS)), strict=False))
    if len(sequences) < LEAST:
        return 0.0
    return 1 - len(set(sequences)) / len(sequences)


def foreign_letters(prompt: str, answer: str) -> float:
    """The share in [0, 1] of the answer's letters that are of a script which the prompt has no letter of."""
    known, found = _scripts(prompt), _scripts(answer)
    if not known or not found:
        return 0.0
    return sum(count for script, count in found.items() if script not in known) / found.total()


def _scripts(text: str) -> Counter[str]:
    """Letters by the first word of their Unicode name: LATIN, CYRILLIC, CJK, ..."""
    return Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
