"""What a judge's prefix costs is charged once, to the first answer that it was needed for."""

from __future__ import annotations

from typing import Any

import pytest

from rain_decoding import PlainDecoder, RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.local import LocalBackend

PROMPT = "How do I bake a nut roll at the summer fair?"


@pytest.mark.parametrize("engine", ["trie", "rows"])
def test_all_usages_together_are_all_that_the_model_forwarded(engine: str) -> None:
    backend: Any = load_backend("demo", engine=engine)
    assert isinstance(backend, LocalBackend)
    forwarded, forward = 0, backend.engine.forward

    def counted(*arguments: Any) -> Any:
        nonlocal forwarded
        found = forward(*arguments)
        forwarded += sum(found.counts)
        return found

    backend.engine.forward = counted
    decoder = RainDecoder(backend, "harmlessness", SearchConfig.preset("paper-hh", max_simulations=8))
    plain = PlainDecoder(backend).generate(PROMPT, max_tokens=6).usage
    first, second = (decoder.generate(PROMPT, max_tokens=6, seed=seed).usage for seed in (1, 2))
    assert first.prefix_tokens > 0
    assert plain.prefix_tokens == second.prefix_tokens == 0, "plain decoding has no judge"
    assert forwarded == sum(each.search_tokens + each.prefix_tokens for each in (plain, first, second))
