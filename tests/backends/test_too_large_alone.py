"""A request that does not fit into memory ends by itself; those beside it go on as if it had not been there."""

from __future__ import annotations

from collections.abc import Sequence

from decoder_worlds import babble_world

from rain_decoding import CapacityError
from rain_decoding.backends.base import Forwarded
from rain_decoding.backends.local import LocalBackend
from rain_decoding.types import Decode, Tokens

LIMIT = 60


class SmallEngine:
    """An engine whose memory holds sequences of `LIMIT` tokens."""

    def __init__(self, engine: object):
        self.engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def forward(self, sequences: Sequence[Tokens], owners: Sequence[int]) -> Forwarded:
        if max(map(len, sequences)) > LIMIT:
            raise CapacityError("too large")
        return self.engine.forward(sequences, owners)  # type: ignore[attr-defined]


def small() -> LocalBackend:
    backend = babble_world()
    backend._engine = SmallEngine(backend.engine)
    return backend


def test_only_the_one_that_is_too_large_fails() -> None:
    backend = small()
    prefixes = [
        backend.codec.encode("Assistant:"),
        backend.codec.encode("x" * 100),
        backend.codec.encode("y"),
    ]
    handles = [backend.submit(Decode(prefix, 5, seed=1), backend.new_owner()) for prefix in prefixes]
    replies = {}
    while len(replies) < 3:
        replies |= {reply.handle: reply for reply in backend.step()}
    assert isinstance(replies[handles[1]].error, CapacityError)
    for index in (0, 2):
        alone = babble_world()
        handle = alone.submit(Decode(prefixes[index], 5, seed=1), alone.new_owner())
        expected = []
        while not expected:
            expected = alone.step()
        assert expected[0].handle is handle
        assert replies[handles[index]].value == expected[0].value
        assert handles[index].forwarded == handle.forwarded
