"""Reasoning before an answer: decoded plainly and kept apart from the answer, which is searched."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rain_decoding.backends.base import Backend
from rain_decoding.backends.chat_template import THINKING_END, THINKING_START
from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.session import Steps
from rain_decoding.decoding.text_stream import TextStream
from rain_decoding.errors import UnsupportedError
from rain_decoding.programs import Program, ask
from rain_decoding.prompting import opens_thinking
from rain_decoding.search.randomness import derive_seed
from rain_decoding.types import Decode, FinishReason, Stop, Tokens

REASONING_PIECE = 64
"""Tokens of reasoning decoded at once: what a budget that ends meanwhile loses at most."""


def check_tags(backend: Backend) -> None:
    """Raise `UnsupportedError` where the end of reasoning would leave no trace in the text."""
    codec = backend.codec
    if THINKING_END not in codec.decode(codec.encode(f"a{THINKING_END}", start=False)):
        raise UnsupportedError(
            f"{backend.name} writes {THINKING_END} as a control token, so its end cannot be told from the text",
            hint="turn thinking off",
        )


@dataclass(eq=False, kw_only=True)
class ThinkingSession(RainSession):
    """Lets a reasoning model reason first, by plain decoding; the answer after the closing tag is searched.

    Reasoning is sampled at temperature 1 unless the request has another. Where the prompt does not open it, the
    most probable beginning tells whether the model reasons at all. The judge never sees it, nor is it streamed.
    """

    def steps(self) -> Steps[FinishReason]:
        before = len(self.prompt.tokens)
        if opens_thinking(self.prompt.text) or (yield from self._begins_with_reasoning()):
            reason = yield from self._reason()
            if reason is not None:
                return reason
            prompt, codec = self.prompt, self.backend.codec
            self.prompt = replace(
                prompt,
                tokens=prompt.tokens + self.reasoning_tokens,
                text=prompt.text + codec.decode(self.reasoning_tokens),
            )
            self.limit -= len(self.prompt.tokens) - before
            self.judge.prompt = self.prompt
            self.stream = TextStream(codec, self.prompt)
        return (yield from super().steps())

    def _begins_with_reasoning(self) -> Program[bool]:
        """Whether the model opens reasoning by itself; what it opens it with becomes `reasoning_tokens`."""
        prompt = self.prompt
        tokens: Tokens = ()
        while len(tokens) < min(self.limit, len(THINKING_START)):
            begun = prompt.tokens + tokens
            stop = Stop(start=len(prompt.tokens))
            decoded = yield from ask(Decode(begun, 1, stop=stop, logit_bias=self.options.bias))
            tokens += decoded.tokens
            text = self.backend.codec.decode(tokens).lstrip()
            if text.startswith(THINKING_START):
                self.reasoning_tokens = tokens
                return True
            if decoded.reason == "stop" or not THINKING_START.startswith(text):
                break
        return False

    def _reason(self) -> Program[FinishReason | None]:
        """Decode on to the closing tag. Returns why the text ends before it, if it does."""
        options, prompt = self.options, self.prompt
        temperature = 1.0 if options.temperature is None else options.temperature
        while (left := self.limit - len(self.reasoning_tokens)) > 0:
            text = prompt.tokens + self.reasoning_tokens
            piece = Decode(
                text,
                min(REASONING_PIECE, left),
                seed=derive_seed(options.seed, text, "reasoning") if temperature else None,
                temperature=temperature or 1.0,
                top_k=options.top_k or 0,
                top_p=1.0 if options.top_p is None else options.top_p,
                stop=Stop((THINKING_END,), len(prompt.tokens)),
                logit_bias=options.bias,
            )
            decoded = yield from ask(piece)
            self.reasoning_tokens += decoded.tokens
            reasoning, ended, _ = self.backend.codec.decode(self.reasoning_tokens).partition(THINKING_END)
            self.reasoning = reasoning.strip().removeprefix(THINKING_START).strip()
            if ended or decoded.reason == "stop":
                return None if ended else "stop"
        return "length"
