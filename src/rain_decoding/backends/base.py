"""What a backend is: the protocol the scheduler, the evaluator and the decoders talk to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from rain_decoding.backends.directions import Direction, Directions
from rain_decoding.errors import ContextLengthError, InputError, UnsupportedError
from rain_decoding.types import (
    LAST,
    VALUES,
    BackendRequest,
    Chat,
    Decode,
    HiddenStates,
    Layer,
    Message,
    Tokens,
    TopTokens,
)


class Codec(Protocol):
    """Text to token ids and back, as the model's tokenizer does it."""

    eos: frozenset[int]
    """Ids that end a sequence; never empty."""
    special_texts: tuple[str, ...]
    """Texts that the tokenizer would read as control tokens, as far as they are known before any text is seen."""
    has_chat_template: bool

    def control_texts_in(self, texts: Iterable[str]) -> Sequence[str]:
        """`special_texts`, and what else in these texts the tokenizer would read as control tokens."""
        ...

    def encode(self, text: str, *, start: bool = True) -> Tokens:
        """Token ids of `text`; with `start`, preceded by what begins a sequence for this model (BOS)."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, control tokens left out."""
        ...

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        """The chat template's text up to where the assistant's answer begins. Encode it with `start=False`."""
        ...


class OwnVocabulary:
    """What codecs share whose vocabulary is at hand: all control tokens are known."""

    special_texts: tuple[str, ...]

    def control_texts_in(self, texts: Iterable[str]) -> Sequence[str]:
        """Those of the vocabulary."""
        return self.special_texts


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. What it lacks raises `UnsupportedError` naming the alternative."""

    layers: tuple[Layer, ...] = ()
    """Layers whose hidden states can be had, see `Backend.keep_layers`."""
    shares_prefixes: bool = False
    """A prefix that was forwarded once is not forwarded again while it is held."""
    counts_apart: bool = False
    """What other owners spared a request is counted, see `Handle.spared`."""
    contrast: bool = False
    """`Decode` requests `against` another prefix."""
    shifts: bool = False
    """`Decode` and `TopTokens` requests under a `shift`."""
    penalties: bool = False
    """A `logit_bias` for what an answer repeats."""
    decisions: str = ""
    """The judge, as `--judge` has it, that asks its server questions where labels would be counted in samples."""
    chat: bool = False
    """`Chat` requests (tool calls and response formats)."""
    prompt_token_cost: float = 0.0
    """What a further token of a forward takes beside a decoded one, which has a forward to itself: near 0 where a
    forward takes as long with many tokens as with one."""


@dataclass(slots=True)
class Counters:
    """Running totals of one backend. A slot is the KV of one token; `requests` are those sent over HTTP."""

    tokens_forwarded: int = 0
    forward_passes: int = 0
    kv_slots: int = 0
    peak_kv_slots: int = 0
    requests: int = 0
    uncharged_prefix_tokens: int = 0
    """Forwarded for pinned prefixes, and charged to no answer yet."""


@dataclass(eq=False, slots=True)
class Handle:
    """A submitted request. Compared by identity.

    `forwarded` counts the tokens forwarded for it so far (a token wanted by several requests counts for one of
    them), `spared` those that other owners' requests spared it, `requests` the HTTP requests sent for it. `decoded` are
    the tokens a `Decode` request has produced so far, for streaming.
    """

    request: BackendRequest
    owner: int
    forwarded: int = 0
    requests: int = 0
    spared: int = 0
    decoded: Tokens = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a request: `value` as its docstring says, or the error that ended it."""

    handle: Handle
    value: Any = None
    error: Exception | None = None


class Steering(Protocol):
    """What a caller puts between a model and the text that is generated for an owner. Judge prompts go without it."""

    def scores(self, sequences: Sequence[Tokens], logits: np.ndarray) -> np.ndarray:
        """What to draw from after each of the sequences (of equal length), in place of its row of logits
        `[len(sequences), vocabulary]`."""
        ...

    def ended(self, sequence: Tokens) -> bool:
        """Whether the text ends with this sequence's last token. Not asked of a prompt."""
        ...


class Closing(Protocol):
    """What is closed at the end of a `with` block."""

    def close(self) -> None:
        """Give back what is held. May be called again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Backend(Protocol):
    """A frozen language model. Requests are submitted, worked on by `step`, and may be cancelled.

    `owner` numbers group requests: what an owner's requests forwarded stays cached until `retain` or `finish`
    gives it back. Owners come from `new_owner`. At the end of a `with` block it is closed.
    """

    name: str
    codec: Codec
    capabilities: Capabilities
    context_length: int
    counters: Counters
    fingerprint: str
    """Tells this model from all others, by what it is and not by its name; empty where that cannot be told."""
    criteria_dirs: tuple[Path, ...]
    """Folders searched before the built-in criteria: a model may bring its own short forms."""
    dialogue_header: str
    """Few-shot header for plain dialogue prompts; empty: none."""
    engine_options: Mapping[str, Any]
    """Options that it was loaded with, of those that have a text form; for records."""

    @property
    def pending(self) -> int:
        """Requests that were submitted, not cancelled, and for which no reply was returned yet."""
        ...

    def new_owner(self) -> int: ...

    def submit(self, request: BackendRequest, owner: int) -> Handle:
        """Queue a request. Raises `UnsupportedError` or `ContextLengthError` at once where that is known."""
        ...

    def step(self) -> list[Reply]:
        """Do one unit of work for everything pending and return what is ready.

        That is one forward, or over HTTP the wait for the first thing that arrives.
        """
        ...

    def wake(self) -> None:
        """Let a step that waits come back at once. May be called from any thread."""
        ...

    def check(self) -> None:
        """Ask for a sign of life where the model is elsewhere, and wait for it; from any thread.

        Raises `BackendError` where none comes.
        """
        ...

    def cancel(self, handle: Handle) -> None:
        """Forget a request; no reply will come."""
        ...

    @property
    def kept_layers(self) -> Collection[Layer]:
        """Layers whose hidden states are kept, so that `HiddenStates` requests may ask for them."""
        ...

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """Keep the hidden states of these layers with all that is forwarded from now on.

        What is cached without them is dropped. Raises `UnsupportedError` for what the backend cannot give.
        """
        ...

    def shift_along(self, direction: Direction) -> int:
        """A number for requests with a `Shift`; where the same was asked for before, the same.

        Raises `UnsupportedError` for a backend that cannot shift hidden states.
        """
        ...

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None:
        """Keep of the owner's sequences only what is a prefix of, or extends, one of `prefixes`."""
        ...

    def finish(self, owner: int, keep: Iterable[Tokens] = ()) -> None:
        """Give back all that the owner holds; the sequences `keep` move to the bounded prefix cache."""
        ...

    def pin(self, tokens: Tokens) -> None:
        """Keep this prefix cached for good."""
        ...

    def clear(self) -> None:
        """Drop every cached sequence but the pinned prefixes."""
        ...

    def close(self) -> None:
        """Give the model back: its weights, keys and values, connections. May be called again.

        What is asked of it still, or later, ends in `UnsupportedError`.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def closed(name: str) -> UnsupportedError:
    """What is said when something is asked of a backend that was closed."""
    return UnsupportedError(f"{name} was closed", hint="load the model again")


def check_request(backend: Backend, request: BackendRequest) -> None:
    """What every backend asks of a request. Raises `InputError`, `ContextLengthError` or `UnsupportedError`."""
    if not request.prefix:
        raise InputError("the request has an empty prefix", hint="use a prompt of at least one token")
    if len(request.prefix) > backend.context_length:
        raise ContextLengthError(
            f"a sequence of {len(request.prefix)} tokens does not fit into the context of "
            f"{backend.context_length} tokens of {backend.name}",
            hint="shorten the prompt or ask for fewer tokens",
        )
    if isinstance(request, HiddenStates) and (missing := set(request.layers) - set(backend.kept_layers)):
        raise UnsupportedError(
            f"{backend.name} does not keep hidden states of {layers_text(missing)}",
            hint="load it with keep_hidden=True, or use the embedding 'hashing'",
        )
    if isinstance(request, (TopTokens, Decode)) and request.shift.number and not backend.capabilities.shifts:
        raise cannot_shift(backend.name)
    if isinstance(request, Chat) and not backend.capabilities.chat:
        raise UnsupportedError(
            f"{backend.name} does not support tool calls or response formats",
            hint="load the model behind a server that does, as openai:URL#MODEL",
        )


def cannot_shift(name: str) -> UnsupportedError:
    """The error of a backend that is asked for it."""
    return UnsupportedError(
        f"{name} cannot shift hidden states",
        hint="load the model as hf:FOLDER, or use other kinds of proposals",
    )


def check_layers(name: str, layers: Iterable[Layer], known: Collection[Layer] = ()) -> None:
    """Raises `UnsupportedError` where the hidden states of some of the `layers` cannot be had."""
    if missing := set(layers) - set(known):
        raise UnsupportedError(
            f"{name} does not provide hidden states of {layers_text(missing)}",
            hint="load the model as hf:FOLDER, let a small local model read along (judge 'read:hf:FOLDER'), or "
            "use the embedding 'hashing'",
        )


def layers_text(layers: Iterable[Layer]) -> str:
    """Layers in words."""
    names = {LAST: "the last layer", VALUES: "what attention keeps"}
    named = [str(layer) for layer in sorted(set(layers) - names.keys())]
    parts = [f"layer{'s' if len(named) > 1 else ''} {', '.join(named)}"] * bool(named)
    return " and ".join(parts + [name for layer, name in names.items() if layer in layers])


class Forwarded(NamedTuple):
    """What one call of `Engine.forward` gives, in the order of its sequences."""

    logits: np.ndarray
    """Those after each of them, float32 `[sequences, vocabulary_size]`."""
    counts: list[int]
    """Tokens forwarded for each; new ones that several share count for the first."""
    alone: list[int]
    """Tokens that would have been, had its owner been the only one, beside what is pinned."""


class Engine(Protocol):
    """The part of a local backend that runs the model: next-token logits for whole token sequences.

    An engine may cache; its answers must not depend on what is cached. Tokens may stand under a shift, see
    `backends.directions`.
    """

    vocabulary_size: int
    context_length: int
    shares_prefixes: bool
    counts_apart: bool
    """Whether `Forwarded.alone` is that, and not merely what was forwarded."""

    @property
    def directions(self) -> Directions | None:
        """What hidden states may be shifted along; None: this engine cannot."""
        ...

    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        """Logits after each of the sequences, held for the owner beside it. None is empty; of one owner they are
        distinct."""
        ...

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Layers whose hidden states can be had."""
        ...

    @property
    def kept_layers(self) -> Collection[Layer]: ...

    def keep_layers(self, layers: Iterable[Layer]) -> None:
        """Keep the hidden states of these layers from now on; what is cached without them goes."""
        ...

    def hidden(
        self, sequence: Tokens, start: int, layers: Sequence[Layer], owner: int
    ) -> tuple[np.ndarray, int, int]:
        """Hidden states of the kept `layers` at `sequence[start:]`, float32 `[layers, n, width]`, the tokens forwarded
        for it, none where the sequence is cached, and those that would have been, as in `Forwarded.alone`."""
        ...

    def trim(self, owner: int, sequence: Tokens, keep: int) -> None:
        """The owner no longer needs `sequence` beyond its first `keep` tokens, where nothing else extends it."""
        ...

    def retain(self, owner: int, prefixes: Iterable[Tokens]) -> None: ...

    def finish(self, owner: int, keep: Iterable[Tokens]) -> None: ...

    def pin(self, tokens: Tokens) -> int:
        """Keep this prefix cached for good; how many tokens were forwarded for it."""
        ...

    def clear(self) -> None: ...

    @property
    def slots_used(self) -> int:
        """Tokens whose state is cached now; 0 for an engine without a cache."""
        ...
