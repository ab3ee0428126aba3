"""Inspect (https://inspect.aisi.org.uk): any of its tasks runs with `--model rain/MODEL`.

The package's entry point in the group `inspect_ai` names this module; Inspect imports it to find the provider.
"""

from __future__ import annotations

import math
import secrets
import sys
from dataclasses import asdict
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    Content,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from rain_decoding.errors import ContextLengthError, InputError, RainError
from rain_decoding.integrations.arguments import Arguments
from rain_decoding.server.exchange import Exchange
from rain_decoding.server.request_parser import AnswerRequest
from rain_decoding.server.worker import Ended, Worker
from rain_decoding.types import Completion, FinishReason, Message
from rain_decoding.web.errors import ApiError

TAKEN = {
    *("max_tokens", "temperature", "top_k", "top_p", "seed", "stop_seqs"),
    *("logit_bias", "frequency_penalty", "presence_penalty"),
}
"""Options of Inspect that a request carries."""
INSPECTS_OWN = {
    *(
        "system_message",
        "max_retries",
        "timeout",
        "attempt_timeout",
        "max_connections",
        "adaptive_connections",
    ),
    *("cache", "cache_prompt", "max_tool_output", "internal_tools", "parallel_tool_calls"),
    *("reasoning_history", "fail_on_refusal", "stream_idle_timeout"),
}
"""Options that Inspect sees to, or that are about what does not happen here."""
STOP_REASONS: dict[FinishReason, StopReason] = {
    "stop": "stop",
    "length": "max_tokens",
    "budget": "max_tokens",
    "unjudged": "content_filter",
    "cancelled": "unknown",
}


@modelapi(name="rain")
def rain() -> type[ModelAPI]:
    """What Inspect finds by the name `rain`."""
    return RainAPI


class RainAPI(ModelAPI):
    """A model that decodes by RAIN, or by what it is compared with; model arguments are those of `Arguments`.

    All requests of a task share one thread that owns the model, and so its steps. Raises `InputError` for an argument
    that there is not, and what loading the model raises.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if base_url is not None:
            raise InputError(
                f"base_url = {base_url!r} is not used",
                hint="put the endpoint in the model's name: rain/openai:BASE_URL#MODEL",
            )
        self.decoder, self.width = Arguments.of(model_args).load(model_name)
        self.worker = Worker(
            self.decoder.backend, max_concurrent=self.width, room=sys.maxsize, stuck_seconds=math.inf
        )
        self.worker.start()

    def close(self) -> None:
        self.worker.stop()

    def collapse_system_messages(self) -> bool:
        """One system message stands for several: templates take no more."""
        return True

    def collapse_user_messages(self) -> bool:
        """Templates may want user and assistant in turn."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """Templates may want user and assistant in turn."""
        return True

    def max_connections(self) -> int:
        return self.width

    def should_retry(self, ex: Exception) -> bool:
        return isinstance(ex, RainError) and ex.retryable

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer a conversation. A prompt that is too long is an empty answer with the stop reason "model_length".

        Raises `InputError` for what cannot be done: tools, other content than text, an option that is not in `TAKEN`.
        """
        if tools and tool_choice != "none":
            raise InputError("RAIN does not call tools", hint="use a task without tools")
        prompt, options = [_message(message) for message in input], _options(config)
        try:
            completion = await self._completion(prompt, options)
        except ContextLengthError as error:
            return ModelOutput.from_content(self.model_name, "", "model_length", str(error))
        return self._output(completion)

    async def _completion(self, prompt: list[Message], options: dict[str, Any]) -> Completion:
        request = AnswerRequest(options["seed"], lambda: self.decoder.open(prompt, **options))
        exchange = Exchange(self.worker, [request], "")
        try:
            await exchange.opened()
            async for news in exchange.news():
                if news is not None and isinstance(news[1], Ended):
                    completion = news[1].completion
            return completion
        except ApiError as error:
            raise error.__cause__ or error from None
        finally:
            exchange.close()

    def _output(self, completion: Completion) -> ModelOutput:
        content: list[Content] = [ContentText(text=completion.text)]
        if completion.reasoning:
            content.insert(0, ContentReasoning(reasoning=completion.reasoning))
        message = ChatMessageAssistant(
            content=content if completion.reasoning else completion.text,
            model=self.model_name,
            source="generate",
        )
        output = ModelOutput.from_message(message, STOP_REASONS[completion.finish_reason])
        usage = completion.usage
        answered = usage.completion_tokens or 0  # known of all that `generate` makes
        output.model, output.time = self.model_name, usage.seconds
        output.usage = ModelUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=answered,
            total_tokens=usage.prompt_tokens + answered,
        )
        output.metadata = {"rain": _told(completion)}
        return output


def _message(message: ChatMessage) -> Message:
    parts = [] if isinstance(message.content, str) else message.content
    if message.role == "tool" or not all(isinstance(part, (ContentText, ContentReasoning)) for part in parts):
        raise InputError(
            f"a message of the {message.role} contains more than text",
            hint="use a task with text messages only",
        )
    return Message(message.role, message.text)


def _options(config: GenerateConfig) -> dict[str, Any]:
    """A request's options. Without a seed one is drawn, and told in the answer's metadata."""
    asked = {name: value for name, value in config.model_dump().items() if value not in (None, False)}
    if unknown := asked.keys() - TAKEN - INSPECTS_OWN:
        told = ", ".join(f"{name} = {asked[name]!r}" for name in sorted(unknown))
        raise InputError(f"{told} is not supported with rain", hint=f"supported: {', '.join(sorted(TAKEN))}")
    return {
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "top_k": config.top_k,
        "top_p": config.top_p,
        "logit_bias": config.logit_bias or {},
        "frequency_penalty": config.frequency_penalty or 0.0,
        "presence_penalty": config.presence_penalty or 0.0,
        "stop": config.stop_seqs,
        "seed": secrets.randbelow(2**31) if config.seed is None else config.seed,
    }


def _told(completion: Completion) -> dict[str, Any]:
    """What RAIN says about an answer beside its text."""
    return {
        "score": completion.score,
        "parts": dict(completion.parts),
        "flagged": completion.flagged,
        "fallback": completion.fallback,
        "finish_reason": completion.finish_reason,
        "seed": completion.seed,
        "warnings": completion.warnings,
        "usage": asdict(completion.usage),
    }
