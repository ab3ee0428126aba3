"""The golden runs: small searches whose trees are kept as JSON, as the brute-force reference computes them.

`python tests/golden/regenerate.py` writes them anew. The package plays no part in that;
`tests/search/test_golden.py` compares it with the files.
The worlds use nothing but integer hashes, so that they are the same everywhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from reference.brute_force import PRESETS, BruteForce, RefNode, Rules, Tokens  # noqa: E402
from reference.worlds import RandomWorld, text_hash  # noqa: E402

VOCABULARY = ("the", " cat", " sat", ",", " on", ".", "<end>", " a", " mat", "\nUser:", " dog", " ran")
EOS = frozenset({VOCABULARY.index("<end>")})
MARKERS = ("\nUser:",)
PROMPT = (7, 1)

RUNS: dict[str, dict[str, Any]] = {
    "mixed": {"world": 4, "bad": 70, "spread": 4, "near": 0, "rules": {"max_simulations": 20}},
    "mostly-bad": {
        "world": 2,
        "bad": 97,
        "spread": 2,
        "near": 1,
        "rules": {"max_simulations": 30, "candidates": 4},
    },
    "good": {"world": 3, "bad": 15, "spread": 6, "near": 1, "rules": {}},
}
"""Three runs per preset: `bad` percent of the texts are bad, `near` makes the embeddings alike."""


def golden_world(settings: dict[str, Any]) -> RandomWorld:
    """The world of one run: every number in it comes from a hash of the token ids."""
    number, spread = settings["world"], settings["spread"]

    def logits(tokens: Tokens) -> np.ndarray:
        shares = [text_hash(f"logit {number}", (*tokens, token)) % 1009 for token in range(len(VOCABULARY))]
        # An end of sequence is less probable than the rest.
        worths = [spread * share / 1009 - 2 * (token in EOS) for token, share in enumerate(shares)]
        return np.array(worths, dtype=np.float32)

    def judge(tokens: Tokens) -> float:
        return -1.0 if text_hash(f"judge {number}", tokens) % 100 < settings["bad"] else 1.0

    def embed(tokens: Tokens, start: int) -> np.ndarray:
        vector = [text_hash(f"embed {number} {axis}", tokens[start:]) % 201 - 100 for axis in range(3)]
        near = np.array([1000.0, 0.0, 0.0]) if settings["near"] else np.zeros(3)
        vector = near + np.array(vector, dtype=np.float64)
        return vector / np.sqrt((vector**2).sum())

    def text(tokens: Tokens) -> str:
        return "".join(VOCABULARY[token] for token in tokens if token not in EOS)

    return RandomWorld(
        logits=logits,
        eos=EOS,
        marker_end=lambda answer: any(marker in text(answer) for marker in MARKERS),
        ends_with_punctuation=lambda tokens: text(tokens).endswith((",", ".", "?", ":", ";", "\n")),
        judge=judge,
        embed=embed,
        prompt=PROMPT,
        max_tokens=12,
        seed=number,
        number=number,
        vocabulary=VOCABULARY,
        markers=MARKERS,
    )


def rules_of(preset: str, settings: dict[str, Any]) -> Rules:
    """The preset's rules with the run's changes."""
    return Rules(**{**vars(PRESETS[preset]), **settings["rules"]})


def golden(preset: str, name: str) -> dict[str, Any]:
    """One run: what was asked, and the statistics of every node that was ever evaluated."""
    settings = RUNS[name]
    run = BruteForce(golden_world(settings), rules_of(preset, settings)).run()
    nodes: list[dict[str, Any]] = []
    _collect(run.first_root, nodes)
    return {
        "preset": preset,
        "settings": settings,
        "finish": run.finish,
        "commits": [list(tokens) for tokens in run.commits],
        "simulations": run.simulations,
        "nodes": nodes,
    }


def _collect(node: RefNode, nodes: list[dict[str, Any]]) -> None:
    if not node.evaluations:
        return
    nodes.append(
        {
            "tokens": list(node.text[len(PROMPT) :]),
            "prior": node.prior,
            "visits": node.visits,
            "evaluations": node.evaluations,
            "value": node.value,
            "embedding": None if node.embedding is None else list(map(float, node.embedding)),
        }
    )
    for child in node.children:
        _collect(child, nodes)


def write_json(path: Path, run: dict[str, Any]) -> None:
    """One node per line, so that a change can be read."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in run.items() if key != "nodes"]
    nodes = ",\n".join(json.dumps(node) for node in run["nodes"])
    path.write_text("{\n" + ",\n".join(lines) + ',\n"nodes": [\n' + nodes + "\n]\n}\n", encoding="utf-8")


def main() -> None:
    for preset in PRESETS:
        for name in RUNS:
            write_json(HERE / f"{preset}.{name}.json", golden(preset, name))


if __name__ == "__main__":
    main()
