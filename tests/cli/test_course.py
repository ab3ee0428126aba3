"""`rain trace --plot`: the scores that a reading judge gave, drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cli.command import Rain
from decoding.test_decoder_reads import wary

from rain_decoding import load_backend
from rain_decoding.cli.course import draw_course
from rain_decoding.decoding.trace import TracedNode, read_trace, replay


def traced(rain: Rain, script: Path, judge: str) -> Path:
    options = ("--model", f"scripted:{script / 'model.toml'}", "--criterion", script / "kind.toml")
    file = script / "trace.jsonl"
    result = rain("generate", "Open the lock.", *options, "--judge", judge, "--trace", file)
    assert result.code == 0, result.err
    return file


def read_by_a_probe(rain: Rain, script: Path) -> Path:
    backend = load_backend(f"scripted:{script / 'model.toml'}")
    own = replace(wary(backend, " a hairpin"), model=backend.fingerprint, criterion_name="kind")
    own.save(script / "probe.json")
    return traced(rain, script, f"read#probe={script / 'probe.json'}")


def nodes(node: TracedNode) -> list[TracedNode]:
    return [node, *(below for child in node.children for below in nodes(child))]


def test_the_turn_and_the_answer_are_drawn(rain: Rain, script: Path) -> None:
    file, picture = read_by_a_probe(rain, script), script / "course.svg"
    result = rain("trace", file, "--plot", picture)
    assert result.code == 0 and f"plot: {picture}" in result.err
    drawn = picture.read_text(encoding="utf-8")
    judged = [event for event in read_trace(file) if event["event"] == "judge"]
    bad, last = next(event for event in judged if event["score"] < 0), judged[-1]
    assert f"turned back, score {bad['course'][-1]:+.2f}" in drawn
    assert f"answer, score {last['course'][-1]:+.2f}" in drawn
    for piece in ("Sure, take a hairpin.", "No, I will not."):
        assert piece in drawn
    by_id = {node.id: node for node in nodes(replay(read_trace(file)))}
    assert all(by_id[event["node"]].course == tuple(event["course"]) for event in judged)
    path, node = 0, by_id[bad["node"]]
    while node.parent is not None:
        path, node = path + node.tokens, node.parent
    assert len(bad["course"]) == path - 1, "the last token is not read yet"


def test_what_nothing_read_is_not_drawn(rain: Rain, script: Path) -> None:
    result = rain("trace", traced(rain, script, "ask"), "--plot", script / "course.png")
    assert result.code == 2 and "record one with --judge read" in result.err
    assert not (script / "course.png").exists()
    wrong = rain("trace", script / "trace.jsonl", "--plot", script / "course.doc")
    assert wrong.code == 2 and "unknown image format" in wrong.err


def test_a_text_without_a_turn_has_one_panel(tmp_path: Path) -> None:
    root = TracedNode(0, None, "", 1.0, committed=True)
    root.children.append(TracedNode(1, root, " Well.", 1.0, committed=True, tokens=2, course=(0.1, 0.5)))
    draw_course(root, 0.0, tmp_path / "one.svg")
    drawn = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert "answer, score +0.50" in drawn and "turned back" not in drawn
