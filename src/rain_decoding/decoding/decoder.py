"""`Decoder`: generate, stream, and generate in batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar, Self

from rain_decoding.backends import load_backend
from rain_decoding.backends.base import Backend, Closing
from rain_decoding.backends.names import model_of_environment
from rain_decoding.decoding.asynchronous import AsyncStream
from rain_decoding.decoding.session import Options, Session
from rain_decoding.decoding.stream import Stream
from rain_decoding.errors import InputError, RainError
from rain_decoding.prompting import Prompt, PromptFormat
from rain_decoding.scheduler import AnyTask, Scheduler
from rain_decoding.types import Completion, Message

PromptLike = str | Sequence[Message | Mapping[str, Any]] | Prompt


class Decoder(Closing):
    """What the decoders share. Subclasses open sessions."""

    backend: Backend
    prompt_format: PromptFormat = "auto"
    loaded: tuple[Closing, ...] = ()
    """Models, and servers of decisions, that were loaded for this decoder, which `close` gives back; others are the
    caller's."""
    concurrency: ClassVar[int] = 16
    """Requests of a batch that run at the same time, unless said otherwise."""

    @classmethod
    def from_model(
        cls, model: str | None = None, *, engine_options: Mapping[str, Any] | None = None, **arguments: Any
    ) -> Self:
        """Load a model and make a decoder with it, which gives it back when it is closed.

        Args:
            model: Its name, see `load_backend`; None: that of the environment variable `RAIN_MODEL`.
            engine_options: How to load it, as for `load_backend`.
            arguments: What else the decoder takes.

        Returns:
            The decoder.

        Raises:
            BackendError: The model cannot be loaded.
            ConfigError: An argument does not fit.
            InputError: No model is named.
        """
        make: Callable[..., Self] = cls
        backend = load_backend(model_of_environment() if model is None else model, **(engine_options or {}))
        try:
            decoder = make(backend, **arguments)
        except BaseException:
            backend.close()
            raise
        decoder.loaded += (backend,)
        return decoder

    def close(self) -> None:
        """Give back what was loaded for this decoder. May be called again."""
        for each in self.loaded:
            each.close()

    def open_session(self, prompt: PromptLike, options: Options) -> Session:
        """A request whose `task` is for the caller to start on the backend's scheduler, and to `collect` in the end.

        Raises what `generate` raises for bad input.
        """
        raise NotImplementedError

    def open(self, prompt: PromptLike, **options: Any) -> Session:
        """As `open_session`, with the options by name."""
        return self.open_session(prompt, Options.named(options))

    def generate(self, prompt: PromptLike, **options: Any) -> Completion:
        """Answer a prompt.

        Args:
            prompt: A text or a list of chat messages, the last one from the user.
            options: Fields of `Options`, such as `max_tokens`, `seed` and `stop`.

        Returns:
            The text with its tokens, its finish reason and what it cost.

        Raises:
            InputError: The prompt or an option is invalid, or the prompt does not fit into the context.
            BackendError: The model failed.
        """
        stream = self.stream(prompt, **options)
        with stream:
            for _ in stream:
                pass
        assert stream.completion is not None
        return stream.completion

    def stream(self, prompt: PromptLike, **options: Any) -> Stream:
        """Answer a prompt piece by piece.

        Args:
            prompt: As for `generate`.
            options: As for `generate`.

        Returns:
            An iterator of each `Commit` as it is made, which raises `BackendError` when the model fails;
            `completion` is set after the last one.

        Raises:
            InputError: As for `generate`.
        """
        return Stream.start(self.open(prompt, **options))

    async def agenerate(self, prompt: PromptLike, **options: Any) -> Completion:
        """As `generate`, for coroutines: many may wait at once, and each step of the model serves all of them.

        Cancelling it stops the work. The `cancelled` of the options is called in another thread.
        """
        async with self.astream(prompt, **options) as stream:
            async for _ in stream:
                pass
        assert stream.completion is not None
        return stream.completion

    def astream(self, prompt: PromptLike, **options: Any) -> AsyncStream:
        """As `stream`, for coroutines. Bad input is raised by the first step of the iteration."""
        return AsyncStream(self.backend, lambda: self.open(prompt, **options), self.concurrency)

    def generate_batch(self, prompts: Sequence[PromptLike], **options: Any) -> list[Completion]:
        """Answer many prompts, all their pending requests in one batch.

        Args:
            prompts: Prompts as for `generate`.
            options: As for `generate`, the same for all prompts; or `concurrency`, see `iterate_batch`.

        Returns:
            The completions in the order of the prompts.

        Raises:
            InputError: As for `iterate_batch`.
            BackendError: The model failed.
        """
        results = dict(self.iterate_batch(prompts, **options))
        return [results[index] for index in range(len(prompts))]

    def iterate_batch(
        self, prompts: Iterable[PromptLike], *, concurrency: int | None = None, **options: Any
    ) -> Iterator[tuple[int, Completion]]:
        """Answer many prompts and yield each completion as it is finished.

        Args:
            prompts: Prompts as for `generate`; read only as fast as they are answered.
            concurrency: Prompts answered at the same time, >= 1; None: the decoder's `concurrency`.
            options: As for `generate`, the same for all prompts.

        Yields:
            The index of a prompt and its completion.

        Raises:
            InputError: As for `generate`, or `concurrency` is below 1.
            BackendError: The model failed.
        """
        with closing(self.attempt_batch(prompts, (), concurrency=concurrency, **options)) as results:
            for index, found in results:
                assert isinstance(found, Completion)
                yield index, found

    def attempt_batch(
        self,
        prompts: Iterable[PromptLike],
        tolerated: tuple[type[RainError], ...],
        *,
        concurrency: int | None = None,
        **options: Any,
    ) -> Generator[tuple[int, Completion | RainError], None, None]:
        """As `iterate_batch`, but an error of a kind that is `tolerated` is the result of its prompt alone."""
        opened: dict[AnyTask, tuple[int, Session]] = {}
        refused: list[tuple[int, RainError]] = []
        parsed = Options.named(options)
        width = self.concurrency if concurrency is None else concurrency
        if width < 1:
            raise InputError(f"concurrency = {width!r}", hint="use a whole number >= 1")

        def tasks() -> Iterator[AnyTask]:
            for index, prompt in enumerate(prompts):
                try:
                    session = self.open_session(prompt, parsed)
                except tolerated as error:
                    refused.append((index, error))
                    continue
                opened[session.task] = (index, session)
                yield session.task

        try:
            with closing(Scheduler.of(self.backend).run(tasks(), width)) as finished:
                for task in finished:
                    index, session = opened.pop(task)
                    found: Completion | RainError
                    try:
                        found = session.collect()
                    except tolerated as error:
                        found = error
                    except RainError as error:
                        error.add_note(f"This was prompt {index} of the batch.")
                        raise
                    yield index, found
            yield from refused
        finally:
            for _, session in opened.values():
                session.finish()


def check_loaded(decoder: str, backend: object) -> None:
    """Raise `InputError` where a model's name stands in place of the model."""
    if isinstance(backend, str):
        raise InputError(
            f"{backend!r} is a model's name, and {decoder} takes a loaded model",
            hint=f"use {decoder}.from_model({backend!r})",
        )
