"""TRL's side of ``tuning``: its own trainers with their defaults, but float32 and no checkpointing as ours.

The clock starts after the warm-up steps and stops with the last step of one pass over the rows.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from congling.core import machine

LORA: dict[str, Any] = {
    "r": 8,
    "lora_alpha": 8,
    "target_modules": "all-linear",
    "task_type": "CAUSAL_LM",
}
IMPORTED = psutil.Process().memory_info().rss


class Clock(TrainerCallback):
    """Notes the time after the warm-up and after every later step."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self.times = warm_up, []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer."""
        if state.global_step >= self.warm_up:
            self.times.append((time.perf_counter(), time.process_time()))


class Counted:
    """A collator that counts the tokens of every batch it makes, padding aside."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.tokens = inner, []

    def __call__(self, rows: Any) -> Any:
        """Collate."""
        batch = self.inner(rows)
        mask = batch.get("attention_mask")
        self.tokens.append(batch["input_ids"].numel() if mask is None else int(mask.sum()))
        return batch


class TokenisedDPOTrainer(DPOTrainer):
    """Takes rows that are ids already, as the other trainers do; times its reference pass, if it has one."""

    before = (0.0, 0.0)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, *arguments: Any, **more: Any) -> Any:
        clock, cpu = time.perf_counter(), time.process_time()
        found = super()._precompute_ref_logps(*arguments, **more)
        self.before = (time.perf_counter() - clock, time.process_time() - cpu)
        return found


def settings(order: dict[str, Any], batch: int) -> dict[str, Any]:
    """Arguments of every trainer: what is no default is what makes both sides alike, or silent."""
    found: dict[str, Any] = {
        "per_device_train_batch_size": batch,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "learning_rate": 1e-5,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "output_dir": order["out"],
    }
    if "by length" in order["who"] or "first" in order["who"]:
        # The column of lengths would count as unused.
        found |= {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
    return found


def sft(order: dict[str, Any], rows: list[dict[str, Any]], model: Any, more: dict[str, Any]) -> Any:
    """Rows with labels; packed, the same places in a step as ours."""
    sizes, packed = order["sizes"], "packed" in order["who"]
    count, options = sizes["examples"], {"max_length": sizes["max_position_embeddings"]}
    if packed:
        mean = sum(len(row["ids"]) - 1 for row in rows) / len(rows)
        count = max(1, round(count * mean / sizes["max_position_embeddings"]))
        options |= {"packing": True}
    rows = _with_warm_up(rows, sizes["warm_up"] * sizes["examples"])
    data = [{"input_ids": row["ids"], "labels": _labels(row), "length": len(row["ids"])} for row in rows]
    if packed:
        data = [{key: row[key] for key in ("input_ids", "labels")} for row in data]
    arguments = SFTConfig(**settings(order, count), **options)
    return SFTTrainer(model, arguments, train_dataset=Dataset.from_list(data), **more)


def dpo(order: dict[str, Any], rows: list[dict[str, Any]], model: Any, more: dict[str, Any]) -> Any:
    """Rows as ids; the reference in every step, or before the first."""
    sizes = order["sizes"]
    rows = _with_warm_up(rows, sizes["warm_up"] * sizes["pairs"])
    data = Dataset.from_list([row | {"length": _longest(row)} for row in rows])
    arguments = DPOConfig(
        **settings(order, sizes["pairs"]),
        max_length=sizes["max_position_embeddings"],
        precompute_ref_log_probs="first" in order["who"],
    )
    return TokenisedDPOTrainer(model, args=arguments, train_dataset=data, **more)


def reward(order: dict[str, Any], rows: list[dict[str, Any]], model: Any, more: dict[str, Any]) -> Any:
    """Whole conversations; ``model`` is the folder, of which the trainer makes a classifier."""
    sizes = order["sizes"]
    rows = _with_warm_up(rows, sizes["warm_up"] * sizes["pairs"])
    sides = ("chosen_ids", "rejected_ids")
    whole = [{side: row["prompt_ids"] + row[side] for side in sides} for row in rows]
    data = [one | {"length": _longest(row)} for one, row in zip(whole, rows, strict=True)]
    arguments = RewardConfig(
        **settings(order, sizes["pairs"]),
        max_length=sizes["max_position_embeddings"],
        center_rewards_coefficient=0.01,
        model_init_kwargs={"dtype": torch.float32},
    )
    folder = str(Path(order["folder"]) / "model")
    return RewardTrainer(folder, arguments, train_dataset=Dataset.from_list(data), **more)


def grpo(order: dict[str, Any], rows: list[dict[str, Any]], model: Any, more: dict[str, Any]) -> Any:
    """Prompts as conversations; tokens are counted where the answers are judged."""
    sizes = order["sizes"]
    counted: list[int] = []

    def varied(completions: list[Any], completion_ids: list[Any], tokens: list[int], **_: Any) -> list[float]:
        counted.append(sum(tokens) + sum(map(len, completion_ids)))
        texts = [one[0]["content"] for one in completions]
        return [len(set(text)) / max(1, len(text)) for text in texts]

    data = [{"prompt": row["messages"], "tokens": len(row["ids"])} for row in rows]
    options = settings(order, sizes["prompts"] * sizes["group"])
    arguments = GRPOConfig(
        **options,
        num_generations=sizes["group"],
        max_completion_length=sizes["new_tokens"],
        max_steps=sizes["warm_up"] + sizes["steps"],
    )
    trainer = GRPOTrainer(model, varied, arguments, train_dataset=Dataset.from_list(data), **more)
    trainer.counted_answers = counted
    return trainer


METHODS = {"sft": sft, "dpo": dpo, "reward": reward, "grpo": grpo}


def main() -> None:
    """Train as ordered on the command line and print what was measured."""
    torch.set_flush_denormal(True)
    order = json.loads(sys.argv[1])
    name, folder = order["method"].partition("-")[0], Path(order["folder"])
    warm_up = order["sizes"]["warm_up"]
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    rows = rows[{"sft": "sft", "grpo": "prompts"}.get(name, "pairs")]
    clock = Clock(warm_up)
    more: dict[str, Any] = {
        "processing_class": AutoTokenizer.from_pretrained(folder / "model"),
        "callbacks": [clock],
    }
    if order["method"].endswith("-lora"):
        more["peft_config"] = LoraConfig(**LORA)
    model = None
    if name != "reward":
        model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    with tempfile.TemporaryDirectory() as order["out"]:
        trainer = METHODS[name](order, rows, model, more)
        if name != "grpo":
            trainer.data_collator = Counted(trainer.data_collator)
        trainer.train()
    tokens = trainer.counted_answers if name == "grpo" else trainer.data_collator.tokens
    timed = sum(tokens[warm_up : warm_up + len(clock.times) - 1])
    share = timed / max(1, sum(tokens))  # of a reference pass, which also covers the rows of the warm-up
    (wall, cpu), (last, last_cpu) = clock.times[0], clock.times[-1]
    before = [one * share for one in getattr(trainer, "before", (0.0, 0.0))]
    peak = machine.peak_memory_bytes()
    print(
        json.dumps(
            {
                "tokens": timed,
                "tokens_per_second": timed / (last - wall + before[0]),
                "tokens_per_cpu_second": timed / (last_cpu - cpu + before[1]),
                "peak": peak,
                "peak_above_imports": max(1, peak - IMPORTED),
            }
        )
    )


def _with_warm_up(rows: list[Any], count: int) -> list[Any]:
    """The rows, and some of them once more for the steps before the clock starts."""
    return [*rows, *rows[:count]]


def _labels(row: dict[str, Any]) -> list[int]:
    """Ids that are learnt, and -100 for all others."""
    return [one if learnt else -100 for one, learnt in zip(row["ids"], row["learnt"], strict=True)]


def _longest(row: dict[str, Any]) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


if __name__ == "__main__":
    main()
