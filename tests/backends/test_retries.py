"""One policy for all that is asked over HTTP."""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import Any

import pytest
from tenacity import Retrying

from rain_decoding.backends.retries import LONGEST_WAIT, Transient, policy, retry_after, temporary


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 529])
def test_what_may_pass(status: int) -> None:
    assert temporary(status)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 403, 404, 413, 422, 501, 505])
def test_what_stays(status: int) -> None:
    assert not temporary(status)


def test_the_header_is_seconds_or_a_date() -> None:
    assert retry_after("7.5") == 7.5 and retry_after("-3") == 0 and retry_after("0") == 0
    assert retry_after(formatdate(time() + 100)) == pytest.approx(100, abs=5)
    assert retry_after(formatdate(time() - 100)) == 0
    assert retry_after(None) is retry_after("") is retry_after("soon") is None


def waits(*errors: Exception, **options: Any) -> tuple[list[float], str]:
    """How long is waited after each of the errors, and what comes in the end."""
    waited: list[float] = []
    coming = iter(errors)

    def attempt() -> str:
        for error in coming:
            raise error
        return "done"

    rules = {"attempts": 4, "backoff": 1.0, **options}
    return waited, Retrying(**policy(**rules), sleep=waited.append)(attempt)


def test_waits_are_what_the_server_asks_for_and_grow_otherwise() -> None:
    waited, result = waits(Transient("busy", 7.0), Transient("busy", 86400.0), Transient("broken"))
    assert result == "done" and waited[:2] == [7.0, LONGEST_WAIT] and 0 <= waited[2] <= 4
    waited, _ = waits(Transient("busy", 7.0), heeds=False)
    assert 0 <= waited[0] <= 1, "the first wait of its own"


def test_the_last_error_is_raised_and_others_at_once() -> None:
    with pytest.raises(Transient, match="fourth"):
        waits(*(Transient(name) for name in ("first", "second", "third", "fourth")), backoff=0.0)
    with pytest.raises(ValueError, match="broken"):
        waits(ValueError("broken"))
    assert waits(ValueError("broken"), also=(ValueError,))[1] == "done"
