"""Bodies of OpenAI's Responses, and the chat that they ask for."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from rain_decoding.server.protocols.chat import as_chat, tool, tool_call
from rain_decoding.server.schemas import (
    BY_TYPE,
    LIST,
    MOST_MESSAGES,
    MOST_PARTS,
    TEXT,
    Body,
    ChatBody,
    Ignored,
    JsonObject,
    RainOptions,
    RefusalPart,
    StreamOptions,
    Text,
    WithoutEffect,
    check_neutral,
    either,
    part,
)
from rain_decoding.web.numbers import Number, Whole


class TextPart(Body):
    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Ignored = None
    logprobs: Ignored = None
    parsed: Ignored = None
    prompt_cache_breakpoint: Ignored = None


Part = Annotated[
    Annotated[TextPart, Tag("a input_text")]
    | Annotated[TextPart, Tag("a output_text")]
    | Annotated[RefusalPart, Tag("a refusal")],
    BY_TYPE,
    part("input_text", "output_text", "refusal"),
]
Parts = Annotated[list[Part], Field(fail_fast=True, max_length=MOST_PARTS)]
Content = Annotated[Annotated[Text, TEXT] | Annotated[Parts, LIST], either("a text or a list of parts")]


def text_of(content: str | list[TextPart | RefusalPart]) -> str:
    """The text of what is one or has parts of it."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class Item(Body):
    """What all items of an input share; they may come back as an answer had them."""

    id: Ignored = None
    status: Ignored = None


class MessageItem(Item):
    type: Literal["message"]
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    phase: Ignored = None


class FunctionCall(Item):
    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    namespace: Ignored = None
    parsed_arguments: Ignored = None


class FunctionOutput(Item):
    type: Literal["function_call_output"]
    call_id: Text
    output: Content


class ReasoningItem(Item):
    """Comes back with an answer, and is not read."""

    type: Literal["reasoning"]
    summary: Ignored = None
    content: Ignored = None
    encrypted_content: Ignored = None


def _typed(value: Any) -> Any:
    """A message need not say that it is one."""
    if isinstance(value, dict) and "role" in value and value.get("type") is None:
        return {**value, "type": "message"}
    return value


AnyItem = Annotated[
    Annotated[MessageItem, Tag("a message")]
    | Annotated[FunctionCall, Tag("a function_call")]
    | Annotated[FunctionOutput, Tag("a function_call_output")]
    | Annotated[ReasoningItem, Tag("a reasoning")],
    BY_TYPE,
    part("message", "function_call", "function_call_output", "reasoning", what="items"),
    BeforeValidator(_typed),
]
Items = Annotated[list[AnyItem], Field(fail_fast=True, min_length=1, max_length=MOST_MESSAGES)]
Input = Annotated[Annotated[Text, TEXT] | Annotated[Items, LIST], either("a text or a list of items")]


def as_messages(said: str | list[AnyItem]) -> list[dict[str, Any]]:
    """An input as messages of a chat: calls that follow each other, or an answer's text, are one message.

    `developer` is read as `system`.
    """
    if isinstance(said, str):
        return [{"role": "user", "content": said}]
    messages: list[dict[str, Any]] = []
    for item in said:
        if isinstance(item, MessageItem):
            role = "system" if item.role == "developer" else item.role
            messages.append({"role": role, "content": text_of(item.content)})
        elif isinstance(item, FunctionOutput):
            output = text_of(item.output)
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": output})
        elif isinstance(item, FunctionCall):
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            calls = messages[-1].setdefault("tool_calls", [])
            calls.append(tool_call(item.call_id, item.name, item.arguments))
    return messages


class FunctionTool(Body):
    type: Literal["function"]
    name: Text = Field(min_length=1, max_length=128)
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: StrictBool | None = None

    @property
    def chat(self) -> dict[str, Any]:
        """In the format of chats."""
        return tool(self.name, self.description, self.parameters, self.strict)


Tools = Annotated[
    list[Annotated[FunctionTool, part("function", what="tools")]], Field(fail_fast=True, max_length=256)
]


class FunctionChoice(Body):
    type: Literal["function"]
    name: Text


class Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = None
    description: Text | None = None
    schema_: JsonObject | None = Field(default=None, alias="schema")
    strict: StrictBool | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """The base class goes by the fields' names, and one has an alias."""
        return (
            {key: value for key, value in data.items() if value is not None}
            if isinstance(data, dict)
            else data
        )

    @model_validator(mode="after")
    def _has_schema(self) -> Format:
        if (self.type == "json_schema") != (self.schema_ is not None and self.name is not None):
            raise ValueError("name and schema are required for the type json_schema, and allowed only there")
        return self

    @property
    def chat(self) -> dict[str, Any]:
        """In the format of chats."""
        if self.type != "json_schema":
            return {"type": self.type}
        described = self.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
        return {"type": self.type, "json_schema": described}


class TextOptions(Body):
    format: Format | None = None
    verbosity: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _check(self) -> TextOptions:
        check_neutral(self, {"verbosity": ("medium",)})
        return self


class ResponsesBody(WithoutEffect):
    """`POST /v1/responses`. `seed` is ours: their API has none."""

    honoured_if: ClassVar[dict[str, tuple[Any, ...]]] = {
        "previous_response_id": (),
        "conversation": (),
        "prompt": (),
        "background": (False,),
        "store": (False,),
        "include": ([], ["reasoning.encrypted_content"]),
        "truncation": ("disabled",),
        "top_logprobs": (0,),
        "reasoning": ({},),
        "moderation": (),
        "context_management": ([],),
    }

    model: str
    input: Input
    instructions: Text | None = None
    max_output_tokens: Whole | None = Field(default=None, ge=1, le=2**31)
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    seed: Whole | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    text: TextOptions | None = None
    tools: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: StrictBool | None = None
    rain: RainOptions = RainOptions()
    # Taken at their neutral values only.
    previous_response_id: SkipJsonSchema[Any] = None
    conversation: SkipJsonSchema[Any] = None
    prompt: SkipJsonSchema[Any] = None
    background: SkipJsonSchema[Any] = None
    store: SkipJsonSchema[Any] = None
    include: SkipJsonSchema[Any] = None
    truncation: SkipJsonSchema[Any] = None
    top_logprobs: SkipJsonSchema[Any] = None
    reasoning: SkipJsonSchema[Any] = None
    moderation: SkipJsonSchema[Any] = None
    context_management: SkipJsonSchema[Any] = None

    @model_validator(mode="after")
    def _check(self) -> ResponsesBody:
        check_neutral(self, self.honoured_if)
        return self

    @property
    def asked(self) -> ChatBody:
        """The chat that it asks for. Raises `RequestValidationError`."""
        choice = self.tool_choice
        if isinstance(choice, FunctionChoice):
            choice = {"type": "function", "function": {"name": choice.name}}  # type: ignore[assignment]
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return as_chat(
            model=self.model,
            messages=[*system, *as_messages(self.input)],
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stream=self.stream,
            stream_options=self.stream_options,
            response_format=self.text.format.chat if self.text and self.text.format else None,
            tools=[tool.chat for tool in self.tools] if self.tools else None,
            tool_choice=choice,
            parallel_tool_calls=self.parallel_tool_calls,
            rain=self.rain,
        )
