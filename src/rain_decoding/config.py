"""`SearchConfig`: every constant of the search, and the presets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args

from rain_decoding import near_misses
from rain_decoding.errors import ConfigError
from rain_decoding.plugins import added_names
from rain_decoding.ranges import Within, check_ranges

PAPER_ENDINGS = ",.?:;\n"
"""Where the paper's rollouts end."""

UNICODE_ENDINGS = PAPER_ENDINGS + "，。？！：；、"
"""The same, with the full-width forms."""

Fallback = Literal["flag", "alternative", "refusal"]
FALLBACKS: tuple[Fallback, ...] = get_args(Fallback)

PROPOSALS = ["openings", "sampled", "guided", "critique", "contrast", "steered", "declined"]
"""Kinds of proposals that are known in this process, see `search.proposals.register`."""
PROPOSAL_GROUP = "rain_decoding.proposals"
"""Entry points of packages that add kinds."""

SENTENCE_ENDINGS = ".?!…\n。？！．｡।॥۔؟"
"""Where sentences end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """Constants of the search (paper, section 3 and appendix; symbols in parentheses).

    The defaults are those of `paper-hh`. Use `SearchConfig.preset(name, **changes)` to start from a preset.
    Raises `ConfigError` when a value is out of its range.
    """

    strategy: Literal["paper", "verify-first"] = "paper"
    """paper: Algorithm 1, which searches before every commit. verify-first: decode plainly and judge every
    sentence meanwhile; search only behind a bad judgement."""

    # Selection, equation (1)
    exploration: Annotated[float, Within(0, 1e6)] = 2.0
    """Weight of the prior term (c); 0 switches exploration off."""
    root_uniform_share: Annotated[float, Within(0, 1)] = 0.25
    """Share of the uniform distribution mixed into the priors of a root's children."""

    # Expansion
    candidates: Annotated[int, Within(1, 1000)] = 10
    """Children proposed at an expansion (q)."""
    token_set_lengths: tuple[int, ...] = (1, 2, 4, 10)
    """Tokens per set at depth 0, 1, ... from the prompt; the last entry holds for all deeper ones."""
    top_k: Annotated[int, Within(0, 1_000_000_000)] = 15
    """Sampled sets draw from the this many most probable tokens; 0 draws from all."""
    candidate_temperature: Annotated[float, Within(1e-3, 100)] = 1.0
    """Temperature at which candidates are drawn and their probabilities taken."""
    redraw: bool = False
    """Draw up to 2q - 1 times until q - 1 distinct sets are found (paper-adv), instead of q - 1 times."""
    eager_expansion: bool = False
    """Expand a leaf as soon as it was evaluated instead of when it is next passed. Same tree, more work."""

    # Widening ("dynamic node addition")
    widening: bool = True
    max_children: Annotated[int, Within(1, 10_000)] = 20
    """No child is added to a node with this many."""
    widening_variance: Annotated[float, Within(0, 1e6)] = 0.03
    """A child is added where the norm of the embeddings' variance is below this times the set length."""
    widening_value: Annotated[float, Within(-1, 1)] = 0.0
    """A child is added only where every child's value is below this."""

    # Rollout
    rollout_endings: str = UNICODE_ENDINGS
    """Characters a rollout ends at; empty: it runs to the end of sequence or the limit."""
    rollout_temperature: Annotated[float, Within(1e-3, 100)] = 1.0
    """Temperature of rollouts."""
    next_turn_ends: bool = True
    """Whether the next turn's marker finishes a text (paper-truth: not)."""

    # Similarity update, equation (2)
    similarity: bool = True
    similarity_discount: Annotated[float, Within(0, 1)] = 0.2
    """Share of a visit credited to a similar sibling (gamma)."""
    similarity_threshold: Annotated[float, Within(0, 1)] = 0.95
    """Cosine from which a sibling counts as similar (a negative one would take visits away)."""

    # Stopping
    max_simulations: Annotated[int, Within(1, 1_000_000)] = 50
    """Simulations per commit, counting evaluations the root carries (T)."""
    extra_simulations: Annotated[int, Within(1, 1_000_000)] = 15
    """At least this many new simulations are allowed under a root that carries many."""
    min_evaluations: Annotated[int, Within(0, 1_000_000)] = 6
    """The best child must have more evaluations than this (T_m)."""
    value_threshold: Annotated[float, Within(-1, 1)] = 0.8
    """The best child's value must be above this (V)."""

    # Verify first (not in the paper; reads of the above: top_k, candidate_temperature, max_children,
    # max_simulations, there per answer)
    sentence_endings: str = SENTENCE_ENDINGS
    """Characters at which a sentence ends and is judged."""
    sentence_tokens: tuple[int, int] = (4, 32)
    """A sentence has at least and at most so many tokens."""
    accept_value: Annotated[float, Within(-1, 1)] = 0.0
    """A score above this is good."""
    undecided_margin: Annotated[float, Within(0, 2)] = 0.0
    """Scores this close to `accept_value` decide nothing: the next sentence is looked at first."""
    alternatives: Annotated[int, Within(1, 1000)] = 8
    """Sentences proposed at once in place of bad ones."""
    first_good: bool = False
    """Take the first good alternative, instead of the most probable one when all are judged."""
    proposals: tuple[str, ...] = ("openings", "sampled")
    """The kinds of what is proposed in place of bad text, in the order in which they are tried; KIND:NUMBER proposes at
    most so many below one text, `alternatives` of them at once. See `PROPOSALS`."""
    accept_after: Annotated[float, Within(-1, 1)] = -1.0
    """In place of `accept_value` once something was judged bad, if it is larger."""
    rising_bar: bool = False
    """An alternative must be the better, the more of them were tried (see docs/repair.md)."""
    decline_above: Annotated[float, Within(0, 1)] = 1.0
    """Once something was bad, `declined` is tried before any other kind, at the beginning of what is not released,
    where a judge that reads gives the request a greater probability of being harmful than this; 1: never."""
    rewind_margin: Annotated[float, Within(0, 2)] = 0.0
    """Plain decoding's text is turned back from where its score lies so far below `accept_value`, or further. What is
    bad by less stands, flagged."""
    plain_margin: Annotated[float, Within(0, 2)] = 0.0
    """Where nothing is good, plain decoding's text stands unless another was judged better by more than this."""
    contrast: Annotated[float, Within(0, 100)] = 1.0
    """Weight of the opposite prompt's logits in proposals of the kind `contrast`."""
    steering: Annotated[float, Within(0.01, 0.99)] = 0.25
    """Share of the next token's probability that shifted hidden states move, in proposals of the kind `steered`."""
    opening_share: Annotated[float, Within(0, 1)] = 0.02
    """A first token less probable than this share of the most probable one opens no alternative."""
    hold_back: Annotated[int, Within(0, 1_000_000)] = 1
    """Good sentences that are not yet released, so that the search can rewind past them."""

    trust_tokens: Annotated[float, Within(0, 1e6)] = 0.0
    """Plain decoding's text is judged the more rarely the longer it was good: after the square root of 2 c (n + this)
    tokens at the earliest, where c is what the question costs in decoded tokens on this backend and n how long the text
    is (see docs/guide.md). Once something was bad, and with 0, every sentence is judged."""
    hold_tokens: Annotated[int, Within(0, 1_000_000)] = 32
    """In place of `hold_back` where the judge reads: tokens that are not yet released."""
    read_every: Annotated[int, Within(1, 10_000)] = 8
    """Tokens after which a judge that costs nothing looks at plain decoding's text (the judge `read`)."""

    # Messages that the model's own server makes (tool calls, response formats; reads of the above: accept_value,
    # candidate_temperature)
    message_attempts: Annotated[int, Within(1, 1000)] = 3
    """Messages made and judged until one is good."""

    # Self-evaluation
    criterion: str = "harmlessness"
    """What judges where the caller names nothing: a criterion's name or file, or a combination of them."""
    placement: Literal["criterion", "cheapest"] = "criterion"
    """Where the judge's question stands: as the criterion has it (paper), or behind generation's own conversation where
    the criterion says that the model judges as well there (`rain calibrate`): then nothing is read a second time."""
    votes: Literal["hard", "soft", "debiased"] = "hard"
    """hard: each order says +1 or -1 (paper); soft: the difference of the label probabilities; debiased: the same
    from the mean log-odds of the orders, in which a preference for one label cancels."""
    order_margin: Annotated[float, Within(0, 1000)] = 1000.0
    """Log-odds in nats: a text that the last option order alone finds good by more is not judged in the
    other order. Above the judge's preference for a label it changes no verdict. 1000: always both (paper)."""
    min_label_mass: Annotated[float, Within(0, 1)] = 0.0
    """A judgement whose labels hold less probability than this together is unscored. Paper: 0."""
    read_surely: Annotated[float, Within(0.5, 1)] = 0.9
    """In a cascade (the judge `read+ask`), the probability of its verdict from which the reading is sure: what lies
    between this and one minus this is escalated. 0.5: nothing."""
    on_unscored: Literal["stop", "release"] = "stop"
    """What happens to text that could not be judged: stop with finish_reason "unjudged", or release it."""
    calibration: str = ""
    """File that `rain calibrate --save` wrote for this model and criterion. A decoder takes accept_value, votes and
    min_label_mass from it, whatever stands here, and the placement of the question. Empty: none."""

    # Fallback
    fallback: Fallback = "flag"
    """What happens to a finished answer whose score is not above `fallback_threshold`: return it, flagged; return the
    best alternative that the search saw; or return a refusal. But for "flag", nothing is released before that."""
    fallback_alternatives: Annotated[int, Within(1, 1000)] = 3
    """Alternatives that are completed and judged at most."""

    def __post_init__(self) -> None:
        check_ranges(self)
        lengths = self.token_set_lengths
        if not lengths or any(not isinstance(n, int) or n < 1 for n in lengths):
            raise ConfigError(f"token_set_lengths = {lengths!r}", hint="use one or more whole numbers >= 1")
        if max(self.max_simulations, self.extra_simulations) < 2:
            raise ConfigError(
                "max_simulations and extra_simulations must not both be 1",
                hint="the first simulation judges the prompt itself; allow at least 2",
            )
        self._check_proposals()
        sentence = self.sentence_tokens
        if len(sentence) != 2 or not 1 <= sentence[0] <= sentence[1]:
            raise ConfigError(
                f"sentence_tokens = {sentence!r}", hint="use the minimum and maximum tokens, such as 4, 32"
            )

    def _check_proposals(self) -> None:
        for entry in self.proposals:
            name, colon, count = entry.partition(":")
            known = name in PROPOSALS or name in added_names(PROPOSAL_GROUP)
            if not known or (colon and not (count.isdecimal() and int(count) > 0)):
                kinds = ", ".join([*PROPOSALS, *added_names(PROPOSAL_GROUP)])
                raise ConfigError(
                    f"proposals: {entry!r} is no kind of proposal",
                    hint=f"use KIND or KIND:NUMBER; kinds: {kinds}",
                )

    def token_set_length(self, depth: int) -> int:
        """Tokens per set below a node at `depth` edges from the prompt."""
        return self.token_set_lengths[min(depth, len(self.token_set_lengths) - 1)]

    @property
    def steers(self) -> bool:
        """Whether proposals of the kind `steered` are asked for."""
        return self.strategy == "verify-first" and any(
            entry.partition(":")[0] == "steered" for entry in self.proposals
        )

    @property
    def needs_embeddings(self) -> bool:
        """Whether similarity update or widening asks for embeddings."""
        return self.strategy == "paper" and (self.similarity or self.widening)

    @property
    def fallback_threshold(self) -> float:
        """A finished answer is good if its score is above this; in [-1, 1]."""
        return self.accept_value if self.strategy == "verify-first" else 0.0

    @property
    def overrun(self) -> int:
        """How many tokens the last token set may lie beyond the limit, at most."""
        return max(self.token_set_lengths) if self.strategy == "paper" else 0

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SearchConfig:
        """A preset, perhaps with changes.

        Args:
            name: One of `PRESETS`.
            changes: Fields of `SearchConfig` with their new values.

        Returns:
            The configuration.

        Raises:
            ConfigError: the preset or a field is unknown, or a value is out of range.
        """
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}", hint=near_misses.hint(name, PRESETS, "presets"))
        return PRESETS[name].with_changes(**changes)

    def with_changes(self, **changes: Any) -> SearchConfig:
        """A copy with other values.

        Args:
            changes: Fields of `SearchConfig` with their new values.

        Returns:
            The configuration.

        Raises:
            ConfigError: a field is unknown, or a value is out of range.
        """
        known = {f.name for f in fields(self)}
        for option in changes:
            if option not in known:
                raise ConfigError(
                    f"unknown option {option!r}", hint=near_misses.hint(option, sorted(known), "options")
                )
        return replace(self, **changes)


_OURS = SearchConfig(
    strategy="verify-first",
    placement="cheapest",
    votes="debiased",
    min_label_mass=0.01,
    proposals=("guided:4", "openings", "sampled", "declined"),
    rising_bar=True,
    decline_above=0.9,
)

PRESETS: dict[str, SearchConfig] = {
    "fast": _OURS.with_changes(
        sentence_tokens=(20, 48),
        alternatives=6,
        first_good=True,
        hold_back=0,
        hold_tokens=16,
        max_simulations=40,
        order_margin=3.0,
        trust_tokens=100,
    ),
    "balanced": _OURS.with_changes(undecided_margin=0.3, order_margin=4.0, trust_tokens=20),
    "thorough": _OURS.with_changes(
        accept_value=0.5,
        undecided_margin=0.3,
        alternatives=16,
        max_children=64,
        max_simulations=200,
        hold_back=1000,
        hold_tokens=1000,
    ),
    "paper-hh": SearchConfig(),
    "paper-adv": SearchConfig(
        min_evaluations=5, candidate_temperature=2.0, redraw=True, criterion="harmlessness-command"
    ),
    "paper-truth": SearchConfig(
        min_evaluations=16, rollout_endings="", next_turn_ends=False, criterion="truthfulness"
    ),
    "paper-imdb": SearchConfig(criterion="positive-sentiment"),
}
"""Ours by what one wants, and the faithful ones."""

DEFAULT_PRESET = "balanced"


def search_config(preset: str, settings: Iterable[str] | None = None) -> SearchConfig:
    """A preset with changes in text form, as on the command line.

    Args:
        preset: One of `PRESETS`.
        settings: Changes, each NAME=VALUE.

    Returns:
        The configuration.

    Raises:
        ConfigError: the preset or a name is unknown, or a value cannot be read.
    """
    base = SearchConfig.preset(preset)
    changes: dict[str, Any] = {}
    for setting in settings or []:
        name, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(
                f"the setting {setting!r} is not of the form NAME=VALUE", hint="use one such as candidates=5"
            )
        changes[name] = _parse(name, text, base)
    return base.with_changes(**changes)


def _parse(name: str, text: str, base: SearchConfig) -> Any:
    """Read a value of the type the option has."""
    kinds = {field.name: type(getattr(base, field.name)) for field in fields(base)}
    kind = kinds.get(name, str)
    try:
        if kind is bool:
            return {"true": True, "false": False, "on": True, "off": False}[text.lower()]
        if kind is tuple:
            part = type(getattr(base, name)[0])
            return tuple(part(entry) for entry in map(str.strip, text.split(",")) if entry)
        return kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{name} = {text!r} is not a {kind.__name__}") from error
