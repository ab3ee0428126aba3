"""Bodies of requests. A field that cannot be honoured is an error that names it; unknown fields are errors, too."""

from __future__ import annotations

import json
from reprlib import repr as shorten
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

LONGEST_PRINCIPLE = 1000
"""Characters."""

Number = Annotated[float, Field(allow_inf_nan=False)]


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("contains an unpaired surrogate") from error
    return text


Text = Annotated[str, AfterValidator(_unicode)]


def _as_json(value: Any) -> str:
    """The value as it will be sent. Raises `ValueError`."""
    try:
        return _unicode(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except RecursionError as error:
        raise ValueError("too deeply nested") from error


def _sendable(value: dict[str, Any]) -> dict[str, Any]:
    _as_json(value)
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_sendable)]
"""Goes to another server as it is."""
StopString = Annotated[Text, Field(min_length=1, max_length=1000)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextPart(Body):
    type: Literal["text"]
    text: Text


class CalledFunction(Body):
    name: Text
    arguments: Text


class ToolCall(Body):
    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Turn(Body):
    """What the messages of all roles share. `developer` is read as `system`."""

    role: str
    content: Text | list[TextPart] | None
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def as_message(self) -> dict[str, Any]:
        """The turn in OpenAI's format."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text}


class AskingMessage(Turn):
    role: Literal["system", "developer", "user"]
    content: Text | list[TextPart]


class AssistantMessage(Turn):
    role: Literal["assistant"]
    content: Text | list[TextPart] | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    reasoning_content: str | None = None
    """Of an answer of ours that comes back; not read."""
    # What a client's copy of an answer may hold, empty.
    annotations: SkipJsonSchema[Annotated[list[Any], Field(max_length=0)] | None] = None
    audio: SkipJsonSchema[None] = None
    function_call: SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not (self.tool_calls or self.refusal):
            raise ValueError("content is missing")
        return self

    @property
    def text(self) -> str:
        return super().text or self.refusal or ""

    def as_message(self) -> dict[str, Any]:
        calls = [call.model_dump(exclude={"index"}) for call in self.tool_calls or ()]
        return {**super().as_message(), **({"tool_calls": calls} if calls else {})}


class ToolMessage(Turn):
    """What a tool that was called came to."""

    role: Literal["tool"]
    content: Text | list[TextPart]
    tool_call_id: Text

    def as_message(self) -> dict[str, Any]:
        return {**super().as_message(), "tool_call_id": self.tool_call_id}


ChatMessage = Annotated[AskingMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Passed(BaseModel):
    """Goes to the model's server as it is, fields that only that server knows included."""

    model_config = ConfigDict(extra="allow")


class Function(Passed):
    name: Text = Field(min_length=1, max_length=128)
    parameters: JsonObject | None = None


class Tool(Passed):
    type: Literal["function"]
    function: Function


class FunctionName(Body):
    name: Text


class ToolChoice(Body):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Passed):
    name: Text
    schema_: JsonObject | None = Field(default=None, alias="schema")


class ResponseFormat(Passed):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is required for the type json_schema, and allowed only there")
        return self


class RainOptions(Body):
    """What a request may ask of the search, where the operator allows it."""

    criterion: str | None = None
    principle: Text | None = Field(default=None, max_length=LONGEST_PRINCIPLE)
    preset: str | None = None
    threshold: Number | None = Field(default=None, ge=-1, le=1)
    max_seconds: Number | None = Field(default=None, gt=0)
    max_search_tokens: int | None = Field(default=None, ge=1)
    trace: bool = False

    @model_validator(mode="after")
    def _one_judge(self) -> RainOptions:
        if self.criterion is not None and self.principle is not None:
            raise ValueError("criterion and principle exclude each other")
        return self


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False


class GenerationBody(Body):
    """What both kinds of requests may hold."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "store": (False,),
    }
    """Fields of OpenAI's API that are taken at these values only (and null), since they change nothing then."""

    model: str
    n: int = Field(1, ge=1, le=128)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31)
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] | None = Field(
        default=None, max_length=1024
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    rain: RainOptions = RainOptions()
    # Taken, and without effect on the answer.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    # Taken at their neutral values only.
    frequency_penalty: SkipJsonSchema[Any] = None
    presence_penalty: SkipJsonSchema[Any] = None
    store: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _check(self) -> GenerationBody:
        for name, neutral in self.honoured_if.items():
            value = getattr(self, name, None)
            if value is not None and value not in neutral:
                raise ValueError(f"{name} = {shorten(value)} is not supported")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream = true")
        for token in self.logit_bias or ():
            if not (token.isascii() and token.isdigit() and len(token) < 10):
                raise ValueError(f"logit_bias names {token!r}, which is not a token id")
        return self

    @property
    def stop_strings(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def bias(self) -> dict[int, float]:
        return {int(token): value for token, value in (self.logit_bias or {}).items()}


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        **GenerationBody.honoured_if,
        "logprobs": (False,),
        "top_logprobs": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "reasoning_effort": (),
        "verbosity": (),
    }

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31)
    tools: list[Tool] | None = Field(default=None, max_length=256)
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None
    logprobs: SkipJsonSchema[Any] = None
    top_logprobs: SkipJsonSchema[Any] = None
    functions: SkipJsonSchema[Any] = None
    function_call: SkipJsonSchema[Any] = None
    modalities: SkipJsonSchema[Any] = None
    audio: SkipJsonSchema[Any] = None
    prediction: SkipJsonSchema[Any] = None
    web_search_options: SkipJsonSchema[Any] = None
    reasoning_effort: SkipJsonSchema[Any] = None
    verbosity: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _one_limit(self) -> ChatBody:
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) > 1:
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        return self

    @model_validator(mode="after")
    def _passed_on(self) -> ChatBody:
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools, and there are none")
        _as_json(self.passed)
        return self

    @property
    def whole(self) -> str:
        """The field for which the answer has to be made by the model's own server and judged whole; "" for none."""
        if self.tools:
            return "tools"
        if self.response_format is not None and self.response_format.type != "text":
            return "response_format"
        return "messages" if any(map(_by_tools, self.messages)) else ""

    @property
    def passed(self) -> dict[str, Any]:
        """What goes to that server."""
        fields = {"tools", "tool_choice", "response_format", "parallel_tool_calls"}
        given = self.model_dump(include=fields, exclude_unset=True, exclude_none=True, by_alias=True)
        return {"messages": [message.as_message() for message in self.messages], **given}

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def prompts(self) -> list[Any]:
        """The one conversation."""
        return [[message.as_message() for message in self.messages]]

    @property
    def prompt_bytes(self) -> int:
        return len(_as_json(self.passed).encode()) if self.whole else self._text_bytes

    @property
    def _text_bytes(self) -> int:
        return sum(len(message.text.encode()) for message in self.messages)


def _by_tools(message: Turn) -> bool:
    return isinstance(message, ToolMessage) or (
        isinstance(message, AssistantMessage) and bool(message.tool_calls)
    )


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        **GenerationBody.honoured_if,
        "best_of": (1,),
        "echo": (False,),
        "logprobs": (),
        "suffix": ("",),
    }

    prompt: Text | Annotated[list[Text], Field(min_length=1)]
    best_of: SkipJsonSchema[Any] = None
    echo: SkipJsonSchema[Any] = None
    logprobs: SkipJsonSchema[Any] = None
    suffix: SkipJsonSchema[Any] = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def prompts(self) -> list[Any]:
        """The texts to continue."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def prompt_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.prompts)
