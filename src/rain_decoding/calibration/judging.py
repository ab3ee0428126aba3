"""Has a model judge labelled answers: many at once, by several forms of the question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rain_decoding.backends.base import Backend, Codec
from rain_decoding.calibration.labelled import LabelledAnswer
from rain_decoding.errors import ContextLengthError
from rain_decoding.prompting import PromptFormat, build_prompt
from rain_decoding.scheduler import results_of
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.self_evaluation.evaluator import Judging, SelfEvaluator
from rain_decoding.self_evaluation.question_forms import in_form, usual_forms
from rain_decoding.types import Judgement

CONCURRENCY = 32
"""Judgements that run at the same time."""


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A labelled answer (its place among all is `index`), and how it was judged by one form of the question.

    Every option order was asked, and nothing is unscored for its label mass.
    """

    index: int
    answer: LabelledAnswer
    form: str
    judgement: Judgement


def judge_answers(
    backend: Backend,
    criterion: Criterion,
    answers: Sequence[LabelledAnswer],
    *,
    forms: Sequence[str] | None = None,
    prompt_format: PromptFormat = "auto",
    concurrency: int = CONCURRENCY,
) -> Iterator[JudgedAnswer]:
    """Judge every answer by every form (None: the usual ones) and yield each as it is done.

    They come in about the order of the answers.
    An answer whose prompt does not fit into the context is unscored. Raises `ConfigError` for an unknown form, and what
    the backend raises.
    """
    forms = usual_forms(criterion, backend.codec) if forms is None else forms
    evaluators = {
        form: SelfEvaluator(backend, in_form(criterion, form, backend.codec), votes="debiased")
        for form in forms
    }
    too_long: list[JudgedAnswer] = []

    def programs() -> Iterator[tuple[tuple[int, str], Judging]]:
        for index, answer in enumerate(answers):
            try:
                prompt = build_prompt(answer.messages, backend, prompt_format=prompt_format)
            except ContextLengthError as error:
                unscored = Judgement(None, answer.answer, problem=str(error))
                too_long.extend(JudgedAnswer(index, answer, form, unscored) for form in forms)
                continue
            for form, evaluator in evaluators.items():
                yield (index, form), evaluator.conversation(prompt).judge(answer.answer)

    for (index, form), judgement in results_of(backend, programs(), concurrency):
        yield JudgedAnswer(index, answers[index], form, judgement)
    yield from too_long


def fresh_tokens(codec: Codec, criterion: Criterion, judged: JudgedAnswer) -> int:
    """About how many tokens a judgement by a criterion forwards of a text that generation holds.

    The question, once per option order; with the question in the prefix's place, the conversation again.
    """
    asked = (f"{criterion.separator}{criterion.ask(order)}\n{criterion.lead}" for order in criterion.orders)
    read_again = [judged.judgement.text] if criterion.placement == "prefix" else []
    return sum(len(codec.encode(text, start=False)) for text in (*asked, *read_again))
