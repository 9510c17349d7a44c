"""Held-out loss of LoRA, rsLoRA, DoRA and whole weights on one base; time, memory and loss of S²-Attn.

A base of character tokens learns stories of the small world, is then tuned on questions about them, of which
the answers alone count, and learns longer rows with attention in shifted groups (LongLoRA) or as a whole.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from congling.data.batches import Batch
from congling.data.smallworld import generate, problems
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.tuning.examples import Example, ExampleBatches, evaluation_batches
from congling.model.families import llama
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import AdamWConfig, TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.transform import longlora, lora
from congling.transform.config import AdapterConfig, LongLoRAConfig
from measuring import Effort, Options, Spread, peak_memory, ratios
from reporting import Report, Table

EFFORT = {"full": (2, 128, 600, 200), "quick": (2, 96, 300, 100), "tiny": (1, 32, 2, 2)}
"""Layers, width, steps of the base, steps of each tuning."""
CONTEXT, LONG, GROUPS = 192, 768, 4
HELD_OUT = 100
"""Texts of each sort that are not learnt from."""
METHODS: dict[str, tuple[AdapterConfig | None, tuple[float, ...]]] = {
    "LoRA, rank 8": (AdapterConfig(r=8), (3e-3, 1e-2)),
    "rsLoRA, rank 8, alpha 8": (AdapterConfig(r=8, lora_alpha=8, use_rslora=True), (1e-3, 3e-3)),
    "DoRA, rank 8": (AdapterConfig(r=8, use_dora=True), (3e-3, 1e-2)),
    "whole weights": (None, (1e-3, 3e-3)),
}
"""Adapter (None: the weights themselves) and rates, of which the better one counts."""
LONG_WAYS: dict[str, tuple[AdapterConfig, bool]] = {
    "full attention": (
        AdapterConfig(target_modules=("attention",), modules_to_save=("norms", "embedding")),
        False,
    ),
    "S²-Attn": (AdapterConfig(target_modules=("attention",), modules_to_save=("norms", "embedding")), True),
    "S²-Attn, factors alone": (AdapterConfig(target_modules=("attention",)), True),
}
STEP = {"full": (1024, 2048), "quick": (1024,), "tiny": (64,)}
"""Contexts at which a step of the 4 × 224 model is timed."""
ROUNDS = {"full": (3, 4), "quick": (2, 2), "tiny": (1, 1)}
"""Processes for each contender, timed steps of each."""


def run(options: Options) -> Report:
    """All three tables."""
    world = World(options.effort)
    return Report([world.methods(), world.long_rows(), steps(options)])


class World:
    """The small world in character tokens, and a base that has read some of it."""

    def __init__(self, effort: Effort) -> None:
        layers, width, steps, self.steps = EFFORT[effort]
        size = 90_000 if effort == "tiny" else 600_000
        texts = [document.text for document in generate(SmallWorldConfig(size=size, mix={"story": 1.0}))]
        self.ids = {character: 2 + i for i, character in enumerate(sorted(set("".join(texts))))}
        self.stories = [self.example("", text) for text in texts]
        asked = generate(SmallWorldConfig(size=size, seed=1, mix={"questions": 1.0}))
        self.questions = [
            self.example(one.prompt, one.answer) for document in asked for one in problems(document)[:1]
        ]
        config = llama(
            vocab_size=len(self.ids) + 2,
            max_position_embeddings=LONG,
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=4,
        )
        self.base = Transformer(config)
        train(self.base, windows(self.stories[HELD_OUT:], CONTEXT), CONTEXT, steps, 2e-3)

    def example(self, prompt: str, answer: str) -> Example:
        """A text whose answer counts, between marks of its ends (id 1; 0 stands for the unknown)."""
        ids = [1, *(self.ids.get(character, 0) for character in prompt + answer), 1]
        learnt = np.arange(len(ids)) > len(prompt)
        return Example(np.array(ids, np.int32), learnt, len(answer), "")

    def copy(self) -> Transformer:
        """The base, to be changed."""
        model = Transformer(self.base.config)
        model.load_state_dict(self.base.state_dict())
        return model

    def methods(self) -> Table:
        """Held-out loss of answers after tuning by each method, at the better of its rates."""
        held_out, learnt = self.questions[:HELD_OUT], self.questions[HELD_OUT:]
        before = loss(self.base, held_out, CONTEXT)
        table = Table(
            f"Questions after {self.steps} steps; the base: {before:.3f} nats/token",
            ("method", "trained", "of all", "rate", "held-out loss"),
        )
        whole = sum(parameter.numel() for parameter in self.base.parameters())
        for name, (adapter, rates) in METHODS.items():
            results = []
            for rate in rates:
                model = self.copy()
                if adapter is not None:
                    lora.attach(model, adapter)
                train(model, learnt, CONTEXT, self.steps, rate)
                results.append((loss(model, held_out, CONTEXT), rate))
            trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
            best, rate = min(results)
            table.rows.append((name, f"{trained:,}", f"{trained / whole:.1%}", f"{rate:g}", f"{best:.3f}"))
        return table

    def long_rows(self) -> Table:
        """Held-out loss at a context four times as long, always with full attention."""
        held_out, learnt = (
            windows(part, LONG) for part in (self.stories[:HELD_OUT], self.stories[HELD_OUT:])
        )
        before = loss(self.base, held_out, LONG)
        title = f"Rows of {LONG} after {self.steps // 2} steps on a base of {CONTEXT}"
        columns = ("trained with", "values", "held-out loss")
        table = Table(f"{title}; the base: {before:.3f} nats/token", columns)
        for name, (adapter, grouped) in LONG_WAYS.items():
            model = self.copy()
            lora.attach(model, adapter)
            if grouped:
                longlora.shift(model, LongLoRAConfig(groups=GROUPS), LONG)
            train(model, learnt, LONG, self.steps // 2, 3e-3, rows=2)
            trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
            table.rows.append((name, f"{trained:,}", f"{loss(model, held_out, LONG):.3f}"))
        table.notes.append("Evaluated with full attention in every row of the table.")
        return table


def windows(texts: Sequence[Example], context: int) -> list[Example]:
    """Texts one after the other, cut into rows of ``context`` tokens that all count."""
    ids = np.concatenate([text.input_ids for text in texts])
    every = np.ones(context + 1, bool)
    return [
        Example(ids[start : start + context + 1], every, context, "")
        for start in range(0, len(ids) - context, context)
    ]


def train(
    model: Transformer, examples: Sequence[Example], context: int, steps: int, rate: float, rows: int = 8
) -> None:
    """Train in place, by the loop of all stages."""
    config = TrainConfig(
        max_steps=steps,
        max_length=context,
        per_device_train_batch_size=rows,
        optimizer=AdamWConfig(learning_rate=rate, weight_decay=0.0),
        device="cpu",
        precision="fp32",
    )
    batches = ExampleBatches(fitting(examples, context), context=context, rows=rows)
    Trainer(model, batches, next_token, config, Single(config)).run()


def fitting(examples: Sequence[Example], context: int) -> list[Example]:
    """Those that are no longer than a row."""
    return [one for one in examples if one.length <= context]


def loss(model: Transformer, examples: Sequence[Example], context: int) -> float:
    """Nats a learnt token."""
    place: Callable[[Any], Any] = lambda one: None if one is None else torch.from_numpy(one)  # noqa: E731
    total = count = 0.0
    model.eval()
    with torch.no_grad():
        for batch in evaluation_batches(fitting(examples, context), context=context, rows=8):
            parts = (batch.tokens, batch.targets, batch.weights, batch.positions, batch.documents)
            total += float(next_token(model, Batch(*map(place, parts))).total)
            count += batch.count
    return total / count


# --- one step of a model of 4 × 224, each contender a process of its own


@dataclass
class Contender:
    """Who trains, and what its processes measured."""

    grouped: bool
    packed: bool
    seconds: list[float]
    memory: list[float]

    @property
    def name(self) -> str:
        """For the table."""
        return ("S²-Attn" if self.grouped else "full attention") + (", several texts" if self.packed else "")


def steps(options: Options) -> Table:
    """Time and memory of a training step with and without groups."""
    columns = ("context", "attention", "CPU s/step", "memory", "time, ratio", "memory, ratio")
    table = Table("A step of 4 × 224, 2 rows", columns)
    processes, count = ROUNDS[options.effort]
    for context in STEP[options.effort]:
        texts = (False,) if options.effort == "tiny" else (False, True)
        ways = [(grouped, packed) for packed in texts for grouped in (False, True)]
        contenders = [Contender(grouped, packed, [], []) for grouped, packed in ways]
        for _ in range(processes):
            for one in contenders:
                order = {
                    "context": context,
                    "grouped": one.grouped,
                    "packed": one.packed,
                    "steps": count,
                }
                command = [sys.executable, __file__, json.dumps(order)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                one.seconds.append(found["seconds"])
                one.memory.append(found["memory"])
        for one in contenders:
            peer = next(other for other in contenders if other.packed == one.packed and not other.grouped)
            table.rows.append(
                (
                    f"{context}",
                    one.name,
                    Spread(tuple(one.seconds)).show("{:.2f}"),
                    Spread(tuple(value / 1e6 for value in one.memory)).show("{:.0f} MB"),
                    ratios(one.seconds, peer.seconds).show("{:.2f}×"),
                    ratios(one.memory, peer.memory).show("{:.2f}×"),
                )
            )
    table.notes.append("Memory is the peak above that of the model at rest; CPU seconds of the process.")
    return table


def main() -> None:
    """Time steps as ordered on the command line and print what was measured."""
    order = json.loads(sys.argv[1])
    context = order["context"]
    model = Transformer(
        llama(
            vocab_size=2048,
            max_position_embeddings=context,
            num_hidden_layers=4,
            hidden_size=224,
            num_attention_heads=4,
        )
    )
    lora.attach(model, AdapterConfig(target_modules=("attention",), modules_to_save=("norms", "embedding")))
    if order["grouped"]:
        longlora.shift(model, LongLoRAConfig(groups=GROUPS), context)
    model.train()
    tokens = torch.randint(0, 2048, (2, context))
    texts = (torch.arange(context) // 100).expand(2, -1) if order["packed"] else None
    batch = Batch(*(tokens, tokens, None, None, texts))  # type: ignore[arg-type]
    rest = peak_memory("cpu")
    next_token(model, batch).total.backward()
    start = time.process_time()
    for _ in range(order["steps"]):
        next_token(model, batch).total.backward()
    seconds = (time.process_time() - start) / order["steps"]
    above = max(1, peak_memory("cpu") - rest)  # 0 where importing took more than a tiny step
    print(json.dumps({"seconds": seconds, "memory": above}))


if __name__ == "__main__":
    main()
