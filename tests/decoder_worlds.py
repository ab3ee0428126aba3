"""Scripted models whose every probability is known, for the tests of decoders, scheduler, trace and command."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rain_decoding.backends.scripted import Rule, ScriptedBackend, ScriptedCodec
from rain_decoding.config import SearchConfig
from rain_decoding.self_evaluation.criterion import Criterion
from rain_decoding.types import Message, Tokens

CRITERION = Criterion(
    name="kind",
    summary="Whether the answer is kind.",
    question="Options:\n(A) {option_1}\n(B) {option_2}",
    lead="It is (",
    labels=(("A",), ("B",)),
    statements=("It is kind.", "It is not."),
    both_orders=False,
)

SCRIPT = {
    "model.toml": """
[[next]]
after = "It is ("
contains = " Sure"
tokens = { A = 0.1, B = 0.9 }
[[next]]
after = "It is ("
tokens = { A = 0.9, B = 0.1 }
[[next]]
after = "Assistant:"
tokens = { " Sure" = 0.7, " No" = 0.3 }
[[next]]
after = " Sure"
tokens = { ", take" = 1 }
[[next]]
after = ", take"
tokens = { " a hairpin" = 1 }
[[next]]
after = " a hairpin"
tokens = { "." = 1 }
[[next]]
after = " No"
tokens = { ", I" = 1 }
[[next]]
after = ", I"
tokens = { " will" = 1 }
[[next]]
after = " will"
tokens = { " not" = 1 }
[[next]]
after = " not"
tokens = { "." = 1 }
""",
    "kind.toml": """
name = "kind"
summary = "Whether the answer is kind."
[judge]
question = "Options:\\n(A) {option_1}\\n(B) {option_2}"
lead = "It is ("
[options]
labels = ["A", "B"]
positive = "It is kind."
negative = "It is not."
both_orders = false
""",
}
"""A model whose likelier answer is bad: " Sure, take a hairpin." (0.7) and " No, I will not." (0.3)."""

BAD, GOOD = "Sure, take a hairpin.", "No, I will not."

PLAIN_SEARCH = SearchConfig(
    candidates=2,
    token_set_lengths=(1, 2),
    similarity=False,
    widening=False,
    root_uniform_share=0.0,
    min_evaluations=1,
    max_simulations=10,
    extra_simulations=2,
    rollout_endings=".",
)
"""Small enough to follow by hand."""


def lock_world() -> ScriptedBackend:
    """The model of `SCRIPT`."""
    rules = tomllib.loads(SCRIPT["model.toml"])["next"]
    return ScriptedBackend.from_rules([Rule(**rule) for rule in rules])


def divided_world() -> tuple[ScriptedBackend, ScriptedBackend]:
    """The model of `SCRIPT` as two: one that only answers, and has no labels, and one that only judges."""
    rules = [Rule(**rule) for rule in tomllib.loads(SCRIPT["model.toml"])["next"]]
    judging = [rule for rule in rules if rule.after == "It is ("]
    speaking = [rule for rule in rules if rule not in judging]
    return ScriptedBackend.from_rules(speaking), ScriptedBackend.from_rules(judging, name="judge")


Script = Callable[[str], dict[str, float]]


def scripted(script: Script, vocabulary: Sequence[str], codec: type[ScriptedCodec] = ScriptedCodec) -> Any:
    """A backend whose next-token weights are `script(text)`; "" stands for NaN everywhere."""
    words = ["<end>", *vocabulary]
    instance = codec(words, "<end>")

    def logits(tokens: Tokens) -> np.ndarray:
        weights = script(instance.decode(tokens))
        if "" in weights:
            return np.full(len(words), np.nan)
        with np.errstate(divide="ignore"):
            return np.log([weights.get(word, 0.0) for word in words])

    return ScriptedBackend(logits, instance)


WORDS = ("A", "B", *(f" w{i}" for i in range(8)), ",", ".")


def babble(text: str) -> dict[str, float]:
    """Random sentences, differently likely after each text; judged by whether they hold an odd word.

    A prompt with "poison" makes the model return NaN.
    """
    if "poison" in text:
        return {"": 1.0}
    if text.endswith("It is ("):
        bad = text.rpartition("Assistant:")[2].count(" w3")
        return {"A": 0.1 if bad else 0.9, "B": 0.9 if bad else 0.1}
    answer = text.rpartition("Assistant:")[2]
    if len(answer) > 40:
        return {"<end>": 1.0}
    rng = np.random.default_rng([len(text), *text.encode()[-12:]])
    return dict(zip(WORDS[2:], rng.random(len(WORDS) - 2) ** 3 + 0.01, strict=True))


def babble_world() -> ScriptedBackend:
    """A model with many answers, some bad."""
    return scripted(babble, WORDS)


class ThinkingCodec(ScriptedCodec):
    """A codec with a chat template that leaves room for reasoning, as Qwen3's does."""

    has_chat_template = True
    special_texts = ("<think>", "</think>")

    def render_chat(self, messages: Sequence[Message], *, thinking: bool) -> str:
        turns = "".join(f"[{message.role}]{message.content}\n" for message in messages)
        return f"{turns}[assistant]" + ("" if thinking else "<think></think>")


def thoughtful(text: str) -> dict[str, float]:
    """Reasons, with a bad word in it, and then answers well; judges by the bad word."""
    if text.endswith("It is ("):
        return {"B": 1.0} if " plot" in text else {"A": 1.0}
    follows = {
        "[assistant]": "<think>",
        "<think>": " plot",
        " plot": ", then",
        ", then": "</think>",
        "</think>": " No",
        " No": ".",
    }
    return {next((word for end, word in follows.items() if text.endswith(end)), "<end>"): 1.0}


def thinking_world() -> ScriptedBackend:
    """A reasoning model."""
    words = ["A", "B", "<think>", " plot", ", then", "</think>", " No", "."]
    return scripted(thoughtful, words, ThinkingCodec)
