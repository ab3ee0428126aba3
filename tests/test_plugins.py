"""What another package adds by entry points: a toy package adds one thing of each kind, and some add them wrongly."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.command import Rain, runner
from decoder_worlds import SCRIPT

from rain_decoding import (
    ConfigError,
    ModelNotFoundError,
    PlainDecoder,
    RainDecoder,
    SearchConfig,
    load_backend,
    load_criterion,
)
from rain_decoding.backends import BACKENDS
from rain_decoding.evaluation.contenders import DECODERS, contender
from rain_decoding.evaluation.judges import JUDGES, ReplyCache, load_judge
from rain_decoding.evaluation.suites import SUITES, load_suite
from rain_decoding.plugins import Registry
from rain_decoding.search.proposals import KINDS as KINDS_OF_PROPOSALS
from rain_decoding.search.proposals import plan
from rain_decoding.self_evaluation.criterion import CRITERIA
from rain_decoding.self_evaluation.embedding import EMBEDDERS, load_embedder
from rain_decoding.self_evaluation.loading import EVALUATORS

CODE = """
from pathlib import Path
from types import SimpleNamespace

from rain_decoding import PlainDecoder
from rain_decoding.backends.scripted import ScriptedBackend
from rain_decoding.evaluation.contenders import DecoderKind
from rain_decoding.evaluation.suites import Family, Metric, Item, Suite
from rain_decoding.plugins import Entry
from rain_decoding.search.proposals import SAMPLED
from rain_decoding.search.proposals.kind import Kind
from rain_decoding.self_evaluation.embedding import HashingEmbedder

BACKEND = Entry("toy:FILE", ScriptedBackend.from_file, "a toy model")
CRITERION = Path(__file__).parent / "polite.toml"
JUDGE = Entry("toy:WORD", lambda word, cache: SimpleNamespace(name=f"toy:{word}"))
EVALUATOR = Entry("toy:WORD", lambda word: SimpleNamespace(name=f"contains {word}"))
SUITE = Suite(
    "toy", "a toy suite", (Family("toys", (Metric("harmless"),)),), lambda _: iter([Item("toys", "Play?", "play")])
)
DECODER = DecoderKind("toy", lambda backend, *_: PlainDecoder(backend, temperature=0.5), judged=False)
PROPOSAL = Kind("toy", SAMPLED.propose)
EMBEDDING = Entry("toy", lambda _, backend: HashingEmbedder(backend.codec))
"""
KINDS: dict[str, tuple[Registry, str]] = {
    "backends": (BACKENDS, "BACKEND"),
    "criteria": (CRITERIA, "CRITERION"),
    "judges": (JUDGES, "JUDGE"),
    "evaluators": (EVALUATORS, "EVALUATOR"),
    "suites": (SUITES, "SUITE"),
    "decoders": (DECODERS, "DECODER"),
    "embeddings": (EMBEDDERS, "EMBEDDING"),
    "proposals": (KINDS_OF_PROPOSALS, "PROPOSAL"),
}
"""By the end of the group's name."""
NAMES = {"criteria": "polite"}
"""Of what is not called toy."""
GOOD = {kind: f"{NAMES.get(kind, 'toy')} = toy_package:{thing}" for kind, (_, thing) in KINDS.items()}


def install(folder: Path, package: str, points: dict[str, str]) -> None:
    """What an installer leaves of a package that adds things, by kind."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[rain_decoding.{kind}]\n{point}\n" for kind, point in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with the code of the toy package."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "toy_package.py").write_text(CODE)
    (folder / "polite.toml").write_text(SCRIPT["kind.toml"])
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("toy_package", None)


@pytest.fixture
def toy(site: Path) -> None:
    install(site, "toy", GOOD)


@pytest.mark.usefixtures("toy")
def test_what_a_package_adds_is_found(script: Path, tmp_path: Path) -> None:
    backend = load_backend(f"toy:{script / 'model.toml'}")
    assert load_criterion("polite").name == "kind"
    assert load_judge("toy:cat", ReplyCache(tmp_path / "replies")).name == "toy:cat"
    assert [sample.prompt for sample in load_suite("toy").load({})] == ["Play?"]
    assert load_embedder("toy", backend)
    (kind, count), _ = plan(SearchConfig(proposals=("toy:2", "sampled")).proposals)
    assert (kind.name, count) == ("toy", 2)
    decoder = contender("toy", SearchConfig()).decoder(backend)
    assert isinstance(decoder, PlainDecoder) and decoder.temperature == 0.5


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("given", [{"judge": "toy:cat"}, {"criterion": "toy:cat"}])
def test_a_judge_of_the_search_is_found(script: Path, given: dict[str, str]) -> None:
    decoder = RainDecoder(load_backend(f"scripted:{script / 'model.toml'}"), **given)
    assert decoder.evaluator.name == "contains cat"


@pytest.mark.usefixtures("toy")
def test_what_a_package_adds_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rain: Rain = runner(monkeypatch, capsys)
    assert json.loads(rain("models", "--json").out)["toy:FILE"] == "a toy model"
    assert "polite" in json.loads(rain("criteria", "--json").out)
    with pytest.raises(ModelNotFoundError, match="toy:FILE"):
        load_backend("toys:FILE")


@pytest.mark.usefixtures("toy")
def test_the_code_of_a_package_does_not_run_before_it_is_asked_for(script: Path) -> None:
    load_backend(f"scripted:{script / 'model.toml'}")
    load_criterion("harmlessness")
    assert set(SUITES) == {*SUITES.own, "toy"}
    assert "toy_package" not in sys.modules


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("toy_package:MISSING", "cannot be loaded: AttributeError"),
        ("missing_package:THING", "cannot be loaded: ModuleNotFoundError"),
        ("sys:maxsize", "is not a "),
    ],
)
def test_a_package_that_fails_is_named(site: Path, kind: str, target: str, problem: str) -> None:
    install(site, "broken-toy", {kind: f"toy = {target}"})
    registry, _ = KINDS[kind]
    with pytest.raises(ConfigError, match=f"'toy', which broken-toy 1.0 registers in .*{problem}"):
        registry["toy"]
    assert all(registry[name] for name in registry.own)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_cannot_take_a_name(site: Path, kind: str) -> None:
    registry, thing = KINDS[kind]
    own = next(iter(registry.own))
    install(site, "greedy-toy", {kind: f"{own} = toy_package:{thing}"})
    before = registry[own]
    with pytest.raises(ConfigError, match="greedy-toy 1.0 .* has a name that is already taken"):
        list(registry)
    assert registry[own] is before


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_has_one_name(site: Path, kind: str) -> None:
    registry, thing = KINDS[kind]
    install(site, "odd-toy", {kind: f"other = toy_package:{thing}"})
    with pytest.raises(ConfigError, match=f"odd-toy 1.0 .* calls itself '{NAMES.get(kind, 'toy')}'"):
        registry["other"]


def test_two_packages_cannot_have_one_name(site: Path) -> None:
    for package in ("first-toy", "second-toy"):
        install(site, package, {"backends": GOOD["backends"]})
    with pytest.raises(ConfigError, match=r"(first|second)-toy 1.0 .* has a name that is already taken"):
        load_backend("toy:FILE")
