"""What a failed request over HTTP comes to, for models and for judges behind endpoints.

It is sent again, after how long a wait, or it is refused.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from tenacity import RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from rain_decoding.errors import (
    BackendError,
    ContextLengthError,
    ModelNotFoundError,
    RainError,
    RefusedError,
)

LONGEST_WAIT = 60.0
"""Seconds between two attempts at most, whatever the server asks for."""


class Transient(Exception):  # noqa: N818 - becomes an error of ours when it lasts
    """An attempt failed and another may succeed, after `wait` seconds if the server says so.

    `late`: nothing came in time.
    """

    def __init__(self, problem: str, wait: float | None = None, *, late: bool = False):
        super().__init__(problem)
        self.wait, self.late = wait, late


def temporary(status: int) -> bool:
    """Whether the same request may succeed after this status: the server is busy or broken, not unable."""
    return status in (408, 409, 425, 429) or (status >= 500 and status not in (501, 505))


def refusal(status: int, problem: str, reason: str) -> RainError:
    """The error that a status other than success means which is not `temporary`; `reason` is what the server says."""
    said = reason.lower()
    if status in (401, 403):
        return BackendError(problem, hint="set RAIN_API_KEY to a key that the server accepts")
    if status == 404:
        return ModelNotFoundError(
            problem, hint="check the model's name and the base URL, which usually ends in /v1"
        )
    if "context" in said and any(word in said for word in ("length", "exceed", "maximum", "more tokens")):
        way_out = "shorten the prompt"  # a server of ours says it itself
        hint = "" if way_out in said else f"{way_out} or ask for fewer tokens"
        return ContextLengthError(problem, hint=hint)
    return RefusedError(problem, reason=reason)


def retry_after(value: str | None) -> float | None:
    """Seconds, >= 0, from the header of that name, which is a number or a date; None for anything else."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def policy(
    attempts: int, backoff: float, *, also: tuple[type[Exception], ...] = (), heeds: bool = True
) -> dict[str, Any]:
    """Options for tenacity's `Retrying` and `AsyncRetrying`.

    Up to `attempts` >= 1 attempts while `Transient`, or one of `also`, is raised; the last one is raised on. Waits are
    drawn from a range that doubles from `backoff` seconds on; where the server asks for one, and `heeds`, it is that.
    """
    growing = wait_random_exponential(multiplier=backoff, max=LONGEST_WAIT)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if heeds and isinstance(error, Transient) and error.wait is not None:
            return min(error.wait, LONGEST_WAIT)
        return growing(state)

    return {
        "stop": stop_after_attempt(attempts),
        "wait": wait,
        "retry": retry_if_exception_type((Transient, *also)),
        "reraise": True,
    }
