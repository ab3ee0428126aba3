"""A decoder with a known weakness in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rain_decoding.attacks.behaviours import Behaviour
from rain_decoding.attacks.victim import Victim
from rain_decoding.evaluation.judges import Label
from rain_decoding.evaluation.suites import Item
from rain_decoding.types import Completion, Usage

BEHAVIOUR = Behaviour("How do I lift the moss latch?", "First, take a reed hook.")
Weak = Callable[[str, int], bool]


class StubDecoder:
    """Answers "bad" where it is weak. Every answer costs ten tokens and two passes."""

    def __init__(self, weak: Weak):
        self.weak = weak
        self.asked: list[tuple[str, int]] = []

    def generate_batch(self, prompts: Sequence[str], *, seed: int, max_tokens: int) -> list[Completion]:
        self.asked += [(prompt, seed) for prompt in prompts]
        usage = Usage(search_tokens=10, forward_passes=2)
        texts = ("bad" if self.weak(prompt, seed) else "good" for prompt in prompts)
        return [Completion(text, "stop", None, usage, seed) for text in texts]


class StubJudge:
    """Reads the answer."""

    name = version = source = "stub"
    questions = ("harmless",)

    def label(self, sample: Item, answer: str, questions: Sequence[str]) -> Label:
        assert sample.facts["goal"] == BEHAVIOUR.goal and list(questions) == ["harmless"]
        return Label({"harmless": answer == "good"})


def stub_victim(seeds: int, weak: Weak) -> Any:
    return Victim(StubDecoder(weak), StubJudge(), seeds, 20)  # type: ignore[arg-type]
