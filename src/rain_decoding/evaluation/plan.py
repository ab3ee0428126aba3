"""What an evaluation runs, and the description by which a later run is known to be the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError
from rain_decoding.evaluation import provenance
from rain_decoding.evaluation.answering import AnswerJob, Setting
from rain_decoding.evaluation.contenders import ORACLE, Contender
from rain_decoding.evaluation.judges import Judge
from rain_decoding.evaluation.suites import Family, Item, Suite
from rain_decoding.prompting import PromptFormat
from rain_decoding.self_evaluation.loading import has_labels, judges_by_name

JOB_SIZE = 256
"""Prompts a worker is given at once: many more than run together, since the last ones run alone."""

Key = tuple[str, str, int]
"""What a record answers: the item's id, the decoder and the seed."""


@dataclass(frozen=True)
class EvaluationPlan:
    """An evaluation: each of `items` is answered once per decoder and seed; `load` takes them from the suite's files.

    `data` has these files (None: from the hub), of each family at most `limit` prompts were taken (0: all).
    `criterion` replaces the families' own. `pairwise` has the judges that can also compare each decoder's answers with
    the reference's. Raises `InputError` for judges and decoders that have nothing to do.
    """

    suite: Suite
    contenders: Mapping[str, Contender]
    setting: Setting
    items: tuple[Item, ...]
    data: Mapping[str, Path | None] = field(default_factory=dict)
    limit: int = 20
    seeds: tuple[int, ...] = (0,)
    criterion: str | None = None
    judges: tuple[Judge, ...] = ()
    pairwise: bool = False

    @classmethod
    def load(
        cls,
        suite: Suite,
        contenders: Mapping[str, Contender],
        setting: Setting,
        *,
        families: Sequence[str] = (),
        data: Mapping[str, Path | None] | None = None,
        limit: int = 20,
        **options: Any,
    ) -> EvaluationPlan:
        """Read a suite's prompts and plan a run on them.

        Args:
            suite: The suite to run.
            contenders: Decoders by name.
            setting: The model and how it is asked.
            families: Names of the suite's families; empty: all that the data have.
            data: Files by the names of the suite's sources; a source without a file is read from the hub.
            limit: Prompts per family, drawn once for all runs by a hash; 0: all.
            options: Other fields of the plan (`seeds`, `criterion`, `judges`, `pairwise`).

        Returns:
            The plan.

        Raises:
            InputError: a source or a family is unknown, the data cannot be read or have no prompts, or a judge or a
                decoder does not fit the suite.
        """
        data = data or {}
        _check(f"the suite {suite.name} has no file called", data, "it reads", suite.sources)
        _check("unknown family", families, "families", [family.name for family in suite.families])
        items = tuple(_draw(suite, data, families, limit))
        if not items:
            raise InputError(f"the data contain no prompts of {', '.join(families) or suite.name}")
        setting = replace(setting, is_demo=suite.for_demo_model)
        return cls(suite, contenders, setting, items, data, limit, **options)

    def __post_init__(self) -> None:
        asked = {metric.question for family in self.used_families for metric in family.metrics}
        for judge in self.judges:
            if not asked & set(judge.questions):
                raise InputError(
                    f"the judge {judge.name} only says whether an answer is {' or '.join(judge.questions)}",
                    hint=f"this suite asks whether it is {' or '.join(sorted(asked))}",
                )
        for name in self.contenders:
            if not any(self.asks(name, family) for family in self.used_families):
                texts = ", ".join(family.name for family in self.used_families)
                raise InputError(
                    f"{name} cannot continue a text, and the prompts of {texts} are texts", hint="omit it"
                )

    @property
    def used_families(self) -> list[Family]:
        """The families that there are prompts of."""
        present = {item.family for item in self.items}
        return [family for family in self.suite.families if family.name in present]

    def asks(self, name: str, family: Family) -> bool:
        """Whether a decoder answers a family's prompts."""
        return self.contenders[name].answers(family.prompt_format)

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """Decoders and the families that they do not answer."""
        families = self.used_families
        return [(name, f.name) for name in self.contenders for f in families if not self.asks(name, f)]

    @property
    def keys(self) -> set[Key]:
        """Everything that is to be answered."""
        left_out = set(self.left_out)
        return {
            (item.id, name, seed)
            for item in self.items
            for name in self.contenders
            for seed in self.seeds
            if (name, item.family) not in left_out
        }

    @property
    def reference(self) -> str:
        """The decoder that the others are compared with: the first plain one, else the first."""
        plain = (name for name, contender in self.contenders.items() if contender.is_plain)
        return next(plain, next(iter(self.contenders)))

    def jobs(
        self, done: set[Key], workers: int, traces: Path | None = None, rounds: int = 1
    ) -> Iterator[AnswerJob]:
        """All work that is not in `done`, in chunks.

        In several `rounds`, all decoders first answer a part of the prompts, then the next: a run that is stopped has
        something of each.
        """
        for part in range(rounds):
            items = self._part(part, rounds)
            for seed in self.seeds:
                for name, contender in self.contenders.items():
                    for (criterion, prompt_format), families in self._alike(name).items():
                        asked = [item for item in items if item.family in families]
                        missing = [item for item in asked if (item.id, name, seed) not in done]
                        for chunk in chunks(missing, workers):
                            yield AnswerJob(
                                self.setting,
                                name,
                                contender,
                                seed,
                                tuple(chunk),
                                criterion,
                                prompt_format,
                                traces,
                            )

    def _part(self, part: int, rounds: int) -> list[Item]:
        """The prompts of a round: of each family every so many."""
        families = ([i for i in self.items if i.family == family.name] for family in self.used_families)
        return [item for items in families for item in items[part::rounds]]

    def _alike(self, name: str) -> dict[tuple[str, PromptFormat], set[str]]:
        """Names of families whose prompts a decoder answers in the same way, and so in one batch."""
        alike: dict[tuple[str, PromptFormat], set[str]] = {}
        for family in self.used_families:
            if self.asks(name, family):
                key = self.criterion or family.criterion, family.prompt_format
                alike.setdefault(key, set()).add(family.name)
        return alike

    def same_judge(self) -> list[tuple[str, str]]:
        """Decoders whose answers are labelled by the very judge that their search asked, and that judge."""
        return [
            (name, judge.name)
            for name, contender in self.contenders.items()
            for judge in self.judges
            if judge.source in self._search_judges(contender)
        ]

    def _search_judges(self, contender: Contender) -> set[str]:
        """Who judges in a decoder's search, by every name that a `Judge` may have as its `source`."""
        if contender.is_plain:
            return set()
        if contender.kind == ORACLE:
            return {"oracle"}
        if self.criterion and has_labels(self.criterion):
            return {self.criterion}
        names = judges_by_name(contender.judge or self.setting.judge, self.setting.model)
        return {*names, *(rest or kind for kind, _, rest in (name.partition(":") for name in names))}

    def _items_hash(self) -> str:
        """SHA-256 of the prompts and what is known about them, wherever they come from."""
        lines = (json.dumps(asdict(item), sort_keys=True) + "\n" for item in self.items)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """All that decides what the answers and labels are, as JSON."""
        return {
            "suite": self.suite.name,
            "data": {
                name: {"file": path.name, "sha256": provenance.file_hash(path)}
                if path
                else {"hub": dict(self.suite.sources[name].hub or {})}
                for name, path in self.data.items()
            },
            "families": {
                family.name: {
                    "prompts": sum(item.family == family.name for item in self.items),
                    "criterion": self.criterion or family.criterion,
                    "prompt_format": family.prompt_format,
                }
                for family in self.used_families
            },
            "samples": {"sha256": self._items_hash()},
            "limit": self.limit,
            "seeds": list(self.seeds),
            "model": provenance.model_facts(self.setting.model, dict(self.setting.loading).get("revision")),
            "loading": {name: value for name, value in self.setting.loading if name != "revision"},
            "embedding": self.setting.embedding,
            "search_judge": self.setting.judge,
            "temperature": self.setting.temperature,
            "max_tokens": self.setting.max_tokens,
            "decoders": {name: asdict(contender) for name, contender in self.contenders.items()},
            "pairwise": self.pairwise,
            "judges": {judge.name: judge.version for judge in self.judges},
            "code": provenance.code(),
        }


def _check(wrong: str, names: Iterable[str], right: str, known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{wrong} {name!r}", hint=f"{right}: {', '.join(known) or 'nothing'}")


def _draw(
    suite: Suite, data: Mapping[str, Path | None], families: Sequence[str], limit: int
) -> Iterator[Item]:
    by_family: dict[str, dict[str, Item]] = {}
    for item in suite.load(data):
        by_family.setdefault(item.family, {}).setdefault(item.id, item)
    for family in suite.families:
        if not families or family.name in families:
            # By a hash of the prompt: a draw that is the same for every run, whatever else the files hold.
            found = sorted(by_family.get(family.name, {}).values(), key=lambda item: item.id)
            yield from found[: limit or None]


def chunks(items: Sequence[Item], workers: int) -> Iterator[Sequence[Item]]:
    """The items in parts of about the same size, one per worker or more."""
    size = min(JOB_SIZE, -(-len(items) // workers) or 1)
    for start in range(0, len(items), size):
        yield items[start : start + size]
