"""Traces: what is written is read back, replays to the live tree, and a broken file is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from decoder_worlds import CRITERION, PLAIN_SEARCH, babble_world, lock_world

from rain_decoding import InputError, RainDecoder, SearchConfig
from rain_decoding.decoding.rain_session import RainSession
from rain_decoding.decoding.trace import TracedNode, read_trace, replay, write_trace
from rain_decoding.search.selection import terms
from rain_decoding.search.tree import Node

WIDE = SearchConfig(candidates=3, max_simulations=12, extra_simulations=4, token_set_lengths=(1, 2, 3))


def search(
    config: SearchConfig, prompt: str = "Question 1?", seed: int = 0
) -> tuple[Node, list[dict[str, Any]]]:
    """The first root of a live search, with everything ever below it, and the search's trace."""
    stream = RainDecoder(babble_world(), CRITERION, config).stream(
        prompt, seed=seed, trace=True, max_tokens=20
    )
    session = stream._session
    assert isinstance(session, RainSession) and session.tree is not None
    root = session.tree.root
    for _ in stream:
        pass
    assert stream.completion is not None
    return root, list(stream.completion.trace)


def assert_same(live: Node, traced: TracedNode, constant: float) -> int:
    """Compare two trees node by node; returns how many nodes there were."""
    assert (live.id, live.evaluations) == (traced.id, traced.evaluations)
    assert (live.visits, live.value, live.prior) == (traced.visits, traced.value, traced.prior)
    assert len(live.children) == len(traced.children)
    for child, other in zip(live.children, traced.children, strict=True):
        assert terms(live, child, constant) == (other.q, other.u(constant))
    pairs = zip(live.children, traced.children, strict=True)
    return 1 + sum(assert_same(child, other, constant) for child, other in pairs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "config",
    [
        WIDE,
        replace(WIDE, similarity_threshold=0.0, widening_variance=10.0),
        replace(WIDE, root_uniform_share=1.0),
    ],
    ids=["paper", "alike", "uniform"],
)
def test_a_trace_replays_to_the_live_tree(tmp_path: Path, config: SearchConfig, seed: int) -> None:
    root, events = search(config, seed=seed)
    write_trace(tmp_path / "trace", events)
    read = read_trace(tmp_path / "trace")
    assert read == json.loads(json.dumps(events))
    assert assert_same(root, replay(read), config.exploration) > 20


def test_the_committed_path_spells_the_answer() -> None:
    completion = RainDecoder(lock_world(), CRITERION, PLAIN_SEARCH).generate("Open the lock.", trace=True)
    node, text, rewinds = replay(completion.trace), "", 0
    stack = [node]
    while stack:
        rewinds += stack[-1].rewinds
        stack.extend(stack.pop().children)
    while committed := [child for child in node.children if child.committed]:
        (node,) = committed
        text += node.text
    assert text.strip() == completion.text
    assert rewinds == completion.usage.rewinds > 0


def test_texts_with_any_line_separator_survive(tmp_path: Path) -> None:
    decoder = RainDecoder(lock_world(), CRITERION, PLAIN_SEARCH)
    odd = "Open\u2028the\x85lock\x0b\x1e now\r\n é 漢 🙂."
    completion = decoder.generate(odd, trace=True)
    write_trace(tmp_path / "trace", completion.trace)
    assert read_trace(tmp_path / "trace")[0]["messages"][0]["content"] == odd


def test_a_trace_cut_anywhere_is_an_input_error(tmp_path: Path) -> None:
    _, events = search(replace(WIDE, max_simulations=3))
    write_trace(tmp_path / "whole", events)
    whole = (tmp_path / "whole").read_bytes()
    ends = [position for position, byte in enumerate(whole) if byte == ord("\n")]
    cut = tmp_path / "cut"
    for end in ends[:-1]:
        for length in (end, end + 1, end - 7):
            cut.write_bytes(whole[:length])
            with pytest.raises(InputError, match="cut"):
                read_trace(cut)
    cut.write_bytes(whole[: ends[-1]])
    assert len(read_trace(cut)) == len(events), "only the last line end is missing"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello",
        b"[]",
        b"3",
        b'"event"',
        b'{"event": "start"}',
        b"\xff\xfe",
        b'{"event": "end"}\n{"event": "start"}',
    ],
)
def test_what_is_no_trace_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_trace(tmp_path / "file")
    assert "file" in str(caught.value) and caught.value.hint


def test_unreadable_and_unwritable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path / "missing")
    with pytest.raises(InputError, match="cannot be written"):
        write_trace(tmp_path / "missing" / "trace", [])


@pytest.mark.parametrize(
    "event",
    [
        {"event": "expand", "node": 99, "children": [{"id": 100, "prior": 1.0}]},
        {"event": "expand", "node": 0, "children": [{}]},
        {"event": "priors", "node": 0, "priors": [0.1] * 99},
        {"event": "judge", "node": 0},
        {"event": "backup", "nodes": [{"id": 0}]},
        {"event": "commit", "node": "x"},
        {"event": "rewind", "node": None},
    ],
    ids=lambda event: event["event"],
)
def test_events_that_do_not_fit_together(event: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the trace is inconsistent"):
        replay([{"event": "start"}, event, {"event": "end"}])
