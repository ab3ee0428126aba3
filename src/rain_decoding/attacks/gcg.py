"""Greedy Coordinate Gradient (Zou et al. 2023, arXiv 2307.15043, algorithms 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from rain_decoding.attacks.passages import Passage, Suffix
from rain_decoding.attacks.progress import Found, Progress
from rain_decoding.attacks.white_box import Losses, WhiteBox
from rain_decoding.search.randomness import derive_seed, uniforms
from rain_decoding.types import Tokens

TRIES = 8
"""Random tokens tried for each place of a restart's first suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GcgConfig:
    """Per restart at most `steps` steps, in each `batch` candidates with one token replaced by one of the `top_k` whose
    gradient promises most. `stop_on_success` ends a restart once every wanted token is the most probable one.
    """

    steps: int = 500
    batch: int = 512
    top_k: int = 256
    suffix_tokens: int = 20
    stop_on_success: bool = False


class Gcg:
    """An attack on one or several behaviours, each given by its passages.

    Several are attacked by one suffix, one more as soon as it succeeds on those before (progressive goals); their
    gradients are normalised before they are added up.
    """

    def __init__(
        self,
        box: WhiteBox,
        goals: Sequence[Sequence[Passage]],
        first: Suffix,
        config: GcgConfig,
        seed: int,
    ):
        self.box, self.goals, self.first, self.config, self.seed = box, goals, first, config, seed
        self._usable = box.usable()

    def start(self, progress: Progress | None) -> Progress:
        """The first suffix, and a random one for each restart after it."""
        if progress is None:
            return Progress(*self.first)
        beginning = self.beginning(progress.restart + 1)
        return replace(
            progress,
            controls=beginning.text,
            ids=beginning.ids,
            loss=None,
            goals=1,
            restart=progress.restart + 1,
            step=0,
            hit=False,
            spent=progress.tokens,
        )

    def ended(self, progress: Progress) -> bool:
        """Whether all steps are done, or success is enough."""
        everywhere = progress.hit and progress.goals == len(self.goals)
        return progress.step >= self.config.steps or (everywhere and self.config.stop_on_success)

    def step(self, progress: Progress) -> Progress:
        """Replace one token by the best of the candidates, even where it is worse than before."""
        tokens, passes = self.box.tokens, self.box.passes
        candidates = self.candidates(progress, self.gradient(progress))
        losses = self.evaluate(progress, [candidate.ids for candidate in candidates]) if candidates else None
        progress = replace(
            progress,
            step=progress.step + 1,
            tokens=progress.tokens + self.box.tokens - tokens,
            passes=progress.passes + self.box.passes - passes,
        )
        if losses is None:  # none of those drawn can be written as text; the next step draws others
            return progress
        place = int(losses.values.argmin())
        loss, hit = float(losses.values[place]), bool(losses.hits[place])
        controls, ids = candidates[place]
        progress = replace(progress, controls=controls, ids=ids, loss=loss, hit=hit)
        progress = progress.with_found(Found(controls, loss, hit, progress.goals, progress.tokens))
        more = hit and progress.goals < len(self.goals)
        return replace(progress, goals=progress.goals + 1, hit=False) if more else progress

    def beginning(self, restart: int) -> Suffix:
        """The first suffix with random tokens in the place of its own, wherever every prompt holds them as they are."""
        suffix, usable = self.first, self._usable.cpu().numpy()
        seed = derive_seed(self.seed, self.first.ids, "gcg-start", restart)
        for place, draws in enumerate(uniforms(seed).random((len(suffix.ids), TRIES))):
            drawn = usable[(draws * len(usable)).astype(int)].tolist()
            tried = (self._suffix((*suffix.ids[:place], token, *suffix.ids[place + 1 :])) for token in drawn)
            suffix = next(filter(self._stands, tried), suffix)
        return suffix

    def evaluate(self, progress: Progress, suffixes: Sequence[Tokens]) -> Losses:
        """Mean loss over the behaviours attacked now, and success on all of them."""
        device = self._usable.device
        values, hits = torch.zeros(len(suffixes), device=device), torch.ones(len(suffixes), device=device) > 0
        for passages in self.goals[: progress.goals]:
            for passage in passages:
                losses = self.box.losses(passage, suffixes)
                values, hits = values + passage.weight * losses.values, hits & losses.hits
        return Losses(values / progress.goals, hits)

    def gradient(self, progress: Progress) -> torch.Tensor:
        """The loss's gradient by the one-hot suffix `[len(ids), vocabulary]`; of norm 1 per place and behaviour."""
        total = torch.zeros(1, device=self._usable.device)
        for passages in self.goals[: progress.goals]:
            own = torch.stack([p.weight * self.box.gradient(p, progress.ids) for p in passages]).sum(0)
            total = total + own / own.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return total

    def candidates(self, progress: Progress, gradient: torch.Tensor) -> list[Suffix]:
        """Suffixes that differ from the current one in one token.

        Every place is tried about equally often. Only those count that every prompt holds as they are: others would
        be read as other tokens.
        """
        order = gradient[:, self._usable].argsort(dim=-1, stable=True)
        best = self._usable[order[:, : self.config.top_k]].cpu().numpy()
        seed = derive_seed(self.seed, progress.ids, "gcg", (progress.restart << 32) + progress.step)
        draws = (uniforms(seed).random(self.config.batch) * best.shape[1]).astype(int)
        places = np.arange(self.config.batch) * len(progress.ids) // self.config.batch
        found: dict[Tokens, Suffix] = {}
        for place, draw in zip(places, draws, strict=True):
            ids = (*progress.ids[:place], int(best[place, draw]), *progress.ids[place + 1 :])
            suffix = self._suffix(ids)
            if ids != progress.ids and ids not in found and self._stands(suffix):
                found[ids] = suffix
        return list(found.values())

    def _suffix(self, ids: Tokens) -> Suffix:
        return Suffix(self.box.codec.decode(ids).removeprefix(" "), ids)

    def _stands(self, suffix: Suffix) -> bool:
        return bool(suffix.text.strip()) and all(
            passage.holds(suffix) for passages in self.goals for passage in passages
        )
