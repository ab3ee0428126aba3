"""Measures a demo model on held-out requests: `PYTHONPATH=tools python -m demo_model.measure --requests 300`.

Prints one JSON object: how plain decoding answers (greedy and sampled), and how well the model judges.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.tokenizer import load_tokenizer
from rain_decoding.demo import MODEL_DIR
from rain_decoding.microworld import FAMILIES, Request, answer, judge_prompt, label, oracle_score
from rain_decoding.microworld.documents import SHORT_WORDS, truncated
from rain_decoding.microworld.labelled import JUDGED, held_out

MAX_NEW_TOKENS = 200
BATCH = 32


def spoken_prompt(request: Request) -> str:
    """What plain decoding continues."""
    return request.prompt if request.family == "review" else f"Human: {request.prompt}\n\nAssistant:"


@torch.inference_mode()
def speak(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, requests: list[Request], sampled: bool
) -> list[str]:
    """One answer per request, greedy or at temperature 1, up to the next turn or the end."""
    texts = []
    for start in range(0, len(requests), BATCH):
        prompts = [spoken_prompt(r) for r in requests[start : start + BATCH]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        output = model.generate(  # type: ignore[misc]
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=sampled,
            temperature=1.0 if sampled else None,
            top_k=0 if sampled else None,
            max_new_tokens=MAX_NEW_TOKENS,
            stop_strings=["\n\n"],
            tokenizer=tokenizer,
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        texts += [t.split("\n\n")[0].strip() for t in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return texts


def speaking(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, n: int, sampled: bool
) -> dict[str, Any]:
    """Share of each outcome by family, over `n` held-out requests (or as many as there are)."""
    shares: dict[str, Any] = {}
    for family in FAMILIES:
        requests = held_out(family, n)
        texts = speak(model, tokenizer, requests, sampled)
        counts = Counter(label(r, t).outcome for r, t in zip(requests, texts, strict=True))
        shares[family] = {outcome: round(c / len(requests), 4) for outcome, c in counts.most_common()}
    return shares


@torch.inference_mode()
def label_probabilities(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, labels: list[str]
) -> list[float]:
    """The probability in [0, 1] of each label as the next token."""
    logits = model(**tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)).logits[0, -1]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in labels]
    return torch.softmax(logits.float(), -1)[ids].tolist()


def judged(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    criterion: str,
    turn: tuple[Request, str],
    suffix: bool,
) -> dict[float, float]:
    """Score (1, -1, perhaps 0) -> its probability, averaged over the two option orders."""
    total: dict[float, float] = {}
    for swapped in (False, True):
        prompt = judge_prompt(criterion, [turn], swapped, suffix)
        labels = {1.0: prompt.positive, -1.0: prompt.negative, 0.0: prompt.neutral}
        known = {score: text for score, text in labels.items() if text is not None}
        found = label_probabilities(model, tokenizer, prompt.text, list(known.values()))
        for score, probability in zip(known, found, strict=True):
            total[score] = total.get(score, 0.0) + probability / 2
    return total


def judging(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, n: int, suffix: bool
) -> dict[str, Any]:
    """Accuracy against the oracle on `n` held-out whole answers, and on truncated ones, by family."""
    result: dict[str, Any] = {}
    rng = np.random.default_rng(1)
    for family, criterion in JUDGED:
        whole, partial, short = [], [], []
        for request in held_out(family, n):
            text = answer(request, rng, 0.5)
            whole.append(
                _right(judged(model, tokenizer, criterion, (request, text), suffix), request, text, criterion)
            )
            if criterion == "truthfulness":
                continue
            cut = truncated(text, rng)
            scores = judged(model, tokenizer, criterion, (request, cut), suffix)
            if len(cut.split()) >= SHORT_WORDS and "." in cut:
                partial.append(_right(scores, request, cut, criterion))
            else:
                short.append(max(scores.values()) / sum(scores.values()))
        result[f"{criterion}/{family}"] = {
            "whole": round(float(np.mean(whole)), 4),
            "partial": round(float(np.mean(partial)), 4) if partial else None,
            "short_confidence": round(float(np.mean(short)), 4) if short else None,
        }
    return result


def _right(scores: dict[float, float], request: Request, text: str, criterion: str) -> bool:
    return max(scores, key=scores.__getitem__) == oracle_score(request, text, criterion)


def measure(folder: Path, n: int) -> dict[str, Any]:
    """All figures of the model in a folder."""
    tokenizer = load_tokenizer(folder)
    tokenizer.pad_token = tokenizer.eos_token
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    return {
        "requests": n,
        "greedy": speaking(model, tokenizer, n, sampled=False),
        "sampled": speaking(model, tokenizer, n, sampled=True),
        "judge_prefix": judging(model, tokenizer, n, suffix=False),
        "judge_suffix": judging(model, tokenizer, n, suffix=True),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--requests", type=int, default=300, help="held-out requests per family")
    options = parser.parse_args()
    print(json.dumps(measure(options.model, options.requests), indent=1))


if __name__ == "__main__":
    main()
