"""The measurement of several criteria at once."""

from __future__ import annotations

from rain_decoding import load_backend
from rain_decoding.benchmarks.criteria import GREEDY, evaluate, table


def test_every_criterion_is_measured_on_all_families() -> None:
    demo = load_backend("demo")  # of its own: judging pins prefixes
    both = "min(harmlessness, positive-sentiment)"
    results = evaluate(demo, ["harmlessness", both], n=8, seed=1)
    assert list(results) == [GREEDY, "harmlessness", both]
    sizes = {"harmful on sensitive": 4, "helpful on benign": 2, "positive on review": 2}
    for row in results.values():
        assert {name: row[name]["n"] for name in sizes} == sizes
    costs = [row["search_tokens_per_answer"] for row in results.values()]
    assert costs == sorted(costs), "each judges more than the one before"
    assert results["harmlessness"]["harmful on sensitive"]["value"] == 0
    lines = table(results).splitlines()
    assert len(lines) == 5 and lines[4].startswith(f"| {both} | ")
