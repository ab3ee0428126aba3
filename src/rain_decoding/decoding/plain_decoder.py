"""`PlainDecoder`: ordinary decoding, the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from rain_decoding.backends.base import Backend
from rain_decoding.decoding.decoder import Decoder, PromptLike, check_loaded
from rain_decoding.decoding.plain_session import PlainSession
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.decoding.session import Options, Session, check_sampling, token_limit
from rain_decoding.prompting import PromptFormat, build_prompt


@dataclass(eq=False)
class PlainDecoder(Decoder):
    """Ordinary decoding with a KV cache: the baseline.

    Args:
        backend: The model.
        temperature: In [0, 100]; 0 decodes greedily. A request may have another.
        top_k: Draw from so many of the most probable tokens, >= 0; 0: all. A request may have another.
        top_p: Draw from the most probable tokens that hold this probability together, in (0, 1]. A request may have
            another.
        prompt_format: How prompts are encoded, see `PromptFormat`.
        judge: The decoder whose judge judges the finished answer; None: nobody does.

    Raises:
        InputError: A value is out of range.
    """

    backend: Backend
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    prompt_format: PromptFormat = "auto"
    judge: RainDecoder | None = None

    def __post_init__(self) -> None:
        check_loaded(type(self).__name__, self.backend)
        check_sampling(self.temperature, self.top_k, self.top_p)

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        if self.judge is None:
            options.refuse_criterion("plain decoding is not judged")
        built = build_prompt(prompt, self.backend, prompt_format=self.prompt_format, stop=options.stop)
        limit = token_limit(built, self.backend, options.max_tokens, overrun=0)
        return PlainSession(
            self.backend,
            built,
            options,
            limit,
            self.backend.new_owner(),
            temperature=self.temperature if options.temperature is None else options.temperature,
            top_k=self.top_k if options.top_k is None else options.top_k,
            top_p=self.top_p if options.top_p is None else options.top_p,
            judge=self.judge.evaluator_for(options).conversation(built) if self.judge else None,
            config=self.judge.config if self.judge else None,
        )
