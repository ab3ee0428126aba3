"""The shapes of replies, of all servers, read into the same values.

Two forms of token log-probabilities are about. Lists side by side (OpenAI's completions; vLLM's `CompletionLogProbs` in
vllm/entrypoints/openai/completion/protocol.py; SGLang's `LogProbs` in sglang/srt/entrypoints/openai/protocol.py):
`{"tokens": [...], "token_logprobs": [...], "top_logprobs": [{text: logprob}, ...]}`. And a list of objects (chat
completions everywhere; llama-server's completions, too, see tools/server/server-task.cpp of llama.cpp):
`{"content": [{"token": ..., "logprob": ..., "top_logprobs": [...]}]}`, where llama-server writes `prob` and `top_probs`
for what is left after sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any

from rain_decoding.backends.endings import INCOMPLETE
from rain_decoding.backends.openai.codec import PIECES


class BadReply(Exception):  # noqa: N818 - translated where it is caught
    """A reply that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token: its text, its log-probability in nats, and the most probable texts with theirs.

    `logprob` is None where the server gives none. Texts that are part of a character hold U+FFFD.
    """

    text: str
    logprob: float | None = None
    top: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One continuation, or a piece of it. `finish` is None while it goes on, else "stop" or "length"."""

    text: str
    tokens: tuple[Token, ...]
    finish: str | None
    index: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens of one reply: those of the prompt that were not cached, and the new ones. None: not said."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


TEXTS = {"text", "message", "delta"}
"""One of these is in every choice."""


def read_choices(data: Any, *, streamed: bool = False) -> list[Choice]:
    """The choices of a reply, or of an event of a stream, in their order. Raises `BadReply`.

    An event may hold no text at all, as the last one of some gateways does.
    """
    try:
        choices = [
            _choice({"text": ""} | choice if streamed and not TEXTS & choice.keys() else choice, position)
            for position, choice in enumerate(data["choices"])
        ]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadReply(f"the reply has no usable choices ({type(error).__name__}: {error})") from error
    return sorted(choices, key=lambda choice: choice.index)


def _choice(choice: dict[str, Any], position: int) -> Choice:
    if "text" in choice:
        text = choice["text"]
    else:
        text = (choice["message"] if "message" in choice else choice["delta"]).get("content") or ""
    if not isinstance(text, str):
        raise TypeError(f"the reply has {text!r} where a string is expected")
    finish = choice.get("finish_reason")
    if finish == "abort":
        raise BadReply("the server aborted the request")
    if finish not in (None, "", "length"):
        finish = "stop"
    return Choice(text, _tokens(choice.get("logprobs")), finish or None, choice.get("index", position))


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    if not logprobs:
        return ()
    if (content := logprobs.get("content")) is not None:
        return tuple(map(_object_token, content))
    texts = logprobs.get("tokens") or []
    chosen = logprobs.get("token_logprobs") or [None] * len(texts)
    tops = logprobs.get("top_logprobs") or [None] * len(texts)
    return tuple(
        Token(text, logprob, top and {key: float(value) for key, value in top.items()})
        for text, logprob, top in zip(texts, chosen, tops, strict=True)
    )


def _object_token(entry: dict[str, Any]) -> Token:
    listed = entry.get("top_logprobs") or entry.get("top_probs") or ()
    return Token(_text(entry), _logprob(entry), {_text(one): _logprob(one) for one in listed})


def _text(entry: dict[str, Any]) -> str:
    """The token's text; by its bytes where the server gives them, since a token may be part of a character."""
    raw = entry.get("bytes")
    return bytes(raw).decode("utf-8", "replace") if raw else entry["token"]


def _logprob(entry: dict[str, Any]) -> float:
    if "logprob" in entry:
        return float(entry["logprob"])
    return log(entry["prob"]) if entry["prob"] > 0 else float("-inf")


def read_scores(data: Any) -> list[float]:
    """The probabilities in a reply of SGLang's /v1/score (`ScoringResponse`) for one prompt."""
    try:
        return [float(score) for score in data["scores"][0]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadReply(f"the reply has no scores ({type(error).__name__}: {error})") from error


def read_cost(data: Any) -> Cost:
    """What a reply says it cost: `usage`, or llama-server's `timings`, which stand in every event of a stream."""
    if not isinstance(data, dict):
        return Cost()
    if usage := data.get("usage"):
        details = usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens")
        prompt = usage.get("prompt_tokens")
        return Cost(
            None if prompt is None else prompt - (cached or 0), usage.get("completion_tokens"), cached
        )
    if timings := data.get("timings"):
        return Cost(timings.get("prompt_n"), timings.get("predicted_n"), timings.get("cache_n"))
    return Cost()


def problem_in(data: Any) -> str:
    """What an error body says: `{"error": {"message": ...}}`, `{"error": "..."}`, `{"message": ...}`, or text."""
    if isinstance(data, dict):
        error = data.get("error", data)
        if isinstance(error, dict):
            return str(error.get("message") or error.get("detail") or error)
        return str(error)
    return str(data)[:300]


def pieces_of(choice: Choice) -> list[Token]:
    """The choice's tokens so that their texts make its text.

    Without tokens the text is split into pieces. The text is right where tokens hold parts of characters, or lack the
    space that a tokenizer drops: what lies between the tokens that agree with it at its beginning and its end becomes
    one token, with the sum of the log-probabilities.
    """
    text, tokens = choice.text, list(choice.tokens)
    if not tokens:
        return [Token(piece) for piece in PIECES.findall(text)]
    if "".join(token.text for token in tokens) == text:
        return [token for token in tokens if token.text]
    first = 0
    head: list[Token] = []
    while first < len(tokens) and _whole(tokens[first].text) and text.startswith(tokens[first].text):
        head.append(tokens[first])
        text = text[len(tokens[first].text) :]
        first += 1
    tail: list[Token] = []
    while len(tokens) > first and _whole(tokens[-1].text) and text.endswith(tokens[-1].text):
        tail.insert(0, tokens.pop())
        text = text[: len(text) - len(tail[0].text)]
    left = tokens[first:]
    known = [token.logprob for token in left if token.logprob is not None]
    middle = [Token(text, sum(known) if left and len(known) == len(left) else None)] if text else []
    return head + middle + tail


def _whole(text: str) -> bool:
    return bool(text) and INCOMPLETE not in text


def mass(top: Mapping[str, float]) -> float:
    """The probability that the listed tokens hold together, in [0, 1]."""
    return min(1.0, sum(exp(logprob) for logprob in top.values()))
