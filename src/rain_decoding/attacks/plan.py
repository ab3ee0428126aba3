"""What an attack run does: units of work, and the description by which a later run is known to be the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rain_decoding.attacks.behaviours import Behaviour
from rain_decoding.attacks.black_box import BlackBox, BlackBoxConfig, Injection, RandomSearch, word_pool
from rain_decoding.attacks.injection import injections
from rain_decoding.attacks.progress import Attack
from rain_decoding.attacks.victim import Victim
from rain_decoding.backends.base import Backend
from rain_decoding.decoding.rain_decoder import RainDecoder
from rain_decoding.errors import UnsupportedError
from rain_decoding.evaluation import provenance
from rain_decoding.evaluation.answering import Setting, decoders, model
from rain_decoding.evaluation.contenders import Contender
from rain_decoding.evaluation.judges import Judge
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.cascade import Cascade
from rain_decoding.self_evaluation.evaluator import Evaluator, SelfEvaluator

if TYPE_CHECKING:
    from rain_decoding.attacks.gcg import GcgConfig

Mode = Literal["each", "universal"]


class Unit(NamedTuple):
    """An attack that leaves one suffix, for one behaviour or for several."""

    name: str
    behaviours: tuple[Behaviour, ...]
    attack: Attack
    budget: int
    """Tokens that may be forwarded for each restart, about: the step that passes it is the last one. 0: no limit."""


@dataclass(frozen=True, kw_only=True)
class AttackPlan:
    """What all methods have in common.

    `budget` is in tokens forwarded per behaviour, all restarts together; 0 sets none.
    """

    setting: Setting
    behaviours: tuple[Behaviour, ...]
    data: Path
    seed: int = 0
    restarts: int = 1
    budget: int = 0
    prompt_format: PromptFormat = "auto"

    @property
    def method(self) -> str:
        """What the attack is called in records and reports."""
        raise NotImplementedError

    def attack(self, behaviours: Sequence[Behaviour]) -> Attack:
        """The attack on some behaviours."""
        raise NotImplementedError

    def groups(self) -> list[tuple[Behaviour, ...]]:
        """The behaviours that get a suffix together."""
        return [(behaviour,) for behaviour in self.behaviours]

    def units(self) -> Iterator[Unit]:
        """One after the other; what each needs is made when its turn comes."""
        for behaviours in self.groups():
            name = behaviours[0].goal if len(behaviours) == 1 else f"{len(behaviours)} behaviours"
            budget = self.budget * len(behaviours) // self.restarts
            yield Unit(name, behaviours, self.attack(behaviours), budget)

    @property
    def backend(self) -> Backend:
        """The model, loaded once."""
        return model(self.setting)

    def describe(self) -> dict[str, Any]:
        """All that decides what is found, as JSON."""
        setting = self.setting
        return {
            "attack": self.method,
            "data": {"file": self.data.name, "sha256": provenance.file_hash(self.data)},
            "behaviours": len(self.behaviours),
            "seed": self.seed,
            "restarts": self.restarts,
            "budget": self.budget,
            "prompt_format": self.prompt_format,
            "model": provenance.model_facts(setting.model, dict(setting.loading).get("revision")),
            "loading": {name: value for name, value in setting.loading if name != "revision"},
            "code": provenance.code(),
        }


@dataclass(frozen=True, kw_only=True)
class GcgPlan(AttackPlan):
    """GCG on the response, and with `adaptive` > 0 also on the judge of `contender`, a search."""

    config: GcgConfig
    mode: Mode = "each"
    adaptive: float = 0.0
    contender: Contender
    criterion: str

    @property
    def method(self) -> str:
        """gcg or gcg-universal, or these with -adaptive."""
        return "gcg" + "-universal" * (self.mode == "universal") + "-adaptive" * (self.adaptive > 0)

    def groups(self) -> list[tuple[Behaviour, ...]]:
        """All behaviours together where one suffix is for all."""
        return [self.behaviours] if self.mode == "universal" else super().groups()

    def attack(self, behaviours: Sequence[Behaviour]) -> Attack:
        """GCG on the passages of these behaviours."""
        from rain_decoding.attacks.gcg import Gcg
        from rain_decoding.attacks.passages import by_judge, filler, response
        from rain_decoding.attacks.white_box import WhiteBox

        box = WhiteBox(self.backend)
        first = filler(self.backend.codec, self.config.suffix_tokens)
        goals = []
        for behaviour in behaviours:
            passages = [response(behaviour, self.backend, first, self.prompt_format)]
            if self.adaptive:
                passages += by_judge(behaviour, self._evaluator(), self.adaptive, first, self.prompt_format)
            goals.append(passages)
        return Gcg(box, goals, first, self.config, self.seed)

    def _evaluator(self) -> Evaluator:
        return evaluator(self.setting, self.contender, self.criterion, self.prompt_format)

    def describe(self) -> dict[str, Any]:
        """Also GCG's own settings, and the judge where it is attacked."""
        judge = {"decoder": asdict(self.contender), "criterion": self.criterion} if self.adaptive else None
        own = {"mode": self.mode, "config": asdict(self.config), "adaptive": self.adaptive, "judge": judge}
        return super().describe() | own


@dataclass(frozen=True, kw_only=True)
class BlackBoxPlan(AttackPlan):
    """An attack on what a decoder answers in the end, on `seeds` seeds of the attacker's own."""

    kind: Literal["search", "injection"]
    config: BlackBoxConfig
    decoder: str
    contender: Contender
    criterion: str
    judge: Judge
    seeds: int = 3

    @property
    def method(self) -> str:
        """search or injection."""
        return self.kind

    def attack(self, behaviours: Sequence[Behaviour]) -> BlackBox:
        """The attack on one behaviour."""
        (behaviour,) = behaviours
        decoder, _ = decoders(self.contender, self.setting, self.criterion, self.prompt_format)
        victim = Victim(decoder, self.judge, self.seeds, self.setting.max_tokens)
        if self.kind == "search":
            return RandomSearch(victim, behaviour, word_pool(self.behaviours), self.config, self.seed)
        judge = evaluator(self.setting, self.contender, self.criterion, self.prompt_format)
        asked = judge.behind if isinstance(judge, Cascade) else judge
        if not isinstance(asked, SelfEvaluator):
            raise UnsupportedError(
                f"{asked.name} is asked nothing that a text could answer for it",
                hint="attack a judge that is asked: --search-judge ask, with a single criterion (--criterion)",
            )
        texts = injections(behaviour, asked.criterion)
        return Injection(victim, behaviour, texts, self.config, self.seed)

    def describe(self) -> dict[str, Any]:
        """Also the decoder that is asked, and who says what it did."""
        return super().describe() | {
            "config": asdict(self.config),
            "decoder": {"name": self.decoder, **asdict(self.contender)},
            "criterion": self.criterion,
            "search_judge": self.setting.judge,
            "judge": {self.judge.name: self.judge.version},
            "seeds": self.seeds,
            "max_tokens": self.setting.max_tokens,
        }


def evaluator(
    setting: Setting, contender: Contender, criterion: str, prompt_format: PromptFormat
) -> Evaluator:
    """The judge of a search, which an attacker knows."""
    _, search = decoders(contender, setting, criterion, prompt_format)
    assert isinstance(search, RainDecoder)
    return search.evaluator
