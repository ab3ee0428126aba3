"""From a conversation to a score in [-1, 1]."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import log, tanh
from typing import Literal, NamedTuple, Protocol

import numpy as np

from rain_decoding.backends.base import Backend, Codec
from rain_decoding.errors import CriterionError
from rain_decoding.programs import Program, Together, ask
from rain_decoding.prompting import Prompt
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.guidance import Guidance
from rain_decoding.self_evaluation.rendering import Renderer, common_prefix, judged_answer
from rain_decoding.types import Array, Judgement, LabelProbabilities, Tokens, Unanswered

Votes = Literal["hard", "soft", "debiased"]
"""How label probabilities become a score, see `SearchConfig.votes`."""

BOTH_ORDERS = 1000.0
"""An `order_margin` that no log-odds reach."""

Judging = Program[Judgement]
"""A judgement in progress."""


class ConversationEvaluator(Protocol):
    """Judges answers to one prompt. Judges that keep something of their own have `retain` and `close`, too."""

    prompt: Prompt
    warnings: list[str]
    free: bool = False
    """Judgements of text that the decoder's model has generated cost no forward."""

    @property
    def guidance(self) -> Guidance | None:
        """What a model is told that is to follow what is judged by, where there is something."""
        return None

    @property
    def question_tokens(self) -> int:
        """Tokens that the decoder's model reads for a judgement beside those of the answer; 0: not known."""
        return 0

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        """Judge an answer; `tokens` are those of prompt and answer, where generation has them."""
        ...

    def held(self, answer: str) -> list[Tokens]:
        """Token sequences of the decoder's model that judgements of longer answers will share with this one's."""
        ...

    def retain(self, answer: str) -> None:
        """All answers to come begin with this one: what belongs to others may go."""
        return

    def close(self) -> None:
        """No answer will come: give back everything. May be called again."""
        return


def warn_once(judge: ConversationEvaluator, message: str) -> None:
    """Give a warning that the judge has not given yet."""
    if message not in judge.warnings:
        judge.warnings.append(message)
        warnings.warn(message, stacklevel=2)


class Evaluator(Protocol):
    """Anything that judges answers: self-evaluation, or another judge in its place."""

    name: str

    def conversation(self, prompt: Prompt) -> ConversationEvaluator:
        """A judge for answers to one prompt."""
        ...


def description(evaluator: Evaluator) -> str:
    """Who judges and how well, in one line, as far as the evaluator can say it by `describe`."""
    describe = getattr(evaluator, "describe", None)
    return evaluator.name if describe is None else str(describe())


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """Where the labels stand in the vocabulary.

    `forms` has, per option, the token ids of its surface forms; `dropped` is how many tokens at the end of an
    encoded prompt merge with the label and are left out of it.
    """

    forms: tuple[tuple[int, ...], ...]
    dropped: int


def find_label_tokens(
    codec: Codec, rendered: tuple[str, bool], labels: Sequence[Sequence[str]]
) -> LabelTokens:
    """The first token of each label in the context where it stands.

    Raises `CriterionError` when two options start with the same token, or a label with none of its own.
    """
    text, start = rendered
    prompt = codec.encode(text, start=start)
    encoded = [[codec.encode(text + form, start=start) for form in forms] for forms in labels]
    boundary = min(common_prefix(prompt, tokens) for forms in encoded for tokens in forms)
    # Without a label, the prompt goes on with this token, if some label merges with the prompt's end.
    bare = prompt[boundary : boundary + 1]
    firsts = [[tokens[boundary : boundary + 1] for tokens in forms] for forms in encoded]
    hint = "choose labels that differ in their first token, such as A and B, or end the lead differently"
    for forms, starts in zip(labels, firsts, strict=True):
        if bare in starts:
            form = forms[starts.index(bare)]
            raise CriterionError(
                f"the label {form!r} has no token of its own after {text[-20:]!r}", hint=hint
            )
    for (one, first), (other, second) in combinations(enumerate(firsts), 2):
        if set(first) & set(second):
            raise CriterionError(
                f"the labels {list(labels[one])} and {list(labels[other])} start with the same token "
                "in this vocabulary",
                hint=hint,
            )
    return LabelTokens(
        tuple(tuple(dict.fromkeys(token for (token,) in starts)) for starts in firsts), len(prompt) - boundary
    )


def encode_continuation(codec: Codec, text: str) -> Tokens:
    """Token ids of a text that stands after another: without the space that some tokenizers put first."""
    alone, both = codec.encode("a", start=False), codec.encode(f"a{text}", start=False)
    return both[len(alone) :] if both[: len(alone)] == alone else codec.encode(text, start=False)


class OrderResult(NamedTuple):
    """What one option order says: its vote (None below the label mass), the probability of each statement, and what
    all forms of the labels hold together."""

    vote: float | None
    probabilities: tuple[float, ...]
    mass: float


class SelfEvaluator:
    """Judges answers by one criterion with one model.

    `votes`: "hard" scores each order +1, 0 or -1 (paper), "soft" the difference of the label probabilities,
    "debiased" that difference from the mean log-odds of the orders.
    Labels that hold less than `min_label_mass` in [0, 1] together make a judgement unscored. `order_margin` >= 0 in
    nats: see `SearchConfig.order_margin`. What all judge prompts begin with is held for good if it is `pinned`.
    """

    def __init__(
        self,
        backend: Backend,
        criterion: Criterion,
        *,
        votes: Votes = "hard",
        min_label_mass: float = 0.0,
        order_margin: float = BOTH_ORDERS,
        pinned: bool = True,
    ):
        self.backend, self.criterion, self.name = backend, criterion, criterion.name
        self.votes, self.min_label_mass, self.order_margin = votes, min_label_mass, order_margin
        self.doubt = ""
        """Why its judgements are not to be searched by, where that was found (see `self_check`)."""
        self.remarks: list[str] = []
        """Why the model is asked, and what is known of its answers."""
        self.proven = False
        """Whether it was found to know good from bad with this model, or the model was made to be asked."""
        self.renderer = Renderer(criterion, backend.codec)
        self.labels = find_label_tokens(backend.codec, self.renderer.sample("a", "a"), criterion.labels)
        self.question_length = 0
        """Tokens behind the conversation in a judge prompt, where the question comes last."""
        if criterion.placement != "suffix":
            self._measure_prompt(pinned)

    def _measure_prompt(self, pinned: bool) -> None:
        """Pin what all judge prompts begin with, if that is wanted, and count what comes behind the conversation."""
        texts = (("a", "a"), ("a", "a ..."), ("Z", "Z"))
        one, longer, other = (self.renderer.encode(self.renderer.sample(*text)) for text in texts)
        # The last common token may merge with what follows in another answer.
        self.question_length = len(one) - common_prefix(one, longer) + 1
        least = self.renderer.encode(self.renderer.sample("a", "a", shots=False))
        if len(least) > self.backend.context_length:
            raise CriterionError(
                f"a judge prompt of the criterion {self.name!r} has at least {len(least)} tokens, and "
                f"{self.backend.name} a context of {self.backend.context_length}",
                hint="use another criterion, a longer context, or another judge: --judge MODEL",
            )
        shared = one[: common_prefix(one, other)]
        if pinned and shared and len(shared) < self.backend.context_length:
            self.backend.pin(shared)

    def describe(self) -> str:
        """Who judges and how well, in one line."""
        return ", ".join([f"{self.name}: {self.backend.name} is asked", *self.remarks])

    def conversation(self, prompt: Prompt) -> ConversationJudge:
        """A judge for answers to one prompt. It remembers what it judged."""
        return ConversationJudge(self, prompt)

    def score(self, probabilities: Array, order: Sequence[int]) -> OrderResult:
        """What one order says. `probabilities` are those of all surface forms, option by option; of several forms the
        most probable counts."""
        options, position = [], 0
        for forms in self.labels.forms:
            options.append(float(max(probabilities[position : position + len(forms)])))
            position += len(forms)
        by_statement = [0.0] * len(order)
        for place, statement in enumerate(order):
            by_statement[statement] = options[place]
        mass = float(np.sum(probabilities))
        vote = None if mass < self.min_label_mass else _vote(by_statement, self.votes)
        return OrderResult(vote, tuple(by_statement), mass)

    def is_sure(self, results: Sequence[OrderResult]) -> bool:
        """Whether one order's result says "good" so clearly that no preference for a label can be the reason."""
        first, *others = results
        return not others and first.vote is not None and log_odds(first.probabilities) > self.order_margin


def log_odds(probabilities: Sequence[float]) -> float:
    """Log-odds in nats of the positive statement against the negative; half of a neutral one counts for each."""
    positive, negative = probabilities[:2]
    shared = sum(probabilities[2:]) / 2 + sys.float_info.min
    return log(positive + shared) - log(negative + shared)


def score(probabilities: Sequence[Sequence[float]], votes: Votes) -> float:
    """The score in [-1, 1] that the label probabilities of all orders make (`Judgement.probabilities`)."""
    return _combined([_vote(order, votes) for order in probabilities], votes)


def _vote(probabilities: Sequence[float], votes: Votes) -> float:
    """Vote of one order from the probabilities of the positive, the negative and perhaps the neutral statement.

    Votes are scores, but for "debiased": log-odds.
    """
    positive, negative = probabilities[:2]
    total = sum(probabilities)
    if votes == "debiased":
        return log_odds(probabilities)
    if votes == "soft":
        return (positive - negative) / total if total else -1.0
    if len(probabilities) == 3 and probabilities[2] > max(positive, negative):
        return 0.0
    return 1.0 if positive > negative else -1.0


def _combined(orders: Sequence[float], votes: Votes) -> float:
    """The score in [-1, 1] that the votes of all orders make."""
    mean = float(np.mean(orders))
    # What one label gains by itself is added to the log-odds of one order and taken from those of the other.
    return tanh(mean / 2) if votes == "debiased" else mean


class ConversationJudge(ConversationEvaluator):
    """Judges answers to one prompt, and no text twice that is the same as the judge sees it."""

    def __init__(self, evaluator: SelfEvaluator, prompt: Prompt):
        self.evaluator, self.prompt = evaluator, prompt
        self.warnings: list[str] = []
        self._memo: dict[str, Judgement] = {}
        self._shared: dict[str, Tokens] = {}
        """Per judged text, what prompts for longer answers begin with."""

    @property
    def guidance(self) -> Guidance | None:
        return self.evaluator.criterion.guidance

    @property
    def question_tokens(self) -> int:
        """See `ConversationEvaluator`: of one order, if one may do."""
        evaluator = self.evaluator
        length, orders = evaluator.question_length, evaluator.criterion.orders
        if evaluator.criterion.placement == "suffix":
            question = evaluator.renderer.encode(evaluator.renderer.suffix(self.prompt, "a", orders[0]))
            length = max(0, len(question) - len(self.prompt.tokens))
        return length if evaluator.order_margin < BOTH_ORDERS else length * len(orders)

    def judge(self, answer: str, tokens: Tokens | None = None) -> Judging:
        """Judge an answer; `tokens` are those of prompt and answer, where generation has them."""
        renderer = self.evaluator.renderer
        seen = judged_answer(self.evaluator.criterion, self.prompt, answer)
        text = renderer.conversation(self.prompt, seen)
        if text in self._memo:
            return replace(self._memo[text], remembered=True)
        found = self.prompts(seen, answer, tokens)
        if found is None:
            judgement = Judgement(None, text, problem="the judge prompt does not fit into the context")
        else:
            prompts, shown = found
            self._shared[text] = prompts[0][: self._conversation_length(prompts[0], tokens)]
            judgement = yield from self._ask(shown, prompts, tokens)
            if not judgement.probabilities:  # no answer came; another may come later
                return judgement
        self._memo[text] = judgement
        return judgement

    def held(self, answer: str) -> list[Tokens]:
        """What judge prompts for answers that begin with `answer` have in common, as token sequences."""
        renderer, criterion = self.evaluator.renderer, self.evaluator.criterion
        if criterion.placement == "suffix":
            return []
        seen = judged_answer(criterion, self.prompt, answer)
        if (known := self._shared.get(renderer.conversation(self.prompt, seen))) is not None:
            return [known]
        one, other = (
            renderer.encode(renderer.question(self.prompt, longer, criterion.orders[0]))
            for longer in (seen, f"{seen} ...")
        )
        # The last common token may merge with what follows in another answer.
        return [one[: max(common_prefix(one, other) - 1, 1)]]

    def _conversation_length(self, prompt: Tokens, tokens: Tokens | None) -> int:
        """How many tokens of a judge prompt come before the question: what other prompts may share."""
        if self.evaluator.criterion.placement == "suffix":
            return common_prefix(prompt, tokens or ())
        return len(prompt) - self.evaluator.question_length

    def _ask(self, text: str, prompts: list[Tokens], tokens: Tokens | None) -> Judging:
        """Ask for the labels in all orders at once, or, where the last order alone may do, in that one first."""
        evaluator = self.evaluator
        labels = evaluator.labels
        flat = tuple(token for forms in labels.forms for token in forms)
        waiting = [
            (order, prompt[: len(prompt) - labels.dropped])
            for prompt, order in zip(prompts, evaluator.criterion.orders, strict=True)
        ]
        conversation = self._conversation_length(prompts[0], tokens)
        results: list[OrderResult] = []
        while waiting:
            # The positive statement comes second in the last order: a preference for the first label counts against it.
            asked = waiting if results or evaluator.order_margin >= BOTH_ORDERS else waiting[-1:]
            later = waiting[: -len(asked)]
            # What the questions have in common is forwarded once.
            keep = max([conversation, *(common_prefix(asked[0][1], prompt) for _, prompt in later)])
            replies = yield from ask(
                Together([LabelProbabilities(prompt, flat, keep) for _, prompt in asked])
            )
            new: list[OrderResult] = []
            for reply, (order, _) in zip(replies, asked, strict=True):
                if isinstance(reply, Unanswered):
                    warn_once(self, f"a text could not be judged: {reply.problem}")
                    return Judgement(None, text, problem=reply.problem, unreached=reply.unreached)
                new.append(evaluator.score(reply, order))
            results = new + results
            waiting = [] if evaluator.is_sure(results) else later
        probabilities = tuple(result.probabilities for result in results)
        masses = tuple(result.mass for result in results)
        votes = [result.vote for result in results if result.vote is not None]
        if len(votes) < len(results):
            problem = "the labels have less probability than min_label_mass"
            return Judgement(None, text, probabilities, masses, problem)
        return Judgement(_combined(votes, evaluator.votes), text, probabilities, masses)

    def prompts(self, seen: str, answer: str, tokens: Tokens | None) -> tuple[list[Tokens], str] | None:
        """Token ids of the judge prompts, one per order, and what they show of the conversation.

        Where there is no room, the few-shot text is left out, then the oldest turns; never the last of them, nor
        anything of the answer. None: even so there is none.
        """
        criterion, renderer = self.evaluator.criterion, self.evaluator.renderer
        if criterion.placement == "suffix":
            prompts = [self._suffix_prompt(seen, answer, tokens, order) for order in criterion.orders]
            return (prompts, renderer.conversation(self.prompt, seen)) if self._fit(prompts) else None
        turns = len(self.prompt.turns)
        drops = range(1) if self.prompt.format == "text" else renderer.droppable(turns)
        for shots, dropped in [*([(True, 0)] if renderer.has_shots else []), *((False, n) for n in drops)]:
            prompts = [
                renderer.encode(renderer.question(self.prompt, seen, order, dropped=dropped, shots=shots))
                for order in criterion.orders
            ]
            if self._fit(prompts):
                if renderer.has_shots and not shots:
                    warn_once(self, "the judge was shown no examples, for lack of room")
                if dropped:
                    warn_once(
                        self,
                        f"the judge did not see the first {dropped} of {turns} earlier turns, for lack of room",
                    )
                return prompts, renderer.conversation(self.prompt, seen, dropped=dropped)
        return None

    def _suffix_prompt(self, seen: str, answer: str, tokens: Tokens | None, order: Sequence[int]) -> Tokens:
        """Generation's own tokens and the question, or all encoded anew where the judge sees another text."""
        renderer, codec = self.evaluator.renderer, self.evaluator.backend.codec
        text, start = renderer.suffix(self.prompt, seen, order)
        own = self.prompt.text + answer
        if tokens is None or self.prompt.format == "chat" or not text.startswith(own):
            return codec.encode(text, start=start)
        while tokens and tokens[-1] in codec.eos:
            tokens = tokens[:-1]
        return tokens + encode_continuation(codec, text[len(own) :])

    def _fit(self, prompts: Sequence[Tokens]) -> bool:
        return all(len(prompt) <= self.evaluator.backend.context_length for prompt in prompts)
