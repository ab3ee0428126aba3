"""Trains the demo model from a seed: `PYTHONPATH=tools python -m demo_model.train --seed 0 --tokens N --out DIR`.

Writes tokenizer and fp16 model to DIR, and a checkpoint from which the same command resumes.
"""

import argparse
import math
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo_model.packing import Batch, make_batch
from demo_model.tokenizer import CONTEXT, load_tokenizer, train_tokenizer
from rain_decoding.microworld.documents import document

TOKENIZER_DOCUMENTS = 6000


@dataclass(frozen=True)
class TrainingPlan:
    """A training run. Lengths and counts are in tokens; `learning_rate` is the peak of warm-up and cosine."""

    tokens: int
    seed: int = 0
    batch_tokens: int = 2048
    learning_rate: float = 3e-3
    warmup: float = 0.03
    """Share of the steps in which the rate rises from 0."""
    lengths: tuple[tuple[float, int], ...] = ((0.55, 192), (0.85, 512), (1.0, CONTEXT))
    """(share of the run, tokens per row up to there): short rows first, where copying is learned fastest."""
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    feed_forward: int = 512

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole run."""
        return max(1, self.tokens // self.batch_tokens)

    def rate(self, step: int) -> float:
        """The learning rate at a step: linear warm-up, then cosine down to 2% of the peak."""
        warmup = max(1, int(self.warmup * self.steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    def length(self, step: int) -> int:
        """Tokens per row at a step."""
        return next(length for share, length in self.lengths if step < share * self.steps)


def new_model(plan: TrainingPlan, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A model with random weights that depend on the seed alone."""
    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.hidden,
        intermediate_size=plan.feed_forward,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.03,
        use_cache=True,
    )
    return LlamaForCausalLM(config)


def new_optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.97), eps=1e-8)


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """The weighted mean cross-entropy in nats per token, on the model's device."""
    tokens, weights = batch.tokens.to(model.device), batch.weights.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=_fast_bfloat16(model.device)):
        hidden = model.model(tokens[:, :-1], use_cache=False).last_hidden_state
        wanted = weights[:, 1:].flatten()
        kept = wanted > 0
        logits = model.lm_head(hidden.flatten(0, 1)[kept]).float()
    losses = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()[kept], reduction="none")
    return (losses * wanted[kept]).sum() / wanted.sum()


def _fast_bfloat16(device: torch.device) -> bool:
    return device.type != "cpu" or bool(torch.cpu._is_amx_tile_supported())


def train(
    plan: TrainingPlan, out: Path, *, start: Path | None = None, device: str = "cpu", save_every: int = 100
) -> LlamaForCausalLM:
    """Trains to the end of the plan, going on from the checkpoint in `out` if there is one.

    The first weights are random, or those of the model in the folder `start`, whose tokenizer is kept. The
    model is trained, and returned, on `device`.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(start) if start else _tokenizer(plan, out)
    model = (
        LlamaForCausalLM.from_pretrained(start, dtype=torch.float32) if start else new_model(plan, tokenizer)
    )
    torch.nn.Module.to(model.train(), device)  # the model's own has lost its types
    optimizer = new_optimizer(model)
    step = _resume(out / "checkpoint.pt", model, optimizer)
    began, first = time.perf_counter(), step
    while step < plan.steps:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        length = plan.length(step)
        loss = loss_of(model, make_batch(plan.seed, step, plan.batch_tokens // length, length, tokenizer))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 20 == 0 or step == plan.steps:
            speed = (step - first) * plan.batch_tokens / (time.perf_counter() - began)
            print(
                f"step {step}/{plan.steps} loss {loss.item():.4f} {speed:.0f} tokens/s",
                file=sys.stderr,
                flush=True,
            )
        if step % save_every == 0 or step == plan.steps:
            _save_checkpoint(out / "checkpoint.pt", model, optimizer, step)
    export(model, tokenizer, out / "model")
    return model


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes weights (fp16 safetensors), configuration and tokenizer; the folder appears at once."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(part)
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    ).save_pretrained(part)
    tokenizer.save_pretrained(part)
    for path in part.iterdir():
        path.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _tokenizer(plan: TrainingPlan, out: Path) -> PreTrainedTokenizerFast:
    folder = out / "tokenizer"
    if not folder.exists():
        rng = np.random.default_rng([plan.seed, 2**32 - 1])
        documents = (document(rng) for _ in range(TOKENIZER_DOCUMENTS))
        train_tokenizer(d.text for d in documents).save_pretrained(folder)
    return load_tokenizer(folder)


def _save_checkpoint(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW, step: int) -> None:
    part = path.with_suffix(".part")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
    part.replace(path)


def _resume(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW) -> int:
    """Loads a checkpoint if there is one; the number of steps done."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=model.device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=10_000_000, help="training tokens, padding included")
    parser.add_argument(
        "--learning-rate", type=float, default=TrainingPlan.learning_rate, help="peak learning rate"
    )
    parser.add_argument(
        "--start", type=Path, help="folder of a model to go on from (default: random weights)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for tokenizer, checkpoint and model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda, cuda:1, ...")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(
        TrainingPlan(options.tokens, options.seed, learning_rate=options.learning_rate),
        options.out,
        start=options.start,
        device=options.device,
    )


if __name__ == "__main__":
    main()
