"""What `rain export` writes is loaded and trained on by TRL's own trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl
from evaluation.runs import made_up_run

from rain_decoding.demo import MODEL_DIR
from rain_decoding.evaluation.export import examples, open_run


@pytest.fixture
def exported(tmp_path: Path) -> Any:
    """A function that gives a made-up run in one of the formats, as TRL's users load it."""

    def load(form: str, asked: str) -> Any:
        source = made_up_run(tmp_path / "run", asked)
        file = tmp_path / f"{form}.jsonl"
        lines = (json.dumps(example) + "\n" for example in examples(open_run(source), form))
        file.write_text("".join(lines), encoding="utf-8")
        return datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))

    return load


TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize(
    ("form", "asked"),
    [("dpo", "dialogue"), ("sft", "dialogue"), ("kto", "text"), ("dpo", "chat"), ("sft", "chat")],
)
def test_one_step_of_training(exported: Any, form: str, asked: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainers = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "sft": (trl.SFTTrainer, trl.SFTConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
    }
    trainer, config = trainers[form]
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = TEMPLATE
    data = exported(form, asked)
    running = trainer(
        model=AutoModelForCausalLM.from_pretrained(str(MODEL_DIR)),
        args=config(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            per_device_train_batch_size=2,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
        ),
        processing_class=tokenizer,
        train_dataset=data,
    )
    result = running.train()
    assert result.global_step == 1 and result.training_loss > 0
