"""Watch a buffer, roll it back, change the context, go on: the two published twins of verify first, after their ideas.

Neither is their code: judge, prompts and sharing of computation are ours, so that only the method differs from RAIN's.
"""

from __future__ import annotations

from dataclasses import dataclass

from rain_decoding.decoding.baselines.guided import GuidedDecoder, in_conversation
from rain_decoding.decoding.baselines.judged import JudgedSession
from rain_decoding.decoding.baselines.refining import CRITIQUE
from rain_decoding.decoding.session import Options, Steps
from rain_decoding.decoding.text_stream import answer_text
from rain_decoding.programs import Program
from rain_decoding.prompting import Prompt
from rain_decoding.search.randomness import derive_seed
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import encode_continuation
from rain_decoding.types import Decoded, FinishReason, Message, Tokens

RETRIES = 5
"""Times that a buffer is written again at most (CARE)."""


Scored = tuple[float | None, Decoded]
"""What was decoded, and the score in [-1, 1] of the answer that ends with it; None where it could not be judged."""


@dataclass(frozen=True, slots=True)
class Context:
    """What stands before the answer while it is decoded: a prompt, and words of the model's own that are not shown."""

    prompt: Prompt
    thought: Tokens = ()


@dataclass(eq=False, kw_only=True)
class RollbackSession(JudgedSession):
    """Decodes `buffer` tokens, has the answer up to them judged, and releases them where it is good.

    Where it is bad (score <= 0) they are rolled back, `intervene` gives another context, and they are written anew:
    greedily, then by seeds. After `RETRIES` of that the best judged buffer is released. What follows is decoded in the
    last context; what cannot be judged is not released. Subclasses give `intervene`.
    """

    guide: Criterion
    buffer: int

    def intervene(self, bad: Tokens) -> Program[Context]:
        """The context to go on in after a bad answer so far."""
        raise NotImplementedError

    def steps(self) -> Steps[FinishReason]:
        context = Context(self.prompt)
        while (left := self.limit - len(self.answer)) > 0:
            (self.score, decoded), context = yield from self._written(context, min(self.buffer, left))
            if self.score is None:
                return "unjudged"
            yield self.commit(decoded.tokens, value=self.score)
            if decoded.reason == "stop":
                return "stop"
            if not decoded.tokens:
                break
        return "length"

    def _written(self, context: Context, count: int) -> Program[tuple[Scored, Context]]:
        """The buffer that is released, with its score, and the context to go on in."""
        tried: list[Scored] = []
        for attempt in range(RETRIES + 1):
            seed = derive_seed(self.options.seed, self.prompt.tokens + self.answer, "buffer", attempt)
            drawn = seed if attempt > 1 else None
            said = context.thought + self.answer
            decoded = yield from self.decode(context.prompt, said, limit=count, seed=drawn)
            score = (yield from self.verdict(self.answer + decoded.tokens)).score
            tried.append((score, decoded))
            if score is None or score > 0:
                return tried[-1], context
            self.usage.rewinds += 1
            if attempt < RETRIES:
                context = yield from self.intervene(self.answer + decoded.tokens)
        return max(tried, key=lambda one: one[0] or 0.0), context


CRITIQUE_TOKENS = 60
HEED = (
    "(An earlier draft of the answer was criticised: {} Heed this, do not speak of the draft, and decline where "
    "nothing good can be said.)"
)


@dataclass(eq=False, kw_only=True)
class CritiqueSession(RollbackSession):
    """The model criticises its text; the criticism stands behind the request from then on."""

    def intervene(self, bad: Tokens) -> Program[Context]:
        said = answer_text(self.backend.codec, self.prompt, bad)
        asked = Message("user", CRITIQUE.format(*self.guide.statements))
        talk = [*self.prompt.messages, Message("assistant", said), asked]
        question = in_conversation(self.backend, self.prompt, talk)
        decoded = yield from self.decode(question, limit=CRITIQUE_TOKENS)
        critique = answer_text(self.backend.codec, question, decoded.tokens)
        *before, request = self.prompt.messages
        heeded = Message("user", f"{request.content}\n\n{HEED.format(critique)}")
        return Context(in_conversation(self.backend, self.prompt, [*before, heeded]))


REFLECTION = (
    "Let me check what I am about to say: {} I must not go on like that. Here is what I say instead: "
)


@dataclass(eq=False, kw_only=True)
class ReflectionSession(RollbackSession):
    """Everything that is not released is taken back, and the model's turn begins with a reflection on it."""

    def intervene(self, bad: Tokens) -> Program[Context]:
        text = REFLECTION.format(self.guide.statements[1])
        yield from ()  # a program, though it asks for nothing
        return Context(self.prompt, encode_continuation(self.backend.codec, text))


class RollbackDecoder(GuidedDecoder):
    """Decodes by a `RollbackSession`. Subclasses name its kind and the tokens of its buffer."""

    kind: type[RollbackSession]
    buffer: int

    def session(self, prompt: Prompt, options: Options, limit: int) -> JudgedSession:
        in_conversation(self.backend, prompt, prompt.messages)
        judge, owner = self.evaluator.conversation(prompt), self.backend.new_owner()
        return self.kind(
            self.backend,
            prompt,
            options,
            limit,
            owner,
            judge=judge,
            guide=self.guide,
            buffer=self.buffer,
        )


class CritiqueDecoder(RollbackDecoder):
    """After CARE (Hu et al. 2025, arXiv 2509.06982): a guard watches a buffer of 40 tokens; what it finds bad is rolled
    back, the model criticises it, and goes on with the criticism in its context; up to five times a buffer.

    Arguments and errors are those of `GuidedDecoder`.
    """

    kind, buffer = CritiqueSession, 40


class ReflectionDecoder(RollbackDecoder):
    """After Progressive Self-Reflection (Phan et al. 2025, arXiv 2510.01270): at intervals (32 tokens) the text is
    judged; from a bad one decoding backtracks, and goes on behind a reflection in the model's own turn.

    Arguments and errors are those of `GuidedDecoder`.
    """

    kind, buffer = ReflectionSession, 32
