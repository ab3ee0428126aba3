"""Combinations of criteria, written as one text.

    min(harmlessness, positive-sentiment)            the least score
    mean(harmlessness*2, helpfulness)                a weighted mean
    harmlessness>0.5, helpfulness                    thresholds, then the objective
    harmlessness>0.5, mean(helpfulness, "principle: The answer is short, and polite.")

    combination = item {"," item}       item  = one [">" number]
    one   = name | rule "(" part {"," part} ")"      part = one ["*" number]     rule = "min" | "mean"

A name is a criterion's name, a TOML file, `principle: SENTENCE` or `hf-classifier:...`. One that holds a comma,
a parenthesis, `*`, `>` or a quotation mark stands in quotation marks, "..." or '...'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from rain_decoding.errors import CriterionError

FORMS = "forms: NAME, min(A, B), mean(A*2, B), A>0.5, B; quote names that hold , ( ) * or >"

_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<mark>[,()*>])|(?P<bare>[^,()*>"]+))"""
)


@dataclass(frozen=True, slots=True)
class Named:
    """A criterion by its name."""

    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a combination with its weight > 0 and perhaps a threshold."""

    of: Named | Expression
    weight: float = 1.0
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """A rule over parts, and the text that says so."""

    rule: Literal["min", "mean", "thresholds"]
    terms: tuple[Term, ...]
    text: str


def parse(text: str) -> Named | Expression:
    """Read a combination. Raises `CriterionError` naming the place where it cannot be read."""
    return _Parser(text).combination()


class _Parser:
    """Recursive descent over tokens: (text, where it stands, whether it is a mark such as a comma)."""

    def __init__(self, text: str):
        self.text = text
        self.tokens: list[tuple[str, int, bool]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise CriterionError(f"{text!r}: a quotation mark is not closed", hint=FORMS)
            kind = match.lastgroup
            assert kind is not None
            self.tokens.append((match[kind].strip(), match.start(kind), kind == "mark"))
            position = match.end()
        self.place = 0

    def combination(self) -> Named | Expression:
        terms = [self._item()]
        while self._take(","):
            terms.append(self._item())
        if self.place < len(self.tokens):
            self._fail("',' or the end")
        if len(terms) == 1 and terms[0].threshold is None:
            return terms[0].of
        return Expression("thresholds", tuple(terms), " ".join(self.text.split()))

    def _item(self) -> Term:
        one = self._one()
        return Term(one, threshold=self._number() if self._take(">") else None)

    def _one(self) -> Named | Expression:
        begin = self.place
        name = self._name()
        if name not in ("min", "mean") or not self._take("("):
            return Named(name)
        terms = [self._part(name)]
        while self._take(","):
            terms.append(self._part(name))
        if not self._take(")"):
            self._fail("',' or ')'")
        start, end = self.tokens[begin][1], self.tokens[self.place - 1][1] + 1
        return Expression(name, tuple(terms), " ".join(self.text[start:end].split()))  # type: ignore[arg-type]

    def _part(self, rule: str) -> Term:
        one = self._one()
        return Term(one, self._number() if rule == "mean" and self._take("*") else 1.0)

    def _name(self) -> str:
        if self.place == len(self.tokens) or self.tokens[self.place][2] or not self.tokens[self.place][0]:
            self._fail("the name of a criterion")
        self.place += 1
        return self.tokens[self.place - 1][0]

    def _number(self) -> float:
        try:
            value = float(self.tokens[self.place][0])
        except (IndexError, ValueError):
            self._fail("a number")
        self.place += 1
        return value

    def _take(self, mark: str) -> bool:
        found = self.place < len(self.tokens) and self.tokens[self.place][::2] == (mark, True)
        self.place += found
        return found

    def _fail(self, wanted: str) -> NoReturn:
        rest = self.text[self.tokens[self.place][1] :] if self.place < len(self.tokens) else ""
        where = f"at {rest!r}" if rest else "at the end"
        raise CriterionError(f"{self.text!r}: {wanted} was expected {where}", hint=FORMS)
