"""Our plain decoding beside a real llama-server with the demo model's file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rain_decoding.microworld.export import write_gguf

pytest.importorskip("xllamacpp", reason="needs the wheel xllamacpp (dev extra)")

from real_models import llama_server
from real_models.llama_server import DECODING, LOOP, OURS, PREFILL, SECONDS, THEIRS


def test_all_answer_the_same_and_every_round_but_the_first_counts(tmp_path: Path) -> None:
    write_gguf(tmp_path / "small.gguf")
    options = {"threads": 1, "n": 2, "rounds": 2, "max_tokens": 12, "seed": 0}
    samples = list(llama_server.measure(tmp_path / "small.gguf", **options))
    assert Counter((sample.contender, sample.figure) for sample in samples) == {
        **dict.fromkeys([(OURS, PREFILL), (LOOP, PREFILL), (THEIRS, PREFILL)], 2),
        **dict.fromkeys([(OURS, DECODING), (THEIRS, DECODING)], 2),
        **dict.fromkeys([(OURS, SECONDS), (LOOP, SECONDS), (THEIRS, SECONDS)], 2 * 2),
    }
    assert all(sample.value > 0 for sample in samples)
    assert len({sample.answer for sample in samples if sample.figure == SECONDS}) == 2  # one a request
    *_, last = llama_server.table("small", samples)
    assert last.endswith("| 4 of 4 |")


def test_a_file_that_no_server_can_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    with pytest.raises(SystemExit, match=r"broken\.gguf"), llama_server.serving(tmp_path / "broken.gguf", 1):
        pass
