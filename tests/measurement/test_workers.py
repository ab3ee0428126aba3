"""Interrupting what runs in several processes."""

from __future__ import annotations

import os
import signal

import pytest

from rain_decoding.measurement.workers import one_interrupt


def test_a_second_ctrl_c_does_not_break_off_the_shutdown() -> None:
    before = signal.getsignal(signal.SIGINT)
    shut_down = False
    with pytest.raises(KeyboardInterrupt), one_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            shut_down = True
    assert shut_down and signal.getsignal(signal.SIGINT) is before
