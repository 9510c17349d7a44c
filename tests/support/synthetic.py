"""A run directory as training leaves it, with made-up but plausible numbers."""

import json
import math
import random
from pathlib import Path
from typing import Any

from congling.core.config import build
from congling.plan import planning
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.recipe import Recipe
from congling.report.record import add_result

MACHINE = MachineFacts(2, 16 * 10**9, 50 * 10**9, 2e11, None, True)
CORPUS = CorpusFacts(
    790_000,
    620_000,
    72,
    8500,
    4600,
    70_000,
    8,
    1_240_000,
    reference_lines={"uniform": 12.1, "unigram": 8.82, "bigram": 6.94},
)
PASSAGE = (
    "却说宝玉听了，忙问道：“这是谁说的？”众人都笑道：“二爷又来了。”黛玉冷笑了一声，也不言语，只低头看那书。"
)


def rows_to(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def make_run(path: Path, *, steps: int = 400, rising: bool = False, prompt: str = "却说宝玉") -> Path:
    path.mkdir(parents=True)
    recipe = build(Recipe, {"data": {"sources": ["hlm.txt"]}, "budget": "3m", "train": {"max_steps": steps}})
    plan = planning.make(recipe, CORPUS, MACHINE)
    (path / planning.PLAN_FILE).write_text(plan.to_text(), encoding="utf-8")
    noise = random.Random(1)
    per_step, ratio = plan.cost.tokens_per_step, CORPUS.characters_per_token
    metrics: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        bits = 5.3 + 5.8 * math.exp(-step / 60) + 1.4 * math.exp(-step / 250) + noise.gauss(0, 0.07)
        metrics.append(
            {
                "step": step,
                "tokens": step * per_step,
                "loss": bits * math.log(2) * ratio,
                "bits_per_character": bits,
                "gradient_norm": 0.4 + 2 * math.exp(-step / 40) + abs(noise.gauss(0, 0.06)),
                "rate": min(1.0, step / 8, (steps - step + 1) / (steps / 2)),
            }
        )
        if step % (steps // 10) == 0:
            held = bits + 0.15 + (max(0, step - steps / 2) / steps * 2 if rising else 0)
            metrics.append(
                {
                    "step": step,
                    "validation_loss": held * math.log(2) * ratio,
                    "validation_bits_per_character": held,
                }
            )
    rows_to(path / "metrics.jsonl", metrics)
    rows_to(
        path / "timing.jsonl",
        [
            {
                "step": step,
                "seconds": step * 0.42,
                "tokens_per_second": 4800 + noise.gauss(0, 150),
                "utilisation": 0.46 + noise.gauss(0, 0.01),
            }
            for step in range(2, steps + 1)
        ],
    )
    rows_to(
        path / "samples.jsonl",
        [
            {"step": step, "prompt": prompt, "text": PASSAGE[4 : 20 + step // 5]}
            for step in range(steps // 4, steps + 1, steps // 4)
        ],
    )
    rows_to(path / "events.jsonl", [{"time": "2026-11-22T00:00:00+00:00", "event": "started", "step": 0}])
    (path / "config.toml").write_text(
        "seed = 0\n\n[train]\nper_device_train_batch_size = 16\n", encoding="utf-8"
    )
    add_result(
        path,
        "held_out",
        {
            "nats": 4.1e5,
            "tokens": 70_000,
            "characters": 81_000,
            "bytes": 240_000,
            "nats_per_token": 4.95,
            "perplexity": 141.2,
            "bits_per_byte": 2.07,
            "bits_per_character": 6.17,
        },
    )
    add_result(path, "copying", {"rate": 0.03, "longest": 24, "longest_text": PASSAGE[:24], "span": 20})
    add_result(path, "peak_memory", 7.9e8)
    return path
