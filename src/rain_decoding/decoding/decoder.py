"""`RainDecoder` and `PlainDecoder`: generate, stream, and generate in batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from types import NoneType
from typing import Any, ClassVar, Self

from rain_decoding.backends import load_backend
from rain_decoding.backends.base import Backend, Closing
from rain_decoding.backends.names import model_of_environment
from rain_decoding.calibration.saved import load_calibration
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.decoding.asynchronous import AsyncStream
from rain_decoding.decoding.decision_session import DecisionSession, GoodAnswer, Judged
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL
from rain_decoding.decoding.plain_session import PlainSession
from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.session import Options, Progress, Session, check_sampling, token_limit
from rain_decoding.decoding.thinking_session import ThinkingSession, check_tags
from rain_decoding.decoding.tool_calls import ToolCallSession, as_read, without_control_text
from rain_decoding.errors import ConfigError, InputError, RainError
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.scheduler import AnyTask, Scheduler
from rain_decoding.self_evaluation.combination import Combined, Part
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.decisions import Asked, Decision, Question, Questioner
from rain_decoding.self_evaluation.embedding import EMBEDDERS, load_embedder
from rain_decoding.self_evaluation.evaluator import Evaluator
from rain_decoding.self_evaluation.loading import (
    ASK,
    AUTO,
    PRINCIPLE,
    JudgeChoice,
    choose_judge,
    has_labels,
    is_proven,
    load_evaluator,
)
from rain_decoding.self_evaluation.reading.reader import Told, logged
from rain_decoding.types import Commit, Completion, Judgement, Message

PromptLike = str | Sequence[Message | Mapping[str, Any]] | Prompt

EVALUATORS = 32
"""Criteria of single requests that a decoder keeps ready."""
UNPROVEN = {"rewind_margin": 0.2, "plain_margin": 0.5}
"""What of the configuration is changed for a judge of whom it is not known that they beat a coin: small differences
between their scores say nothing."""

NO_SEARCH = (
    "It judges and flags, and proposes nothing else: the judge 'ask' searches all the same, 'rain calibrate' says what "
    "may judge better"
)


class Stream(Iterator[Commit]):
    """Commits as they are made. `completion` is there after the iteration; `close` stops the work early."""

    def __init__(self, session: Session):
        self.completion: Completion | None = None
        self._session, self._task = session, session.task
        self._scheduler = Scheduler.of(session.backend)

    @classmethod
    def start(cls, session: Session) -> Stream:
        """Start a session on its backend's scheduler; its commits."""
        stream = cls(session)
        stream._scheduler.start(stream._task)
        return stream

    def __next__(self) -> Commit:
        while not self._task.events:
            if self._task.done:
                self._finish()
                raise StopIteration
            try:
                self._scheduler.advance([self._task], events=True)
            except BaseException:
                self.close()
                raise
        return self._task.events.popleft()

    @property
    def progress(self) -> Progress:
        """How far it is; may be asked from any thread."""
        return self._session.progress

    def _finish(self) -> None:
        if self.completion is None:
            self.completion = self._session.collect()

    def close(self) -> None:
        """Stop; what was committed so far becomes the completion, with finish_reason "cancelled"."""
        if not self._task.done:
            self._scheduler.cancel(self._task)
        if self._task.error is None:
            self._finish()
        else:
            self._session.finish()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.completion is None:
            self._scheduler.abandon(self.close)


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
        return self.open_session(prompt, _options(options))

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
        parsed = _options(options)
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


def _options(options: Mapping[str, Any]) -> Options:
    try:
        return Options(**options)
    except TypeError as error:
        names = ", ".join(Options.__dataclass_fields__)
        raise InputError(str(error).replace("Options.__init__() ", ""), hint=f"options: {names}") from error


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


class RainDecoder(Decoder):
    """Rewindable auto-regressive inference (Algorithm 1) with a frozen model.

    Where `config` names a calibration, its values replace those of `config` and the form of the question; the attribute
    `config` then shows the values in use.

    Args:
        backend: The model that generates.
        criterion: A name, a TOML file, a combination of names (see `self_evaluation.combination_syntax`), a
            `Criterion`, or another `Evaluator` in place of self-evaluation; None: the criterion of `config`.
        principle: In place of `criterion`: one sentence about a good answer.
        config: How to search; None: the preset `balanced`.
        embedding: One of `self_evaluation.embedding.EMBEDDERS`, for the similarity update and widening.
        prompt_format: How prompts are encoded, see `PromptFormat`.
        thinking: Let a reasoning model reason before it answers. The reasoning is not searched, and is kept apart.
        judge: "ask" asks the model about its text, "read" reads its hidden states by a probe, which is fitted first if
            need be, "auto" reads where that surely beats a coin, and else asks; for other forms, and models, see
            `self_evaluation.loading.choose_judge`. Or a judge with labels of its own, as named in
            `self_evaluation.loading.EVALUATORS`. None: "ask" with the paper's strategy, as there, else "auto".
        refusal: The text that the fallback "refusal" returns.
        told: Hears how many examples of how many are read while a probe is fitted; by default the log says that one is.

    Raises:
        ConfigError: The judge or the embedding is unknown or does not fit the criterion, or the calibration is for
            another model or criterion.
        CriterionError: The criterion is unknown or broken, or does not fit the judge.
        BackendError: The model that judges cannot be loaded.
    """

    def __init__(
        self,
        backend: Backend,
        criterion: str | Criterion | Evaluator | None = None,
        config: SearchConfig | None = None,
        *,
        principle: str | None = None,
        embedding: str = "hashing",
        prompt_format: PromptFormat = "auto",
        thinking: bool = False,
        judge: str | Backend | JudgeChoice | None = None,
        refusal: str = DEFAULT_REFUSAL,
        told: Told = logged,
    ):
        check_loaded(type(self).__name__, backend)
        EMBEDDERS.find(embedding)
        if principle is not None:
            criterion = _in_a_sentence(principle, criterion)
        self.backend = backend
        self.config = config or SearchConfig.preset(DEFAULT_PRESET)
        self.calibration = load_calibration(self.config.calibration) if self.config.calibration else None
        if self.calibration:
            self.config = self.calibration.applied(self.config)
        self.refusal = refusal
        self._is_usual_judge = judge is None
        if judge is None:
            judge = ASK if self.config.strategy == "paper" else AUTO
        if not self._is_usual_judge and not isinstance(criterion, (str, Criterion, NoneType)):
            raise ConfigError(
                f"{criterion.name} is an evaluator and judges by itself",
                hint="pass a criterion, or leave out the judge",
            )
        if isinstance(judge, str) and has_labels(judge):
            criterion, judge = _only_by_labels(judge, criterion), None
        self._judge = choose_judge(judge, backend, prompt_format=prompt_format, told=told)
        self.loaded = self._judge.others if isinstance(judge, str) else ()
        if self.calibration and self._judge.choose:
            self._judge = JudgeChoice()  # it was found for asking
        self.shared_judge = self._judge if self._judge.independent else None
        """Who judges, where that is another model: further decoders may have the same."""
        self.questioner = Questioner(self._judge.asked or backend)
        """The model that is asked, for questions of any kind."""
        self._known_evaluator: Callable[..., Evaluator] = lru_cache(maxsize=EVALUATORS)(
            self._requested_evaluator
        )
        self.criterion = criterion
        """What the caller named; None: `config` says what judges."""
        self.evaluator = self._evaluator(criterion or self.config.criterion)
        if doubt := getattr(self.evaluator, "doubt", ""):
            warnings.warn(f"{doubt}. {NO_SEARCH}", stacklevel=2)
        self.embedding = embedding
        self.embedder = load_embedder(embedding, backend) if self.config.needs_embeddings else None
        self.prompt_format, self.thinking = prompt_format, thinking
        self._minds_plain_text = False

    @property
    def judge_is_proven(self) -> bool:
        """Whether the judge was found to beat a coin with this model, by a check, a probe or a calibration."""
        return self._is_proven(self.evaluator)

    def _is_proven(self, evaluator: Evaluator) -> bool:
        """The calibration is about the decoder's own judge."""
        calibrated = self.calibration is not None and self.calibration.verdict == "better"
        return (calibrated and evaluator is self.evaluator) or is_proven(evaluator)

    @property
    def search_config(self) -> SearchConfig:
        """How requests are searched that its own judge judges: `config`, and what is changed of it for that judge."""
        return self._config_for(self.evaluator)

    @classmethod
    def from_model(
        cls,
        model: str | None = None,
        criterion: str | Criterion | Evaluator | None = None,
        *,
        principle: str | None = None,
        judge: str | Backend | JudgeChoice | None = None,
        preset: str = DEFAULT_PRESET,
        engine_options: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Self:
        """Load a model and make a decoder with it, as the command line does.

        Args:
            model: Its name: `demo`, `gguf:FILE`, `hf:FOLDER`, ...; see `load_backend`. None: that of the environment
                variable `RAIN_MODEL`.
            criterion: What is judged by; None: that of the preset.
            principle: In place of `criterion`: one sentence about a good answer.
            judge: As for the class.
            preset: How to search; a `config` among the `arguments` goes before it.
            engine_options: How to load the model, as for `load_backend`.
            arguments: What else the class takes.

        Returns:
            The decoder. `close`, or the end of a `with` block, gives its models back.

        Raises:
            BackendError: A model cannot be loaded.
            ConfigError: The preset is unknown, or as for the class.
            InputError: No model is named.
        """
        known = {"criterion": criterion, "principle": principle, "judge": judge}
        chosen = {"config": SearchConfig.preset(preset), **arguments, **known}
        if "embedding" in arguments:
            EMBEDDERS.find(arguments["embedding"])
        decoder = super().from_model(model, engine_options=engine_options, **chosen)
        if "config" not in arguments:
            decoder.mind_plain_text()
        return decoder

    def mind_plain_text(self) -> None:
        """Where it is not known that the judge of a request beats a coin, keep plain text unless it is clearly bad, and
        another clearly better."""
        self._minds_plain_text = True

    def judged_by(self, criterion: str | Criterion | Evaluator) -> RainDecoder:
        """The same decoder with another judge."""
        other = copy(self)
        other.criterion, other.evaluator = criterion, self._evaluator(criterion)
        return other

    def judged_also_by(self, criterion: str) -> RainDecoder:
        """The same decoder, to which an answer is only as good as its own judge and a further criterion both find it.

        Raises what reading the criterion raises.
        """
        further = self._known_evaluator(criterion)
        if further.name == self.evaluator.name:
            return self
        other = copy(self)
        other.evaluator = Combined("min", [Part(self.evaluator), Part(further)])
        return other

    def with_config(self, config: SearchConfig) -> RainDecoder:
        """A decoder that searches by `config`, with the same judge; by the criterion of `config` if none was named.

        By the paper's strategy the model is asked, unless another judge was named.
        """
        judge: str | JudgeChoice | None = self._judge
        if not isinstance(self.criterion, (str, Criterion, NoneType)):
            judge = None  # it judges by itself
        elif self._is_usual_judge and config.strategy == "paper":
            judge = JudgeChoice(server=self._judge.server)
        other = RainDecoder(
            self.backend,
            self.criterion,
            config,
            judge=judge,
            refusal=self.refusal,
            embedding=self.embedding,
            prompt_format=self.prompt_format,
            thinking=self.thinking,
        )
        other._minds_plain_text = self._minds_plain_text
        return other

    def _requested_evaluator(self, criterion: str | Criterion | Evaluator) -> Evaluator:
        """For a criterion of a single request. No probe is fitted for it unasked: everybody would wait."""
        judge = JudgeChoice() if self._judge.choose else self._judge
        return self._evaluator(criterion, judge, pinned=False)

    def _evaluator(
        self, criterion: str | Criterion | Evaluator, judge: JudgeChoice | None = None, *, pinned: bool = True
    ) -> Evaluator:
        config = self.config
        if self.calibration:
            criterion = self.calibration.asked(self._judge.asked or self.backend, criterion)
        return load_evaluator(
            self.backend,
            criterion,
            votes=config.votes,
            min_label_mass=config.min_label_mass,
            order_margin=config.order_margin,
            read_surely=config.read_surely,
            cheapest=config.placement == "cheapest" and self.calibration is None,
            judge=judge or self._judge,
            pinned=pinned,
        )

    def evaluator_for(self, options: Options) -> Evaluator:
        """What judges this request."""
        if options.principle is not None:
            return self._known_evaluator(f"{PRINCIPLE} {options.principle}")
        return self.evaluator if options.criterion is None else self._known_evaluator(options.criterion)

    def open_session(self, prompt: PromptLike, options: Options) -> RainSession:
        if self.config.strategy == "paper":
            options.refuse_sampling("the paper's presets draw")
        built = self.build_prompt(prompt, options)
        if built.thinking:
            check_tags(self.backend)
        limit = token_limit(built, self.backend, options.max_tokens, overrun=self.config.overrun)
        kind = ThinkingSession if built.thinking else RainSession
        evaluator = self.evaluator_for(options)
        return kind(
            self.backend,
            built,
            options,
            limit,
            self.backend.new_owner(),
            config=self._config_for(evaluator),
            criterion=evaluator.name,
            judge=evaluator.conversation(built),
            embedder=self.embedder,
            refusal=self.refusal,
        )

    def _config_for(self, evaluator: Evaluator) -> SearchConfig:
        """The configuration; by a judge that is no better than a coin nothing is searched, and bad text is flagged."""
        if self.config.strategy != "verify-first":
            return self.config
        changes: dict[str, Any] = {}
        if self._minds_plain_text and not self._is_proven(evaluator):
            changes |= UNPROVEN
        if getattr(evaluator, "doubt", ""):
            changes["proposals"] = ()
        return self.config.with_changes(**changes) if changes else self.config

    def open_message(
        self, body: Mapping[str, Any], *, prompt: Prompt | None = None, **options: Any
    ) -> ToolCallSession:
        """As `open`, for a message that the model's own server makes and that is judged in one piece.

        `body` has OpenAI's `messages`, which may hold tool calls and their results, and what else the server is to
        know: `tools`, `tool_choice`, `response_format`. See `SearchConfig.message_attempts`. `prompt` are the messages
        as the judge reads them, where they were read before.
        """
        parsed = _options(options)
        body = without_control_text(body, self.backend.codec)
        prompt = prompt or self.build_prompt(as_read(body["messages"]))
        built = replace(prompt, markers=(), uncut=True)
        evaluator = self.evaluator_for(parsed)
        return ToolCallSession(
            self.backend,
            built,
            parsed,
            token_limit(built, self.backend, parsed.max_tokens, overrun=0),
            self.backend.new_owner(),
            config=self.config,
            criterion=evaluator.name,
            judge=evaluator.conversation(built),
            embedder=None,
            refusal=self.refusal,
            body=body,
        )

    def open_decisions(self, questions: Sequence[Asked | GoodAnswer], **options: Any) -> DecisionSession:
        """As `open`, for questions that are answered with probabilities; those `Asked` come from its `questioner`."""
        judged = [
            question if isinstance(question, Asked) else self._judged(question) for question in questions
        ]
        nothing = Prompt("text", (), "", (), (), strip=False)
        owner = self.backend.new_owner()
        session = (self.backend, nothing, _options(options), 1, owner)
        return DecisionSession(*session, questions=judged, questioner=self.questioner)

    def _judged(self, question: GoodAnswer) -> Judged:
        options = Options(criterion=question.criterion, principle=question.principle)
        evaluator = self.evaluator_for(options)
        return Judged(evaluator, evaluator.conversation(question.prompt), question.answer)

    def decide(self, text: str, questions: Sequence[Question]) -> list[Decision]:
        """Answer questions about a text, which is read once.

        Args:
            text: What the questions are about.
            questions: What is asked of the model, or of the one that judges where that is another.

        Returns:
            A decision for each question.

        Raises:
            InputError: A question has too many options, or does not fit into the context with the text.
            CriterionError: The model has no tokens for the labels of the options.
            BackendError: The model failed.
        """
        session = self.open_decisions(self.questioner.asked(text, questions))
        with Stream.start(session) as stream:
            for _ in stream:
                pass
        return list(session.decisions)

    def build_prompt(self, prompt: PromptLike, options: Options | None = None) -> Prompt:
        """The prompt as this decoder encodes it."""
        return build_prompt(
            prompt,
            self.backend,
            prompt_format=self.prompt_format,
            stop=options.stop if options else (),
            next_turn_ends=self.config.next_turn_ends,
            thinking=self.thinking,
        )

    def judge(self, prompt: PromptLike, answer: str) -> Judgement:
        """Self-evaluation of any answer to a prompt."""
        owner = self.backend.new_owner()
        conversation = self.evaluator.conversation(self.build_prompt(prompt))
        try:
            return Scheduler.of(self.backend).complete(conversation.judge(answer), owner)
        finally:
            self.backend.finish(owner)
            conversation.close()


def _in_a_sentence(principle: str, criterion: object) -> str:
    """The principle as a criterion's name."""
    if criterion is not None:
        raise ConfigError("criterion and principle exclude each other", hint="pass one of them")
    return f"{PRINCIPLE} {principle}"


def _only_by_labels(classifier: str, criterion: Any) -> str:
    """The classifier as the criterion, where no other one is asked for."""
    if criterion is not None:
        raise ConfigError(
            f"{classifier} judges by its own labels, not by a criterion",
            hint=f'leave out the criterion, or combine both: min(NAME, "{classifier}")',
        )
    return classifier
