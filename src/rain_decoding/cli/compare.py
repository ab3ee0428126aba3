"""`rain compare`: the same prompt by plain decoding and by RAIN, side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.table import Table
from rich.text import Text

from rain_decoding.cli import options as o
from rain_decoding.cli.output import as_object, cost_line, out, print_json, status
from rain_decoding.cli.world import hint_if_outside
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.decoding.plain_decoder import PlainDecoder
from rain_decoding.types import Completion


def compare(
    prompt: o.Prompt,
    model: o.Model = "demo",
    criterion: o.CriterionName = None,
    principle: o.Principle = None,
    judge: o.Judge = None,
    preset: o.Preset = DEFAULT_PRESET,
    settings: o.Setting = None,
    fallback: o.Fallback = None,
    refusal: o.Refusal = None,
    max_tokens: o.MaxTokens = None,
    seed: o.Seed = 0,
    stop: o.StopStrings = None,
    system: o.System = None,
    prompt_format: o.Format = "auto",
    embedding: o.EmbeddingName = "hashing",
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    trust_model_criteria: o.TrustModelCriteria = False,
    engine_options: o.EngineOptions = None,
    config: o.ConfigFile = None,
    json: o.Json = False,
) -> None:
    """Answer a prompt by plain decoding and by RAIN, both judged by the same criterion.

    The paper's presets draw by temperatures of their own, whatever plain decoding's is.
    """
    text = o.read_prompt(prompt)
    setup = o.set_up(
        model,
        criterion=criterion,
        principle=principle,
        judge=judge,
        preset=preset,
        settings=settings,
        fallback=fallback,
        refusal=refusal,
        embedding=embedding,
        prompt_format=prompt_format,
        device=device,
        dtype=dtype,
        trust_model_criteria=trust_model_criteria,
        engine_options=engine_options or (),
    )
    request = {"max_tokens": max_tokens, "seed": seed, "stop": stop}
    messages = o.messages(text, system)
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    plain = PlainDecoder(setup.backend, prompt_format=setup.decoder.prompt_format)
    with status("plain decoding"):
        vanilla = plain.generate(messages, **request, **sampling)
        vanilla = replace(vanilla, score=setup.decoder.judge(messages, vanilla.text).score)
    setup.backend.clear()
    with status("RAIN"):
        paper = setup.decoder.config.strategy == "paper"
        rain = setup.decoder.generate(messages, **request, **({} if paper else sampling))
    if json:
        name, calibration = setup.criterion.name, setup.decoder.calibration
        common: dict[str, Any] = {
            "model": model,
            "criterion": name,
            "engine_options": setup.backend.engine_options,
        }
        print_json(
            {
                "vanilla": as_object(vanilla, preset=None, **common),
                "rain": as_object(rain, preset=preset, calibration=calibration, **common),
            }
        )
    else:
        _print_table(vanilla, rain, preset)
    hint_if_outside(model, text)


def _print_table(vanilla: Completion, rain: Completion, preset: str) -> None:
    table = Table(show_lines=True)
    table.add_column("plain decoding", ratio=1)
    table.add_column(f"RAIN ({preset})", ratio=1)
    table.add_row(Text(vanilla.text), Text(rain.text))
    table.add_row(Text(cost_line(vanilla), style="dim"), Text(cost_line(rain), style="dim"))
    out.print(table)
