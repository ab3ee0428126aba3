"""From a request's body to the answers it asks for, as far as the operator allows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from rain_decoding.config import PRESETS
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.decoding.session import Session
from rain_decoding.decoding.tool_calls import as_read
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.loading import PRINCIPLE
from rain_decoding.server.config import PERMISSIONS, ServerConfig
from rain_decoding.server.decoders import Decoders, Way
from rain_decoding.server.reading import check_fits
from rain_decoding.server.schemas import ChatBody, CompletionBody, RainOptions
from rain_decoding.web.errors import ApiError

PLAIN_SUFFIX = ":plain"
NEEDED = {"judged": "plain", "max_seconds": "budget", "max_search_tokens": "budget"}
"""Permissions that are not called as the field of `rain` that needs them."""


@dataclass(frozen=True)
class AnswerRequest:
    """One answer that is asked for. `open` is called in the worker's thread."""

    seed: int
    open: Callable[[], Session]


@dataclass(frozen=True)
class UnreadRequest:
    """One answer that an HTTP request asks for, before its prompt is read, which may be done in any thread."""

    seed: int
    read: Callable[[], Prompt]
    open: Callable[[Prompt], Session]

    def with_prompt(self, prompt: Prompt) -> AnswerRequest:
        """The same with what `read` gave."""
        return AnswerRequest(self.seed, partial(self.open, prompt))


@dataclass(frozen=True)
class RequestParser:
    """Reads HTTP requests for one model. `model` is the name that clients know."""

    config: ServerConfig
    decoders: Decoders
    model: str
    criteria: tuple[str, ...]

    def parse(self, body: ChatBody | CompletionBody) -> list[UnreadRequest]:
        """The answers asked for: `n` per prompt, with seeds one apart. Raises `ApiError`."""
        self.check_size(body.prompt_bytes, "messages" if isinstance(body, ChatBody) else "prompt")
        way = self.way(body)
        self.decoders.config(way)  # raises for what is not allowed
        passed = self._passed(body)
        prompts = body.prompts
        if isinstance(body, ChatBody) and body.whole:
            prompts = [as_read(body.conversation)]
        count, most = len(prompts) * body.n, min(self.config.max_choices, self.config.room)
        if count > most:
            raise ApiError(400, f"{count} answers requested, at most {most} are allowed", param="n")
        first = secrets.randbelow(2**31) if body.seed is None else body.seed
        limits = self._limits(body)
        request = {
            **limits,
            "stop": body.stop_strings,
            "temperature": body.temperature,
            "top_k": body.most_probable,
            "top_p": body.top_p,
            "logit_bias": body.bias,
            "frequency_penalty": body.frequency_penalty or 0.0,
            "presence_penalty": body.presence_penalty or 0.0,
            "trace": body.rain.trace or self.config.trace_dir is not None,
        }
        rain = body.rain
        asked = rain.criterion if rain.principle is None else f"{PRINCIPLE} {rain.principle}"

        def answers(prompt: Any) -> Iterator[UnreadRequest]:
            read = cache(partial(self._read, way, prompt))  # once for all answers
            for seed in range(first, first + body.n):
                yield UnreadRequest(
                    seed, read, partial(self._open, way, passed, asked, {**request, "seed": seed})
                )

        return [answer for prompt in prompts for answer in answers(prompt)]

    def _passed(self, body: ChatBody | CompletionBody) -> dict[str, Any] | None:
        """What the model's own server is to answer; None for what is searched here. Raises `ApiError`."""
        if not isinstance(body, ChatBody) or not body.whole:
            return None
        plain = self._is_plain(body)
        if body.whole == "messages" and (plain or not self.decoders.operator.backend.capabilities.chat):
            return None  # calls that were made elsewhere are read as text
        if plain:
            raise ApiError(
                400, f"{body.model} does not support {body.whole}; use {self.model}", param=body.whole
            )
        if not self.decoders.operator.backend.capabilities.chat:
            message = (
                f"{body.whole}: {self.model} does not support tool calls or response formats; "
                "they need a model behind its own server (rain serve --model openai:URL#MODEL)"
            )
            raise ApiError(400, message, param=body.whole)
        return body.passed

    def _read(self, way: Way, messages: Any) -> Prompt:
        """The prompt as tokens, cheap checks first. Raises `ApiError` and `InputError`."""
        backend = self.decoders.operator.backend
        texts = [messages] if isinstance(messages, str) else [message["content"] for message in messages]
        check_fits(texts, backend.codec, backend.context_length)
        read = self.decoders.prompt(way, messages)
        length, most = len(read.tokens), self.config.max_prompt_tokens
        if most is not None and length > most:
            raise ApiError(
                400,
                f"the prompt is {length} tokens long, at most {most} are allowed",
                param="messages",
                code="context_length_exceeded",
            )
        return read

    def _open(
        self,
        way: Way,
        passed: dict[str, Any] | None,
        criterion: str | None,
        options: dict[str, Any],
        prompt: Prompt,
    ) -> Session:
        decoder = self.decoders.get(way)
        if criterion is not None:
            if not isinstance(decoder, RainDecoder) or "judge" in self.config.client_may:
                options = {**options, "criterion": criterion}
            else:
                decoder = decoder.judged_also_by(criterion)
        if passed is None:
            return decoder.open(prompt, **options)
        assert isinstance(decoder, RainDecoder), "the others do not support tools"
        return decoder.open_message(passed, prompt=prompt, **options)

    def check_size(self, size: int, field: str) -> None:
        """Raise `ApiError` for a prompt of too many bytes."""
        if size > self.config.max_prompt_bytes:
            raise ApiError(
                413,
                f"the prompt is {size} bytes long, at most {self.config.max_prompt_bytes} are allowed",
                param=field,
                code="prompt_too_large",
            )

    def way(self, body: ChatBody | CompletionBody) -> Way:
        """How to decode what the body asks for. Raises `ApiError` for what the operator does not allow."""
        plain = self._is_plain(body)
        if plain:
            self.permit("plain", "model")
        rain = body.rain
        for field in RainOptions.model_fields:
            if getattr(rain, field) not in (None, False):
                self.permit(NEEDED.get(field, field), f"rain.{field}")
        self.check_criterion(rain.criterion)
        _known("rain.preset", rain.preset, tuple(PRESETS))
        return Way(
            plain,
            rain.preset,
            rain.threshold,
            judged=rain.judged,
            relaxed="relax" in self.config.client_may,
            prompt_format=None if isinstance(body, ChatBody) else "text",
        )

    def check_criterion(self, name: str | None, field: str = "rain.criterion") -> None:
        """Raise `ApiError` unless it is the name of a criterion: a path would let a client read files."""
        _known(field, name, self.criteria)

    def _is_plain(self, body: ChatBody | CompletionBody) -> bool:
        """Whether the model is named as it is for plain decoding."""
        if self.config.any_model:
            return body.model.endswith(PLAIN_SUFFIX) and body.model != self.model
        return body.model == self.model + PLAIN_SUFFIX

    def permit(self, permission: str, field: str) -> None:
        """Raise `ApiError` unless the operator lets clients decide that."""
        assert permission in PERMISSIONS
        if permission not in self.config.client_may:
            raise ApiError(
                403,
                f"{field} is set by the operator: this server runs without --client-may {permission}",
                param=field,
                code="not_allowed",
            )

    def _limits(self, body: ChatBody | CompletionBody) -> dict[str, float | None]:
        config, rain = self.config, body.rain
        return {
            "max_tokens": _within("max_tokens", body.limit, config.max_tokens),
            "max_seconds": _within("rain.max_seconds", rain.max_seconds, config.max_seconds),
            "max_search_tokens": _within(
                "rain.max_search_tokens", rain.max_search_tokens, config.max_search_tokens
            ),
        }


def _within(field: str, asked: float | None, most: float | None) -> float | None:
    """What was asked, or else the operator's ceiling. Raises `ApiError` above it."""
    if asked is None:
        return most
    if most is not None and asked > most:
        raise ApiError(400, f"{field} = {asked} is too large: at most {most} is allowed", param=field)
    return asked


def _known(field: str, name: str | None, known: tuple[str, ...]) -> None:
    if name is not None and name not in known:
        kind = field.removeprefix("rain.")
        raise ApiError(400, f"unknown {kind} {name!r}; use one of {', '.join(known)}", param=field)
