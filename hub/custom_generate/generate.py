"""RAIN as the generation recipe of a model repository: `model.generate(..., custom_generate="OWNER/NAME")`."""

from __future__ import annotations

from typing import Any


def generate(model: Any, **arguments: Any) -> Any:
    """Answer by RAIN; `streamer` and `tokenizer` are honoured, others as `rain_decoding.rain_generate` says."""
    from rain_decoding import rain_generate

    for name in ("streamer", "tokenizer"):
        if (given := arguments.pop(name, None)) is not None:
            arguments.setdefault(f"rain_{name}", given)
    return model.generate(**arguments, custom_generate=rain_generate)
