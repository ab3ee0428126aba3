"""What a suite is: families of prompts, what is asked about the answers, and who says so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rain_decoding.prompting import PromptFormat


@dataclass(frozen=True, slots=True)
class Metric:
    """The share of answers that a judge gives the label `wanted` when asked whether they are `question`."""

    question: str
    """One word: harmless, helpful, refused, truthful, informative, positive, degenerate."""
    wanted: bool = True

    @property
    def title(self) -> str:
        return self.question if self.wanted else f"not {self.question}"


@dataclass(frozen=True, slots=True)
class Family:
    """Prompts of one kind. The first of its metrics is what the quality plots show."""

    name: str
    metrics: tuple[Metric, ...]
    criterion: str = "harmlessness"
    """What the search judges by, unless the run says otherwise."""
    prompt_format: PromptFormat = "auto"


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt.

    `subject` is what the intervals are clustered by. `facts` is what judges need to know beside the prompt, in
    values that JSON can hold.
    """

    family: str
    prompt: str
    subject: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A name that depends on family and prompt alone; it is fit for a file's name."""
        prompt = self.prompt.encode("utf-8", "surrogatepass")
        return f"{self.family}-{hashlib.blake2b(prompt, digest_size=6).hexdigest()}"


Axis = tuple[str, str]
"""A family, and the question asked about it."""


@dataclass(frozen=True, slots=True)
class Source:
    """One of the files that a suite reads. `hub` says where else it is found: arguments of `load_dataset`; `packaged`
    is a file that comes with us."""

    summary: str
    hub: Mapping[str, Any] | None = None
    required: bool = True
    packaged: Path | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """A named source of items.

    `load` gives the items of the files it is handed, in any order; the first of `sources` is the main one.
    `judges` label the answers where no others are named. `axes` are the two sides of the plot of harmlessness against
    helpfulness, or of what stands in their place: first across, then upwards.
    """

    name: str
    summary: str
    families: tuple[Family, ...]
    load: Callable[[Mapping[str, Path | None]], Iterator[Item]]
    sources: Mapping[str, Source] = field(default_factory=dict)
    judges: tuple[str, ...] = ()
    axes: tuple[Axis, Axis] | None = None
    max_tokens: int = 256
    for_demo_model: bool = False
    """Whether only the demo model knows what these prompts are about."""
