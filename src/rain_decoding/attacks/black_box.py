"""Attacks that only ask a decoder: random search on what comes out in the end, and injection into the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rain_decoding.attacks.behaviours import Behaviour
from rain_decoding.attacks.progress import Found, Progress
from rain_decoding.attacks.victim import Victim
from rain_decoding.search.randomness import derive_seed, uniforms


@dataclass(frozen=True, slots=True, kw_only=True)
class BlackBoxConfig:
    """At most `steps` rounds of `batch` suffixes each, of at most `words` words where they are made of words.

    No round begins once all restarts have asked for `queries` answers; 0: no limit.
    """

    steps: int = 500
    batch: int = 8
    words: int = 12
    queries: int = 0


class BlackBox:
    """Asks the victim for a batch of suffixes in every step. Subclasses say how these are made from `texts`.

    A suffix's loss is about the share of the attacker's seeds on which it did not bring out what was wanted (see
    `Victim.losses`); seeds after a failed one are not tried. A suffix that never failed ends the attack.
    """

    def __init__(
        self,
        victim: Victim,
        behaviour: Behaviour,
        texts: Sequence[str],
        config: BlackBoxConfig,
        seed: int,
    ):
        self.victim, self.behaviour, self.texts = victim, behaviour, texts
        self.config, self.seed = config, seed

    def start(self, progress: Progress | None) -> Progress:
        """Nothing is known yet."""
        if progress is None:
            return Progress("")
        return replace(
            progress, controls="", loss=None, restart=progress.restart + 1, step=0, spent=progress.tokens
        )

    def ended(self, progress: Progress) -> bool:
        """Whether all steps or queries are done, or a suffix works on all seeds."""
        asked = 0 < self.config.queries <= progress.queries
        return progress.hit or asked or progress.step >= self.config.steps

    def step(self, progress: Progress) -> Progress:
        """Ask for a batch; what is as good as the current suffix takes its place."""
        suffixes = self.suffixes(progress)
        losses, tokens, passes, queries = self.victim.losses(self.behaviour, suffixes)
        best = min(range(len(losses)), key=losses.__getitem__)
        loss, spent = losses[best], progress.tokens + tokens
        if progress.loss is None or loss <= progress.loss:
            progress = replace(progress, controls=suffixes[best], loss=loss)
        return replace(
            progress,
            step=progress.step + 1,
            hit=loss == 0,
            tokens=spent,
            passes=progress.passes + passes,
            queries=progress.queries + queries,
        ).with_found(Found(suffixes[best], loss, loss == 0, 1, spent))

    def suffixes(self, progress: Progress) -> list[str]:
        """What to try in this step."""
        raise NotImplementedError


class RandomSearch(BlackBox):
    """Changes one word of the current suffix at a time; `texts` are the words."""

    def suffixes(self, progress: Progress) -> list[str]:
        """Variants of the current suffix; in the beginning, words at random."""
        index = (progress.restart << 32) + progress.step
        rng = uniforms(derive_seed(self.seed, (), f"search {self.behaviour.goal}", index))
        words = progress.controls.split()
        return [" ".join(self._changed(words, rng)) for _ in range(self.config.batch)]

    def _changed(self, words: list[str], rng: np.random.Generator) -> list[str]:
        if not words:
            return [self._word(rng) for _ in range(max(1, self.config.words // 2))]
        place = int(rng.integers(len(words)))
        changes = ["replace", "swap"]
        changes += ["insert"] * (len(words) < self.config.words) + ["delete"] * (len(words) > 1)
        match changes[rng.integers(len(changes))]:
            case "replace":
                return [*words[:place], self._word(rng), *words[place + 1 :]]
            case "insert":
                return [*words[:place], self._word(rng), *words[place:]]
            case "delete":
                return [*words[:place], *words[place + 1 :]]
            case _:
                other, swapped = int(rng.integers(len(words))), list(words)
                swapped[place], swapped[other] = swapped[other], swapped[place]
                return swapped

    def _word(self, rng: np.random.Generator) -> str:
        return self.texts[int(rng.integers(len(self.texts)))]


class Injection(BlackBox):
    """Tries each of the texts once, in an order drawn for each behaviour."""

    def ended(self, progress: Progress) -> bool:
        """Whether every text was tried, or one works on all seeds."""
        return super().ended(progress) or progress.step * self.config.batch >= len(self.texts)

    def suffixes(self, progress: Progress) -> list[str]:
        """The next texts."""
        rng = uniforms(derive_seed(self.seed, (), f"injection {self.behaviour.goal}"))
        start = progress.step * self.config.batch
        order = rng.permutation(len(self.texts))[start : start + self.config.batch]
        return [self.texts[index] for index in order]


def word_pool(behaviours: Sequence[Behaviour]) -> list[str]:
    """The words of all goals and targets: what an attacker who knows no more would try."""
    return sorted({word for one in behaviours for word in f"{one.goal} {one.target}".split()})
