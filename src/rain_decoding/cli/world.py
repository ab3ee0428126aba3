"""What the commands say about the demo model's world."""

from __future__ import annotations

from rain_decoding.cli.output import err


def hint_if_outside(model: str, prompt: str) -> None:
    """Name three prompts to try where one lies outside the demo model's micro-world."""
    if model != "demo":
        return
    from rain_decoding.microworld import example_prompts, find_request

    if find_request(prompt) is not None:
        return
    examples = [*example_prompts("sensitive", 2), *example_prompts("benign", 1)]
    err.print("[yellow]hint:[/] the demo model speaks only of its micro-world. Try one of these:")
    for example in examples:
        err.print(f"  {example}", markup=False)
