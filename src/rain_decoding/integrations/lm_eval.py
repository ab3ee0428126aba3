"""EleutherAI's lm-evaluation-harness: `python -m rain_decoding.integrations.lm_eval run --model rain ...`.

The harness finds no models in other packages by itself, so this runs its command after the model is registered;
what follows is the harness's. A program that imports this module finds `rain` in the harness's registry.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from copy import copy
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm

from rain_decoding.decoding.session import DEFAULT_MAX_TOKENS
from rain_decoding.errors import ContextLengthError, InputError, RainError, UnsupportedError
from rain_decoding.integrations.arguments import Arguments
from rain_decoding.types import Completion

log = logging.getLogger(__name__)

TAKEN = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p"}
"""Keys of a task's `generation_kwargs` that a request carries."""

NOBODYS_CHOICE = "cuda:0"
"""The harness's default of --device. The backend chooses then, which is the same where there is a GPU."""


@register_model("rain")
class RainLM(LM):
    """A model that decodes by RAIN, or by what it is compared with.

    `model` is a name as for `rain generate`; `given` are those of `Arguments`. Where the harness does not apply the
    chat template, a task's text is continued as it stands, whatever `prompt_format` says. All requests have the same
    `seed`. The harness's batch sizes do not matter: as many requests run at once as suit the decoder.
    """

    def __init__(
        self,
        model: str = "demo",
        seed: int = 0,
        device: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        **given: Any,
    ) -> None:
        super().__init__()
        self.model, self.seed = model, seed
        chosen = None if device == NOBODYS_CHOICE else device
        self.decoder, self.width = Arguments.of({**given, "device": chosen}).load(model)
        self._chat = False
        """Whether requests are conversations, as JSON."""

    @property
    def tokenizer_name(self) -> str:
        return self.model

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as JSON: the decoder renders it itself, and its judge reads the turns."""
        if not add_generation_prompt:
            raise UnsupportedError(
                "gen_prefix is not supported: RAIN begins its answers itself",
                hint="use a task without gen_prefix",
            )
        self._chat = True
        return json.dumps(chat_history, ensure_ascii=False)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers, in order. A prompt that is too long has an empty one, with a warning.

        Raises `InputError` for an option of the task that is not in `TAKEN`, or that the decoder does not take.
        """
        answers = [""] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="answers") as bar:
            for options, places in _alike(requests):
                prompts = [self._prompt(requests[place].args[0]) for place in places]
                for index, found in self._decode(prompts, options):
                    place = places[index]
                    if isinstance(found, RainError):
                        log.warning("request %d has no answer: %s", place, found)
                    else:
                        answers[place] = found.text
                        self.cache_hook.add_partial("generate_until", requests[place].args, found.text)
                    bar.update()
        return answers

    def _decode(
        self, prompts: list[Any], options: dict[str, Any]
    ) -> Iterator[tuple[int, Completion | RainError]]:
        decoder = copy(self.decoder)
        if not self._chat:
            decoder.prompt_format = "text"
        return decoder.attempt_batch(
            prompts, (ContextLengthError,), concurrency=self.width, seed=self.seed, **options
        )

    def _prompt(self, context: str) -> str | list[dict[str, str]]:
        return json.loads(context) if self._chat else context

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise _no_likelihoods()

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise _no_likelihoods()


def _no_likelihoods() -> UnsupportedError:
    return UnsupportedError(
        "likelihoods are not supported: decoding with RAIN does not change the model's",
        hint="use tasks of output_type generate_until; for others use the harness's own hf model",
    )


def _alike(requests: list[Instance]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """The places of the requests that have the same options, with these."""
    groups: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
    for asked, places in groups.items():
        yield _options(json.loads(asked)), places


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    """A request's options. A task that wants no sampling leaves the decoder its own way to draw."""
    found = dict(normalize_gen_kwargs(asked, DEFAULT_MAX_TOKENS))
    if unknown := found.keys() - TAKEN:
        told = ", ".join(f"{name} = {found[name]!r}" for name in sorted(unknown))
        raise InputError(f"{told} is not supported with rain", hint=f"supported: {', '.join(sorted(TAKEN))}")
    drawn = {name: found[name] for name in ("temperature", "top_k", "top_p") if name in found}
    return {
        "max_tokens": found["max_gen_toks"],
        "stop": found["until"],
        **(drawn if found["do_sample"] else {}),
    }


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
