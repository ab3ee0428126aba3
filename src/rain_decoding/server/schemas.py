"""Bodies of requests. A field that cannot be honoured is an error that names it; unknown fields are errors, too.

A field that is null is one that is not there: clients send back what they were given, empty fields included. Lists are
read up to their first fault, so that a large wrong body costs no more than a small one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from reprlib import repr as shorten
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from rain_decoding.web.numbers import Number, Whole

LONGEST_PRINCIPLE = 1000
"""Characters."""
MOST_MESSAGES = 4096
MOST_PARTS = 1024
MOST_BIASES = 1024
ROLES = ("system", "developer", "user", "assistant", "tool")
SYSTEM_SEPARATOR = "\n\n"
"""Between messages of the system that are read as one."""


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
Ignored = SkipJsonSchema[Any]
"""Of a message that comes back, or of another kind of server; not read."""


def _kind(value: Any) -> str | None:
    """Which of the two forms a text or a list has. The names are no identifiers, so they are in no field's name."""
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else None


TEXT, LIST = Tag("a text"), Tag("a list")


def either(words: str) -> Discriminator:
    """Tells a text from a list, so that errors are about the form that was chosen."""
    return Discriminator(_kind, custom_error_type="text_or_list", custom_error_message=f"must be {words}")


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        known = {name: data[name] for name in fields if data.get(name) is not None}
        unknown = next(
            (name for name, value in data.items() if value is not None and name not in fields), None
        )
        return known if unknown is None else {**known, unknown: data[unknown]}  # one is enough to be told


class TextPart(Body):
    type: Literal["text"]
    text: Text
    cache_control: Ignored = None
    annotations: Ignored = None


class RefusalPart(Body):
    type: Literal["refusal"]
    refusal: Text

    @property
    def text(self) -> str:
        return self.refusal


def _type(value: Any) -> str:
    return f"a {value.get('type') if isinstance(value, dict) else getattr(value, 'type', None)}"


BY_TYPE = Discriminator(_type)
"""Tells objects apart by their `type`; the tags are "a TYPE", so that they are in no field's name."""


def part(*kinds: str, what: str = "parts") -> BeforeValidator:
    """Refuses parts, or what else it is, of other kinds by their names."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict) or value.get("type") not in kinds:
            kind = value.get("type") if isinstance(value, dict) else value
            raise PydanticCustomError(
                "part",
                "{what} of the type {kind} are not supported; allowed: {kinds}",
                {"what": what, "kind": shorten(kind), "kinds": ", ".join(kinds)},
            )
        return value

    return BeforeValidator(check)


TextParts = Annotated[list[Annotated[TextPart, part("text")]], Field(fail_fast=True, max_length=MOST_PARTS)]
AnswerPart = Annotated[
    Annotated[TextPart, Tag("a text")] | Annotated[RefusalPart, Tag("a refusal")],
    BY_TYPE,
    part("text", "refusal"),
]
AnswerParts = Annotated[list[AnswerPart], Field(fail_fast=True, max_length=MOST_PARTS)]
TEXTS = either("a text or a list of text parts")
Content = Annotated[Annotated[Text, TEXT] | Annotated[TextParts, LIST], TEXTS]
AnswerContent = Annotated[Annotated[Text, TEXT] | Annotated[AnswerParts, LIST], TEXTS]


class CalledFunction(Body):
    name: Text
    arguments: Text
    parsed_arguments: Ignored = None


class ToolCall(Body):
    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Whole | None = None
    cache_control: Ignored = None
    provider_specific_fields: Ignored = None

    def as_sent(self) -> dict[str, Any]:
        """The call in OpenAI's format."""
        return {
            "id": self.id,
            "type": self.type,
            "function": {"name": self.function.name, "arguments": self.function.arguments},
        }


class Turn(Body):
    """What the messages of all roles share. `developer` is read as `system`."""

    role: str
    content: Any
    name: str | None = None
    id: Ignored = None
    cache_control: Ignored = None
    provider_specific_fields: Ignored = None

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
    content: Content


class AssistantMessage(Turn):
    role: Literal["assistant"]
    content: AnswerContent | None = None
    refusal: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=128)] | None = None
    reasoning_content: Ignored = None
    reasoning: Ignored = None
    reasoning_details: Ignored = None
    thinking_blocks: Ignored = None
    annotations: Ignored = None
    parsed: Ignored = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not (self.tool_calls or self.refusal):
            raise ValueError("content is missing")
        return self

    @property
    def text(self) -> str:
        return super().text or self.refusal or ""

    def as_message(self) -> dict[str, Any]:
        calls = [call.as_sent() for call in self.tool_calls or ()]
        return {**super().as_message(), **({"tool_calls": calls} if calls else {})}


class ToolMessage(Turn):
    """What a tool that was called came to."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Text

    def as_message(self) -> dict[str, Any]:
        return {**super().as_message(), "tool_call_id": self.tool_call_id}


def _message(value: Any) -> Any:
    """Says what a message is where it is none."""
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        found = f"the role {shorten(value.get('role'))}" if isinstance(value, dict) else shorten(value)
        raise PydanticCustomError(
            "message",
            "must be an object whose role is one of {roles}, not {found}",
            {"roles": ", ".join(ROLES), "found": found},
        )
    return value


ChatMessage = Annotated[
    AskingMessage | AssistantMessage | ToolMessage, Field(discriminator="role"), BeforeValidator(_message)
]


def joined(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with those of the system that stand first as one, and without empty ones of it."""
    kept = [message for message in messages if message["role"] != "system" or message["content"].strip()]
    leading = list(takewhile(lambda message: message["role"] == "system", kept))
    text = SYSTEM_SEPARATOR.join(message["content"] for message in leading)
    return [*([{"role": "system", "content": text}] if leading else []), *kept[len(leading) :]]


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
    max_search_tokens: Whole | None = Field(default=None, ge=1)
    trace: StrictBool = False
    judged: StrictBool = False
    """Have plain decoding's answer judged, too."""

    @model_validator(mode="after")
    def _one_judge(self) -> RainOptions:
        if self.criterion is not None and self.principle is not None:
            raise ValueError("criterion and principle exclude each other")
        return self


class StreamOptions(Body):
    include_usage: StrictBool = False
    include_obfuscation: StrictBool = False


PENALTIES = ("frequency_penalty", "presence_penalty")
MAY_BE_LEFT_OUT = (
    *PENALTIES,
    "repetition_penalty",
    "top_k",
    "min_p",
    "typical_p",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "store",
)
"""Fields without which an answer is still one to the request: how it is drawn, and what is told beside it."""
LEFT_OUT = "; the operator may have it left out (rain serve --ignore-unsupported)"


def without_unsupported(
    data: dict[str, Any], body: type[BaseModel], *, penalties: bool
) -> tuple[dict[str, Any], list[str]]:
    """An object without those of `MAY_BE_LEFT_OUT` that this body cannot honour as they stand, and their names.

    `penalties` says whether the model can honour these.
    """
    neutral: dict[str, tuple[Any, ...]] = dict(getattr(body, "honoured_if", {}))
    if not penalties:
        neutral |= dict.fromkeys(PENALTIES, (0, 0.0))
    left_out = [
        name
        for name in MAY_BE_LEFT_OUT
        if data.get(name) is not None
        and (name not in body.model_fields or (name in neutral and not _is_one_of(data[name], neutral[name])))
    ]
    return {name: value for name, value in data.items() if name not in left_out}, left_out


def _is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    return any(value == one and type(value) is type(one) for one in values)


def check_neutral(body: BaseModel, honoured_if: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise `ValueError` for a field that is there with another value than those that change nothing."""
    for name, neutral in honoured_if.items():
        value = getattr(body, name, None)
        if value is not None and not _is_one_of(value, neutral):
            way_out = LEFT_OUT if isinstance(body, AnswerBody) and name in MAY_BE_LEFT_OUT else ""
            raise ValueError(f"{name} = {shorten(value)} is not supported{way_out}")


StopList = Annotated[list[StopString], Field(fail_fast=True, max_length=16)]
StopStrings = Annotated[
    Annotated[StopString, TEXT] | Annotated[StopList, LIST], either("a text or a list of at most 16 texts")
]


def _few(value: Any) -> Any:
    """Refuses a large object before each of its entries is read."""
    if isinstance(value, dict) and len(value) > MOST_BIASES:
        raise PydanticCustomError("too_long", "too long", {"max_length": MOST_BIASES})
    return value


class AnswerBody(Body):
    """Asks for an answer, which the operator may have given without what is not supported."""

    @model_validator(mode="before")
    @classmethod
    def _has_none_to_leave_out(cls, data: Any) -> Any:
        for name in MAY_BE_LEFT_OUT if isinstance(data, dict) else ():
            if data.get(name) is not None and name not in cls.model_fields:
                raise ValueError(f"{name} is not supported{LEFT_OUT}")
        return data


class WithoutEffect(AnswerBody):
    """Fields of OpenAI's bodies that are taken, and change nothing of an answer."""

    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class GenerationBody(WithoutEffect):
    """What both kinds of requests may hold."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {"store": (False,)}
    """Fields of OpenAI's API that are taken at these values only (and null), since they change nothing then."""

    model: str
    n: Whole = Field(1, ge=1, le=128)
    stop: StopStrings | None = None
    max_tokens: Whole | None = Field(default=None, ge=1, le=2**31)
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_k: Whole | None = Field(default=None, ge=-1, le=2**31)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    seed: Whole | None = Field(default=None, ge=-(2**63), lt=2**63)
    logit_bias: (
        Annotated[dict[str, Annotated[Number, Field(ge=-100, le=100)]], BeforeValidator(_few)] | None
    ) = Field(default=None, max_length=MOST_BIASES)
    frequency_penalty: Number | None = Field(default=None, ge=-2, le=2)
    presence_penalty: Number | None = Field(default=None, ge=-2, le=2)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    rain: RainOptions = RainOptions()
    # Taken at its neutral value only.
    store: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _check(self) -> GenerationBody:
        check_neutral(self, self.honoured_if)
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
    def most_probable(self) -> int | None:
        """`top_k`, where vLLM's clients say -1 for all tokens."""
        return None if self.top_k is None else max(self.top_k, 0)

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

    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)
    max_completion_tokens: Whole | None = Field(default=None, ge=1, le=2**31)
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    parallel_tool_calls: StrictBool | None = None
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
        return {"messages": self.conversation, **given}

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages in OpenAI's format, as they are read."""
        return joined([message.as_message() for message in self.messages])

    @property
    def prompts(self) -> list[Any]:
        """The one conversation."""
        return [self.conversation]

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


PromptList = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)]
Prompts = Annotated[Annotated[Text, TEXT] | Annotated[PromptList, LIST], either("a text or a list of texts")]


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        **GenerationBody.honoured_if,
        "best_of": (1,),
        "echo": (False,),
        "logprobs": (),
        "suffix": ("",),
    }

    prompt: Prompts
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
