"""A deterministic model that follows a script: for tests and examples.

A script is a TOML file:

    eos = "<end>"
    [[next]]                      # the first rule that matches gives the next token
    after = "Assistant:"          # the text ends in this
    contains = "lock"             # and holds this (both optional)
    tokens = { " Sure" = 0.7, " No" = 0.3 }

The vocabulary is the end token and all tokens of the rules; any other character of a prompt is a token of
its own that is never produced. A text that no rule matches ends.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rain_decoding.backends.base import Forwarded, Handle, OwnVocabulary
from rain_decoding.backends.directions import Directions, ids_of, numbers_of
from rain_decoding.backends.fingerprint import of_parts
from rain_decoding.backends.local import LocalBackend
from rain_decoding.errors import ConfigError, ModelNotFoundError, UnsupportedError
from rain_decoding.files import read_text
from rain_decoding.types import LAST, BackendRequest, LabelProbabilities, Layer, Message, Tokens


class ScriptedCodec(OwnVocabulary):
    """Longest-match tokenizer over a fixed vocabulary; unknown characters become ids above it."""

    special_texts: tuple[str, ...] = ()
    has_chat_template = False

    def __init__(self, vocabulary: Sequence[str], eos: str):
        self.vocabulary = list(vocabulary)
        self.eos = frozenset({self.vocabulary.index(eos)})
        self._by_length = sorted(
            ((text, token) for token, text in enumerate(self.vocabulary) if text != eos),
            key=lambda entry: -len(entry[0]),
        )

    def encode(self, text: str, *, start: bool = True) -> Tokens:
        tokens: list[int] = []
        position = 0
        while position < len(text):
            unknown = (text[position], len(self.vocabulary) + ord(text[position]))
            matches = (entry for entry in self._by_length if text.startswith(entry[0], position))
            piece, token = next(matches, unknown)
            tokens.append(token)
            position += len(piece)
        return tuple(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        size = len(self.vocabulary)
        return "".join(
            self.vocabulary[token] if token < size else chr(token - size)
            for token in tokens
            if token not in self.eos
        )

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        raise UnsupportedError(
            "a scripted model has no chat template", hint="use the prompt format 'dialogue'"
        )


class ScriptedEngine:
    """Asks a function for the logits after each sequence; keeps nothing."""

    layers: tuple[Layer, ...] = (LAST,)
    kept_layers: tuple[Layer, ...] = (LAST,)
    shares_prefixes = False
    counts_apart = True
    slots_used = 0

    def __init__(
        self, logits: Callable[[Tokens], np.ndarray], vocabulary_size: int, context_length: int = 4096
    ):
        self.directions: Directions | None = Directions()
        self.logits = logits
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length

    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        counts = [*map(len, sequences)]
        return Forwarded(np.stack([self._row(sequence) for sequence in sequences]), counts, counts)

    def _row(self, sequence: Tokens) -> np.ndarray:
        """Where the states are unit vectors of the vocabulary, what is added to the last one is added to the logits."""
        tokens = np.array(sequence)
        row = np.asarray(self.logits(tuple(ids_of(tokens).tolist())), dtype=np.float32)
        number = int(numbers_of(tokens)[-1])
        if not number or self.directions is None:
            return row
        direction = self.directions[number]
        added: np.ndarray = row + direction.strength * direction.vectors.sum(axis=0)
        return added

    def keep_layers(self, layers: Iterable[Layer]) -> None: ...

    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        """The states of a model that knows nothing but its tokens: of each the unit vector, of others zeros."""
        states = np.array(sequence[start:])[:, None] == np.arange(self.vocabulary_size)
        return np.stack([states.astype(np.float32)] * len(layers)), 0, 0

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None: ...

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None: ...

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None: ...

    def pin(self, tokens: Tokens) -> int:
        return 0

    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Next-token probabilities for texts that end in `after` and hold `contains`."""

    tokens: dict[str, float]
    after: str = ""
    contains: str = ""

    def matches(self, text: str) -> bool:
        return text.endswith(self.after) and self.contains in text


class ScriptedBackend(LocalBackend):
    """A backend whose model is a function from token sequences to logits `[vocabulary]`."""

    def __init__(
        self,
        logits: Callable[[Tokens], np.ndarray],
        codec: ScriptedCodec,
        *,
        name: str = "scripted",
        context: int = 4096,
    ):
        super().__init__(
            name,
            ScriptedEngine(logits, len(codec.vocabulary), context),
            codec,
            fingerprint=of_parts([name.encode()]),
            dialogue_header="",
        )

    def submit(self, request: BackendRequest, owner: int) -> Handle:
        """As every backend. Raises `ConfigError` for a label that the script has no token for."""
        if isinstance(request, LabelProbabilities) and max(request.labels) >= self.engine.vocabulary_size:
            raise ConfigError(
                f"{self.name} has no tokens for the criterion's labels",
                hint="add a rule that answers the judge prompt with them",
            )
        return super().submit(request, owner)

    @classmethod
    def from_rules(
        cls, rules: Sequence[Rule], *, eos: str = "<end>", name: str = "scripted"
    ) -> ScriptedBackend:
        """The model that follows `rules`: the first that matches the text so far gives the next token."""
        vocabulary = [eos, *dict.fromkeys(token for rule in rules for token in rule.tokens if token != eos)]
        codec = ScriptedCodec(vocabulary, eos)

        def logits(tokens: Tokens) -> np.ndarray:
            text = codec.decode(tokens)
            chosen = next((rule.tokens for rule in rules if rule.matches(text)), {eos: 1.0})
            probs = np.array([chosen.get(token, 0.0) for token in vocabulary])
            with np.errstate(divide="ignore"):
                return np.log(probs)

        return cls(logits, codec, name=name)

    @classmethod
    def from_file(cls, path: str | Path, **options: Any) -> ScriptedBackend:
        """Load a deterministic model from a script.

        Args:
            path: TOML file with `[[next]]` rules, and perhaps `eos` (the text that ends a sequence, `<end>`).
            options: None are accepted.

        Returns:
            The backend.

        Raises:
            ModelNotFoundError: there is no such file.
            ConfigError: the file is not valid, or an option was given.
        """
        if options:
            raise ConfigError(
                f"a scripted model does not accept the option {', '.join(options)}", hint="omit it"
            )
        try:
            script = tomllib.loads(read_text(Path(path).expanduser()))
        except OSError as error:
            raise ModelNotFoundError(
                f"there is no script {path}", hint="use scripted:FILE with the path of a TOML file"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
        try:
            rules = [_checked(Rule(**rule)) for rule in script["next"] or [{}]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: a script needs [[next]] rules with tokens: {error}") from error
        return cls.from_rules(rules, eos=str(script.get("eos", "<end>")), name=f"scripted:{path}")


def _checked(rule: Rule) -> Rule:
    """The rule, if its tokens are texts with probabilities above 0."""
    if not rule.tokens or not all(text and weight > 0 for text, weight in rule.tokens.items()):
        raise ValueError(f"tokens = {rule.tokens!r}")
    return rule
