"""congling's side of ``tuning``: the loop, batches and objectives that the verbs use.

The whole pass over the rows is timed, after a few steps on the first of them.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from congling.data.problems import Place
from congling.data.tuning.examples import Example, ExampleBatches
from congling.data.tuning.pair_batches import PairBatches
from congling.data.tuning.preference_rows import QuestionRow
from congling.data.tuning.preferences import Question
from congling.infer.reward_model import scored_at_its_end
from congling.interop.hf import model as hf_model
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import AdamWConfig, TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.config import GRPOConfig, PreferenceConfig, RolloutConfig
from congling.train.objectives.next_token import next_token
from congling.train.objectives.policy import Policy
from congling.train.objectives.preference import preference
from congling.train.objectives.reward import BradleyTerry
from congling.train.rl.advantage import GroupAdvantage
from congling.train.rl.reference import RolloutScorer, reference_sums
from congling.train.rl.rollouts import RolloutBatches
from congling.transform import lora
from congling.transform.config import AdapterConfig
from congling.transform.scalar_head import attach_head
from measuring import peak_memory
from tuning_data import example

IMPORTED = psutil.Process().memory_info().rss


@dataclass
class Work:
    """What a method brings to the loop."""

    batches: Any
    objective: Any
    steps: int
    """Of one pass."""
    tokens: Callable[[], float]
    """Of the rows of the timed steps."""
    prefetch: int = 2
    before: Callable[[], None] = lambda: None
    """What belongs to the time of one pass, besides its steps."""


@dataclass
class Side:
    """The model and all that is known of the rows."""

    model: Any
    tokenizer: Any
    rows: dict[str, list[Any]]
    sizes: dict[str, Any]
    backend: Single

    def pairs(self) -> list[Any]:
        """Better and worse answers."""
        return [
            tuple(_answered(row["prompt_ids"], row[side]) for side in ("chosen_ids", "rejected_ids"))
            for row in self.rows["pairs"]
        ]


def sft(side: Side) -> Work:
    """As many examples in a step as the peer has, on average; short ones share a row."""
    sizes, examples = side.sizes, [example(row["ids"], row["learnt"]) for row in side.rows["sft"]]
    inputs = sum(one.length for one in examples)
    rows = max(1, round(sizes["examples"] * inputs / len(examples) / sizes["max_position_embeddings"]))
    batches = ExampleBatches(
        examples, context=sizes["max_position_embeddings"], rows=rows, pad=side.tokenizer.pad_id
    )
    return Work(batches, next_token, -(-len(batches.packed) // rows), lambda: inputs + len(examples))


def dpo(side: Side) -> Work:
    """Pairs, and what the model says of them before training: that is scored once, within the time."""
    pairs, sizes, pad = side.pairs(), side.sizes, side.tokenizer.pad_id
    flat = [one for pair in pairs for one in pair]
    batches = PairBatches(
        pairs,
        context=sizes["max_position_embeddings"],
        rows=sizes["pairs"],
        accumulation=1,
        seed=0,
        pad=pad,
        reference=np.zeros(len(flat), np.float32),
    )

    def before() -> None:
        batches.reference = reference_sums(
            side.model, flat, context=sizes["max_position_embeddings"], pad=pad, place=side.backend.to_device
        )

    tokens = sum(len(one.input_ids) for one in flat)
    steps = -(-len(pairs) // sizes["pairs"])
    return Work(batches, preference(PreferenceConfig()), steps, lambda: tokens, before=before)


def reward(side: Side) -> Work:
    """Pairs scored at their ends by a scalar head."""
    pairs, sizes, pad = side.pairs(), side.sizes, side.tokenizer.pad_id
    tokens = sum(len(one.input_ids) for pair in pairs for one in pair)
    attach_head(side.model)
    ends = [(scored_at_its_end(better, pad), scored_at_its_end(worse, pad)) for better, worse in pairs]
    batches = PairBatches(
        ends,
        context=sizes["max_position_embeddings"] + 1,
        rows=sizes["pairs"],
        accumulation=1,
        seed=0,
        pad=pad,
        reference=None,
    )
    return Work(batches, BradleyTerry(), -(-len(pairs) // sizes["pairs"]), lambda: tokens)


def grpo(side: Side) -> Work:
    """Answers written and learnt from in every step; a model of random weights ends hardly any itself."""
    sizes = side.sizes
    config, rollout = (
        GRPOConfig(),
        RolloutConfig(
            prompts_per_step=sizes["prompts"],
            num_generations=sizes["group"],
            max_completion_length=sizes["new_tokens"],
        ),
    )
    looks = RolloutScorer(side.model, side.backend, side.tokenizer.pad_id, rollout.temperature)
    questions = [
        Question(tuple(row["ids"]), QuestionRow(tuple(row["messages"]), None, Place("", None)))
        for row in side.rows["prompts"]
    ]
    rollouts = RolloutBatches(
        side.model,
        side.tokenizer,
        questions,
        _varied,
        GroupAdvantage(config, rollout, looks, None),
        rollout,
        side.backend,
        seed=0,
    )
    seen: dict[int, int] = {}

    def batches(step: int, rank: int = 0, world: int = 1) -> Any:
        found = rollouts(step, rank, world)
        assert rollouts.rollout is not None
        seen[step] = sum(len(one.input_ids) for one in rollouts.rollout.examples)
        return found

    timed = range(sizes["warm_up"], sizes["warm_up"] + sizes["steps"])
    return Work(
        batches,
        Policy(config, rollout.temperature),
        sizes["steps"],
        lambda: sum(seen[step] for step in timed),
        prefetch=0,
    )


def _answered(prompt: list[int], answer: list[int]) -> Example:
    """A sequence of which the answer counts."""
    return example(prompt + answer, [False] * len(prompt) + [True] * len(answer))


def _varied(answers: Any) -> np.ndarray:
    """Share of different characters: a reward that costs nothing and differs between answers."""
    return np.array([len(set(one["text"])) / max(1, len(one["text"])) for one in answers])


METHODS = {"sft": sft, "dpo": dpo, "reward": reward, "grpo": grpo}


def main() -> None:
    """Train as ordered on the command line and print what was measured."""
    order = json.loads(sys.argv[1])
    method, sizes, folder = order["method"], order["sizes"], Path(order["folder"])
    read = hf_model.read(folder / "model")
    model: Any = Transformer(read.config)
    model.load_state_dict({key: read.weights[key] for key in model.state_dict()})
    if method.endswith("-lora"):
        lora.attach(model, AdapterConfig(r=8, target_modules=("linear",)))
    settings = {
        "max_length": sizes["max_position_embeddings"],
        "optimizer": AdamWConfig(learning_rate=1e-5, weight_decay=0.0),
        "precision": "fp32",
        "device": "cpu",
    }
    backend = Single(TrainConfig(max_steps=1, **settings))
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    work = METHODS[method.partition("-")[0]](Side(model, read.tokenizer, rows, sizes, backend))
    warm_up = sizes["warm_up"]

    def batches(step: int, rank: int, world: int) -> Any:
        if method == "grpo" or step < warm_up:
            return work.batches(step, rank, world)
        return work.batches(step - warm_up, rank, world)  # the pass begins after the warm-up

    def begin(trainer: Trainer) -> None:
        if trainer.step == warm_up:
            starts.append(_now())

    starts = [_now()]
    work.before()
    before = _since(starts.pop())
    config = TrainConfig(max_steps=warm_up + work.steps, **settings)
    Trainer(model, batches, work.objective, config, backend, prefetch=work.prefetch).run([begin])
    timed = _since(starts[0])
    wall, cpu = before[0] + timed[0], before[1] + timed[1]
    peak, tokens = peak_memory("cpu"), work.tokens()
    print(
        json.dumps(
            {
                "tokens": tokens,
                "tokens_per_second": tokens / wall,
                "tokens_per_cpu_second": tokens / cpu,
                "peak": peak,
                "peak_above_imports": max(1, peak - IMPORTED),
            }
        )
    )


def _now() -> tuple[float, float]:
    """By the clock, and of this process's processors, in seconds."""
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = _now()
    return wall - start[0], cpu - start[1]


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
