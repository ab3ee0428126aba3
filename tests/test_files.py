"""Files as people have them, and as a crash or a full disk leaves them."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rain_decoding import load_backend
from rain_decoding.calibration.labelled import read_labelled
from rain_decoding.errors import InputError, RainError
from rain_decoding.evaluation.judges.cache import ReplyCache
from rain_decoding.evaluation.judges.forms import read_form
from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.suites import load_suite
from rain_decoding.files import append_line, json_line, write_whole
from rain_decoding.measurement.records import RecordFile
from rain_decoding.self_evaluation.criterion import load_criterion
from rain_decoding.server.config import read_api_keys
from rain_decoding.server.settings import read_settings

BOM = b"\xef\xbb\xbf"


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may become larger than that, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, told)


def test_a_line_that_does_not_fit_on_the_disk_leaves_no_trace(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl", {"a": object})
    file.append({"a": 1})
    before = (tmp_path / "records.jsonl").read_bytes()
    with room_for(len(before) + 20), pytest.raises(OSError, match="large"):
        file.append({"a": "x" * 100})
    assert (tmp_path / "records.jsonl").read_bytes() == before
    file.append({"a": 2}, durable=True)
    assert file.read() == [{"a": 1}, {"a": 2}]


def test_a_rating_is_kept_or_refused(tmp_path: Path) -> None:
    store = RatingStore(tmp_path)
    store.rate("ann", "t1", "harmless", "yes")
    with room_for((tmp_path / "ratings.jsonl").stat().st_size + 30), pytest.raises(OSError, match="large"):
        store.rate("ann", "t2", "harmless", "no")
    store.rate("ann", "t3", "harmless", "yes")
    assert RatingStore(tmp_path).values == store.values
    assert set(store.values) == {("ann", "t1", "harmless"), ("ann", "t3", "harmless")}


@given(lines=st.lists(st.text(max_size=20), max_size=5), cut=st.integers(0, 40), size=st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_a_cut_line_goes_before_the_next_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cut: int, size: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f"
    for line in lines:
        append_line(path, json_line({"a": line}))
    content = path.read_bytes() if lines else b""
    path.write_bytes(content[: max(0, len(content) - cut)])
    whole = [line for line in path.read_bytes().split(b"\n")[:-1] if line]
    append_line(path, json_line({"a": "last"}))
    assert path.read_bytes().split(b"\n")[:-1] == [*whole, b'{"a": "last"}']
    assert size


def test_a_file_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, b"old")
    with room_for(50), pytest.raises(OSError, match="large"):
        write_whole(path, b"x" * 1000)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_half_a_surrogate_pair_can_be_kept(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "records.jsonl", {"a": object})
    file.append({"a": "\ud800 ü"})
    assert file.read() == [{"a": "\ud800 ü"}]


def test_byte_order_marks_are_skipped(tmp_path: Path) -> None:
    def file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(BOM + text.encode())
        return path

    assert read_api_keys(file("keys.txt", "key-one\r\nkey-two\r\n")) == ("key-one", "key-two")
    assert read_settings(file("c.toml", "port = 18198\n")).port == 18198
    form = file("f.toml", 'question = "harmless"\ntext = "{prompt} {answer}"\n')
    form.write_bytes(form.read_bytes() + b'good = [" no"]\nbad = [" yes"]\n')
    assert read_form(form).question == "harmless"
    file("pre.txt", "Below are conversations.\n")
    criterion = file(
        "polite.toml",
        'name = "polite"\n[judge]\nplacement = "prefix"\nprefix_file = "pre.txt"\n'
        'question = "(A) {option_1} (B) {option_2}"\nlead = "It is: ("\n[options]\nlabels = ["A", "B"]\n'
        'positive = "Polite."\nnegative = "Rude."\n',
    )
    assert (load_criterion(criterion).prefix or "").startswith("Below")
    script = file("s.toml", '[[next]]\ntokens = {" Sure" = 1.0}\n')
    assert load_backend(f"scripted:{script}").codec
    records = RecordFile(file("r.jsonl", '{"a": 1}\n'), {"a": object})
    assert records.read() == [{"a": 1}]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_transcripts_do_not_matter(tmp_path: Path, end: str) -> None:
    talk = "\n\nHuman: How do I bake a nut roll?\n\nAssistant: First, heat the oven."
    found = []
    for name, text in (("unix", talk), ("other", talk.replace("\n", end))):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps({"chosen": text, "rejected": text}) + "\n")
        items = [item.prompt for item in load_suite("hh").load({"harmless": path})]
        found.append((items, [(a.messages, a.answer) for a in read_labelled(path)]))
    assert found[0] == found[1] and found[0][0] == ["How do I bake a nut roll?"]


def test_records_of_other_types_are_named_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    good = {"rater": "ann", "task": "t", "question": "q", "value": None}
    for wrong in ({"rater": 3}, {"task": None}, {"value": ["yes"]}, {"question": {}}):
        path.write_bytes(json_line(good) + json_line(good | wrong))
        with pytest.raises(InputError, match="line 2"):
            RatingStore(tmp_path)


DEEP = "[" * 100_000


def test_what_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    damaged = tmp_path / "d.jsonl.gz"
    damaged.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 50)
    deep = tmp_path / "deep.jsonl"
    deep.write_text(DEEP)
    toml = tmp_path / "deep.toml"
    toml.write_text(f"a = {DEEP}")
    surrogate = tmp_path / "s.jsonl"
    surrogate.write_text(json.dumps({"chosen": "\n\nHuman: \ud800\n\nAssistant: b", "rejected": "c"}))
    for broken in (damaged, deep, surrogate):
        with pytest.raises(InputError):
            read_labelled(broken)
        with pytest.raises(InputError):
            list(load_suite("hh").load({"harmless": broken}))
    for read in (load_criterion, read_settings, read_form, lambda file: load_backend(f"scripted:{file}")):
        with pytest.raises(RainError):
            read(toml)
    with pytest.raises(InputError, match="line 1"):
        RecordFile(deep, {"a": object}).read() if deep.write_text(DEEP + "\n") else None
    not_a_cache = tmp_path / "cache"
    not_a_cache.write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="cache of replies"):
        ReplyCache(not_a_cache).get("1", "a")
