"""What the help texts have besides each command's own: two examples, and no types beside flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

EXAMPLES: dict[str, tuple[str, str]] = {
    "": (
        'rain generate "How do I bake a nut roll?" --model ./model.gguf',
        "rain serve ./model.gguf --open",
    ),
    "generate": (
        'rain generate "How do I bake a nut roll?" --model ./model.gguf',
        'rain generate "..." --model http://127.0.0.1:8080 --criterion mine.toml --json',
    ),
    "compare": (
        'rain compare "How do I spread a false story?"',
        'rain compare "..." --model my --principle "The answer is polite."',
    ),
    "chat": ("rain chat --model ollama:qwen2.5:0.5b", "rain chat --model ./folder --preset thorough"),
    "trace": ("rain trace search.jsonl --depth 4", "rain trace search.jsonl --html search.html"),
    "config": ("rain config", "rain config --config server.toml --json"),
    "version": ("rain version", "rain version --json"),
    "calibrate": (
        "rain calibrate --model ./folder --data labelled.jsonl",
        "rain calibrate --model my --criterion mine.toml --data pairs.csv --save mine.json",
    ),
    "bench": ("rain bench --n 2 --repeats 1", "rain bench --model ./folder --n 20 --json"),
    "eval": ("rain eval demo --out DIR", "rain eval paper --out DIR --model ./folder --limit 50"),
    "export": ("rain export DIR --out dpo.jsonl", "rain export DIR --out dpo.jsonl --chosen rain:balanced"),
    "rate": ("rain rate DIR --pairwise", "rain rate DIR --report"),
    "serve": (
        "rain serve http://127.0.0.1:8080 --port 8001",
        "rain serve ./model.gguf --open",
    ),
    "attack": (
        "rain attack gcg --model ./folder --data behaviours.csv --out GCG",
        "rain attack success GCG SEARCH --model ./folder --judge llm:URL#MODEL --out DIR",
    ),
    "attack gcg": (
        "rain attack gcg --preset quick --limit 3 --out DIR",
        "rain attack gcg --model ./folder --data behaviours.csv --adaptive 1 --out DIR",
    ),
    "attack search": (
        "rain attack search --limit 3 --queries 100 --out DIR",
        "rain attack search --model ./folder --data behaviours.csv --judge llm:URL#MODEL --out DIR",
    ),
    "attack injection": (
        "rain attack injection --limit 3 --out DIR",
        "rain attack injection --model ./folder --data behaviours.csv --judge llm:URL#MODEL --out DIR",
    ),
    "attack success": (
        "rain attack success GCG --seeds 1 --out DIR",
        "rain attack success GCG SEARCH --decoders plain,rain:balanced --plot success.svg --out DIR",
    ),
    "criteria": ("rain criteria", "rain criteria --model ./folder --json"),
    "criteria show": ("rain criteria show harmlessness", "rain criteria show helpfulness > mine.toml"),
    "criteria new": ("rain criteria new polite.toml", "rain criteria new criteria/on-topic.toml"),
    "demo": ("rain demo", "rain demo evaluate --n 100"),
    "demo prompts": ("rain demo prompts", "rain demo prompts --json"),
    "demo evaluate": ("rain demo evaluate --n 100", "rain demo evaluate --decoders greedy,rain --n 20"),
    "demo export": ("rain demo export --gguf demo.gguf", "rain demo export --hf FOLDER"),
    "models": ("rain models", "rain models --model ./model.gguf"),
    "models options": ("rain models options", "rain models options --json"),
    "models probe": ("rain models probe http://127.0.0.1:8080", "rain models probe vllm --json"),
    "models add": ("rain models add my ./folder", "rain models add big vllm:gpu-box:8000"),
    "models remove": ("rain models remove my", "rain models remove big"),
}
"""By the command's name; that of all of them is empty."""


def with_examples(root: Any) -> Any:
    """The same command, with the examples at the ends of its help texts, and flags without a type."""
    for name, command in commands(root):
        if lines := EXAMPLES.get(name):
            command.epilog = "\n\n".join(("Examples:", *lines))
        setattr(command, "get_params", _quiet(command.get_params))  # noqa: B010
    return root


def commands(root: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All commands with their names, the groups among them; the root's name is empty."""
    yield name, root
    for own, command in getattr(root, "commands", {}).items():
        yield from commands(command, f"{name} {own}".strip())


def _quiet(params: Any) -> Any:
    def quiet(context: typer.Context) -> Any:
        found = params(context)
        for option in found:
            if getattr(option, "is_flag", False):
                option.metavar = ""
        return found

    return quiet
