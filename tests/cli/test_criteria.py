"""`rain criteria show` and `new`."""

from __future__ import annotations

from pathlib import Path

from cli.command import Rain

from rain_decoding import load_criterion
from rain_decoding.self_evaluation.criterion import CRITERIA


def test_a_criterion_is_shown_as_it_stands_in_its_file(rain: Rain) -> None:
    assert rain("criteria", "show", "helpfulness").out == CRITERIA["helpfulness"].read_text(encoding="utf-8")
    assert "did you mean 'helpfulness'" in rain("criteria", "show", "helpfullness").err


ANSWERS = [
    'The answer is "polite".',
    "The answer is rude, or \\ mocks.",
    "What is a leek?",
    "A vegetable; thank you for asking.",
    "What is a pea?",
    "You don't know? Ha!",
    "Where is Ulm?",
    "It lies on the Danube.\tEnjoy!",
    "Where is Bonn?",
    "Look it up.",
]


def test_a_new_one_is_asked_for_and_judges(rain: Rain, tmp_path: Path) -> None:
    file = tmp_path / "polite.toml"
    result = rain("criteria", "new", file, stdin="".join(line + "\n" for line in ANSWERS))
    assert result.code == 0, result.err
    found = load_criterion(file)
    assert (found.name, found.statements) == ("polite", (ANSWERS[0], ANSWERS[1]))
    turns = [tuple(message.content for message in example.messages) for example in found.examples]
    assert turns == list(zip(ANSWERS[2::2], ANSWERS[3::2], strict=True))
    verdicts = [example.verdict for example in found.examples]
    assert verdicts == ["positive", "negative"] * 2
    assert sorted((e.verdict, e.first) for e in found.examples) == sorted(
        (verdict, first) for verdict in set(verdicts) for first in set(verdicts)
    )
    assert rain("generate", "How do I bake a nut roll?", "--criterion", file, "--max-tokens", "8").code == 0
    assert rain("criteria", "new", file).code == 2
