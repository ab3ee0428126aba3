"""`RainDecoder`: the search as a decoder, by a judge of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from types import NoneType
from typing import Any, Self

from rain_decoding.backends.base import Backend
from rain_decoding.backends.directions import Direction
from rain_decoding.calibration.saved import load_calibration
from rain_decoding.config import DEFAULT_PRESET, SearchConfig
from rain_decoding.decoding.decision_session import DecisionSession, GoodAnswer, Judged
from rain_decoding.decoding.decoder import Decoder, PromptLike, check_loaded
from rain_decoding.decoding.fallback import DEFAULT_REFUSAL
from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.session import Options, token_limit
from rain_decoding.decoding.stream import Stream
from rain_decoding.decoding.thinking_session import ThinkingSession, check_tags
from rain_decoding.decoding.tool_calls import ToolCallSession, as_read, without_control_text
from rain_decoding.errors import ConfigError
from rain_decoding.prompting import Prompt, PromptFormat, build_prompt
from rain_decoding.scheduler import Scheduler
from rain_decoding.self_evaluation.combination import Combined, Part
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.decisions import Asked, Decision, Question, Questioner
from rain_decoding.self_evaluation.embedding import EMBEDDERS, load_embedder
from rain_decoding.self_evaluation.evaluator import ConversationEvaluator, Evaluator
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
from rain_decoding.self_evaluation.reading.direction import probe_of
from rain_decoding.self_evaluation.reading.reader import Told, logged
from rain_decoding.self_evaluation.reading.strength import steering
from rain_decoding.types import Judgement

EVALUATORS = 32
"""Criteria of single requests that a decoder keeps ready."""
UNPROVEN = {"rewind_margin": 0.2, "plain_margin": 0.5}
"""What of the configuration is changed for a judge of whom it is not known that they beat a coin: small differences
between their scores say nothing."""

NO_SEARCH = (
    "It judges and flags, and proposes nothing else: the judge 'ask' searches all the same, 'rain calibrate' says what "
    "may judge better"
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
        if self.search_config.steers:  # how strongly is found now, while no answer waits for it
            conversation = self.evaluator.conversation(self.build_prompt("Hello"))
            self._towards(conversation)
            conversation.close()

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
        config, judge = self._config_for(evaluator), evaluator.conversation(built)
        return kind(
            self.backend,
            built,
            options,
            limit,
            self.backend.new_owner(),
            config=config,
            criterion=evaluator.name,
            judge=judge,
            embedder=self.embedder,
            refusal=self.refusal,
            towards=self._towards(judge) if config.steers else None,
        )

    def _towards(self, judge: ConversationEvaluator) -> Callable[[float], Direction] | None:
        """What `steered` shifts states along, as strongly as moves what `config` asks for; None: it cannot."""
        probe = probe_of(judge)
        if probe is None or not self.backend.capabilities.shifts:
            return None
        return steering(self.backend, probe, self.config.steering, prompt_format=self.prompt_format)

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
        parsed = Options.named(options)
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
        session = (self.backend, nothing, Options.named(options), 1, owner)
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
