"""What text must not hold that is put into a prompt: control tokens, a template's own marks, forged turns.

Characters that nobody sees and forms that look alike do not help to get round it: texts are compared folded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

FILLERS = frozenset("\u115f\u1160\u2065\u2800\u3164\uffa0")
"""Letters and signs that show nothing."""
ANY_CONTROL = r"<\|[^\s<>|]{1,64}\|>"
"""The form that most control tokens have; taken for one whether this model knows it or not."""


@lru_cache(maxsize=4096)
def _folded(character: str, blank: str, odd_spaces: bool) -> str:
    """A character as it is compared: `blank` in place of what nobody sees; with `odd_spaces`, in that of them, too."""
    kind, code = unicodedata.category(character), ord(character)
    if kind in ("Mn", "Me"):
        return ""
    ignorable = 0xFFF0 <= code <= 0xFFF8 or 0xE0000 <= code <= 0xE0FFF or character in FILLERS
    if ignorable or kind == "Cf" or (kind == "Cc" and not character.isspace()):
        return blank
    if odd_spaces and character.isspace() and character not in " \t\n\r":
        return blank
    return unicodedata.normalize("NFKC", character)


def folded(text: str, blank: str = "", *, odd_spaces: bool = False) -> tuple[str, Sequence[int]]:
    """The text as it is compared, and where each of its characters stands in `text`."""
    table = {character: _folded(character, blank, odd_spaces) for character in set(text)}
    if all(character == form for character, form in table.items()):
        return text, range(len(text))
    forms = [table[character] for character in text]
    return "".join(forms), [place for place, form in enumerate(forms) for _ in form]


def without_control_tokens(text: str, special_texts: Iterable[str]) -> str:
    """The text with a space put into everything that could be read as one of the `special_texts`, or looks so.

    That is what the model's tokenizer reads as control tokens, and what its chat template writes around messages.
    """
    pattern = _any_of(tuple(special_texts))
    while True:
        compared, places = folded(text, odd_spaces=True)
        cuts = sorted({places[_cut(match)] for match in pattern.finditer(compared)})
        if not cuts:
            return text
        text = " ".join(text[begin:end] for begin, end in pairwise([0, *cuts, len(text)]))


def _cut(match: re.Match[str]) -> int:
    """Where a space breaks what was found: before the last character that has none before it yet."""
    found = match[0]
    return match.start() + next(
        place
        for place in range(len(found) - 1, 0, -1)
        if not (found[place].isspace() or found[place - 1].isspace())
    )


@lru_cache(maxsize=64)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of the texts, with any white space between their words; if it begins with a letter, not in a word."""
    forms = {" ".join(folded(text, odd_spaces=True)[0].lower().split()) for text in texts}
    # A single character cannot be taken apart, nor what has a space behind each.
    marks = {form for form in forms if re.search(r"\S\S", form)}
    worded = {form for form in marks if form[0].isalnum()}
    kinds = [_tree(marks - worded), rf"(?<![^\W_])(?:{_tree(worded)})" if worded else ""]
    return re.compile("|".join([*filter(None, kinds), ANY_CONTROL]), re.IGNORECASE)


def _tree(forms: Iterable[str]) -> str:
    """A pattern for the longest of these forms that stands somewhere. Some models have thousands: what they begin
    with alike is looked at once."""
    after: dict[str, set[str]] = {}
    for form in forms:
        after.setdefault(form[:1], set()).add(form[1:])
    ends = after.pop("", None) is not None
    branches = [
        (r"\s+" if first == " " else re.escape(first)) + _tree(rest) for first, rest in sorted(after.items())
    ]
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + "?" * ends


MAY_BE_CONTROL = re.compile(r"<[^\s<>]{1,64}>|\[[^\s\[\]]{1,64}\]")
"""The forms that control tokens have."""


def candidates_in(text: str) -> set[str]:
    """What in a text may be a control token of some model, as it is compared."""
    compared, _ = folded(text, odd_spaces=True)
    return set(MAY_BE_CONTROL.findall(compared)) - set(re.findall(ANY_CONTROL, compared))


def strings_in(value: Any) -> Iterator[str]:
    """All strings in JSON, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key
            yield from strings_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings_in(each)


def broken_everywhere(value: Any, special_texts: Sequence[str]) -> Any:
    """JSON in which all strings are `without_control_tokens`, keys among them: what is the same stays the same."""
    if isinstance(value, str):
        return without_control_tokens(value, special_texts)
    if isinstance(value, Mapping):
        return {
            without_control_tokens(key, special_texts): broken_everywhere(each, special_texts)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [broken_everywhere(each, special_texts) for each in value]
    return value


def neutralised(text: str, markers: Iterable[str]) -> str:
    """The text with every occurrence of a marker broken, so that it cannot pass for the real one.

    White space before a marker becomes one space (a forged turn needs its own line), and one space stands
    before the marker's last character. Case, spacing and full-width punctuation do not help to get round it.
    """
    patterns = [pattern for marker in markers if (pattern := _loosely(marker))]
    before = None
    while text != before:  # what nobody sees may stand for a space, or for nothing
        before = text
        for blank in (" ", ""):
            text = _broken(text, patterns, lambda text, blank=blank: folded(text, blank))  # type: ignore[misc]
    return text


@lru_cache(maxsize=1024)
def _loosely(marker: str) -> re.Pattern[str] | None:
    """Finds a marker however it is written, but none that begins inside a word ("a." in "Asia.")."""
    parts = re.findall(r"[A-Za-z0-9]+|\S", folded(marker)[0].strip().rstrip("("))
    if not parts:
        return None
    core = r"\s*".join(map(re.escape, parts))
    inside = "(?<![A-Za-z0-9])" if parts[0].isascii() and parts[0].isalnum() else ""
    return re.compile(rf"(?<!\s)(\s*){inside}({core})", re.IGNORECASE)


def _broken(
    text: str, patterns: Sequence[re.Pattern[str]], fold: Callable[[str], tuple[str, Sequence[int]]]
) -> str:
    compared, places = fold(text)
    for pattern in patterns:
        matches = list(pattern.finditer(compared))
        if not matches:
            continue
        pieces, done = [], 0
        for match in matches:
            begin, start, last = places[match.start()], places[match.start(2)], places[match.end() - 1]
            head = _without_gap(text[start:last])
            pieces += [text[done:begin], " " if start > begin and begin else "", head, " ", text[last]]
            done = last + 1
        text = "".join(pieces) + text[done:]
        compared, places = fold(text)
    return text


def _without_gap(head: str) -> str:
    """The text without what at its end is white space, or seen by nobody."""
    end = len(head)
    while end and not folded(head[end - 1], " ")[0].strip():
        end -= 1
    return head[:end]
