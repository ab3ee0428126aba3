"""What there is by name: our own things, and those that other packages add by entry points.

A package that adds a backend says so in its `pyproject.toml`, and has an `Entry` of the same name there:

    [project.entry-points."rain_decoding.backends"]
    toy = "toy_package:BACKEND"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, Generic, TypeVar

from rain_decoding.errors import ConfigError, RainError
from rain_decoding.near_misses import nearest

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Things of one kind by name: `own`, then those that installed packages add as entry points of `group`.

    The code of a package runs when its thing is asked for, and our own are found without a look at the packages.
    Raises `ConfigError` naming the package where its thing cannot be loaded, is of another kind, or has a name that
    is taken.
    """

    def __init__(
        self, group: str, kind: type[Any], own: Iterable[T], name_of: Callable[[T], str] = attrgetter("name")
    ):
        self.group, self.kind, self.name_of = group, kind, name_of
        self.own: dict[str, T] = {name_of(thing): thing for thing in own}

    def add(self, thing: T) -> None:
        """Make a thing known by its name, in this process. Raises `ConfigError` where the name is taken."""
        name = self.name_of(thing)
        if name in self:
            raise ConfigError(f"{name!r} is already in {self.group}", hint="use another name")
        self.own[name] = thing

    def __getitem__(self, name: str) -> T:
        return self.own[name] if name in self.own else self._load(self._added()[name])

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._added()

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self._added()

    def __len__(self) -> int:
        return len(self.own) + len(self._added())

    def _added(self) -> dict[str, EntryPoint]:
        added: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self.own or point.name in added:
                raise _wrong(point, "has a name that is already taken")
            added[point.name] = point
        return added

    def _load(self, point: EntryPoint) -> T:
        try:
            thing: T = point.load()
        except Exception as error:
            raise _wrong(point, f"cannot be loaded: {error!r}") from error
        if not isinstance(thing, self.kind):
            raise _wrong(point, f"is not a {self.kind.__name__}: {thing!r}")
        if self.name_of(thing) != point.name:
            raise _wrong(point, f"calls itself {self.name_of(thing)!r}")
        return thing


def added_names(group: str) -> list[str]:
    """Names that packages add to a group; no package's code runs."""
    return [point.name for point in entry_points(group=group)]


def _wrong(point: EntryPoint, problem: str) -> ConfigError:
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
    return ConfigError(
        f"{point.name!r}, which {package} registers in {point.group}, {problem}",
        hint="update or uninstall that package",
    )


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """Something that is loaded by its name.

    `form` is how the name is written, with what stands behind the colon in capitals, if anything may: `gguf:FILE`.
    `load` is called with that text; what else it is given, the registry says. `note` is a line about it, `extra` the
    extra of ours to install for it.
    """

    form: str
    load: Callable[..., T]
    note: str = ""
    extra: str = ""

    @property
    def name(self) -> str:
        return self.form.partition(":")[0]


class Forms(Registry[Entry[T]]):
    """A registry of entries. `what` is what messages call them, `short` forms that its users turn into one of these."""

    def __init__(
        self,
        group: str,
        what: str,
        own: Iterable[Entry[T]],
        *,
        unknown: type[RainError],
        short: Sequence[str] = (),
    ):
        super().__init__(group, Entry, own)
        self.what, self.unknown, self.short = what, unknown, short

    @property
    def own_forms(self) -> str:
        """The forms of our own entries and the short ones, for a help text: no package's code runs."""
        return ", ".join((*(entry.form for entry in self.own.values()), *self.short))

    def find(self, text: str) -> tuple[Entry[T], str]:
        """The entry that a name such as gguf:FILE is of, and what stands behind the colon.

        Raises an error of the class `unknown`, with all forms, for a name of none of them.
        """
        name, _, argument = text.partition(":")
        entry = self.get(name)
        if entry is None or bool(argument) != (":" in entry.form):
            forms = {
                form.partition(":")[0]: form
                for form in (*(known.form for known in self.values()), *self.short)
            }
            near = nearest(name, forms)
            meant = f"did you mean {forms[near]}? " if near else ""
            raise self.unknown(
                f"unknown {self.what} {text!r}", hint=f"{meant}forms: {', '.join(forms.values())}"
            )
        return entry, argument
