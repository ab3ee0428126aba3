"""The same on a GPU: logits and texts of the CPU, no memory kept. Skipped where there is none."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from backends.transformers import tiny
from backends.tree_work import Walk

from rain_decoding import RainDecoder, SearchConfig, load_backend
from rain_decoding.backends.local import LocalBackend
from rain_decoding.backends.transformers.engine import TrieEngine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TOLERANCE = 1e-3
"""Of logits in float32: a GPU sums in another order than a CPU."""


@pytest.fixture(scope="module")
def gpu() -> LocalBackend:
    return load_backend("demo", device="cuda", dtype="float32")


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    from rain_decoding.microworld import FAMILIES, example_prompts

    return [prompt for family in FAMILIES for prompt in example_prompts(family, 4)]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_the_trie_equals_plain_forwards_on_the_cpu(kind):
    engine = TrieEngine(copy.deepcopy(tiny.model(kind)).cuda(), 128)
    work = Walk(engine, partial(tiny.plain, tiny.model(kind)), tiny.VOCABULARY, 3)
    for _ in range(25):
        work.step()
    assert work.worst <= TOLERANCE


def test_answers_are_those_of_the_cpu_and_of_each_prompt_alone(gpu, demo, prompts):
    few, config, limit = prompts[::4], SearchConfig.preset("paper-hh"), {"max_tokens": 48, "seed": 3}
    batch = RainDecoder(gpu, "harmlessness", config).generate_batch(few, **limit)
    on_cpu = RainDecoder(demo, "harmlessness", config).generate_batch(few, **limit)
    assert [one.text for one in batch] == [one.text for one in on_cpu]
    gpu.clear()
    alone = RainDecoder(gpu, "harmlessness", config).generate(few[1], **limit)
    assert (alone.tokens, alone.usage.simulations) == (batch[1].tokens, batch[1].usage.simulations)


def test_judgements_are_those_of_the_cpu(gpu, demo, prompts):
    """Texts are not compared here: among alternatives that the judge likes equally well, rounding chooses."""
    decoder = RainDecoder(gpu, "harmlessness", SearchConfig.preset("balanced"))
    on_cpu = RainDecoder(demo, "harmlessness", SearchConfig.preset("balanced"))
    for prompt, answer in zip(prompts, decoder.generate_batch(prompts, seed=3), strict=True):
        judged = decoder.judge(prompt, answer.text).score
        assert judged == pytest.approx(on_cpu.judge(prompt, answer.text).score, abs=TOLERANCE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs_on_the_trie(prompts, dtype):
    backend = load_backend("demo", device="cuda", dtype=dtype)
    assert isinstance(backend.engine, TrieEngine)
    answers = RainDecoder(backend, "harmlessness", SearchConfig.preset("balanced")).generate_batch(
        prompts, seed=1
    )
    assert all(one.finish_reason == "stop" and one.score is not None for one in answers)


def test_memory_returns_to_the_pinned_prefixes(gpu, prompts):
    decoder = RainDecoder(gpu, "harmlessness", SearchConfig.preset("balanced"))

    def held() -> int:
        decoder.generate_batch(prompts, max_tokens=32, seed=4)
        gpu.clear()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    held()  # the first use makes buffers of its own
    assert held() == held()
