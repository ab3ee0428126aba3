"""What goes wrong outside of the program ends in one line that says what to do, never in a traceback."""

from __future__ import annotations

import zlib

import pytest

from rain_decoding import cli


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(28, "No space left on device", "run/records.jsonl"), "run/records.jsonl: No space left"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError("nothing"), "nothing"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "surrogates"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (zlib.error("Error -3"), "damaged"),
        (EOFError("ended early"), "damaged"),
        (ImportError("No module named 'x'"), "No module named 'x'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_the_world_are_explained(
    raised: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "with_examples", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(["version"])
    told = capsys.readouterr().err
    assert caught.value.code == 1
    assert said in told and told.startswith("error:") and "None" not in told and "Traceback" not in told


def test_an_export_that_cannot_be_written_names_the_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "export", "--hf", "/dev/null/folder"])
    told = capsys.readouterr().err
    assert "cannot write /dev/null" in told and "None" not in told
