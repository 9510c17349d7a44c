"""Held-out loss of LoRA, rsLoRA, DoRA and whole weights on one base.

A base of character tokens learns stories of the small world, and is then tuned on questions about them, of
which the answers alone count.
"""

from collections.abc import Callable, Sequence
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
from congling.transform import lora
from congling.transform.config import AdapterConfig
from measuring import Effort, Options
from reporting import Report, Table

EFFORT = {"full": (2, 128, 600, 200), "quick": (2, 96, 300, 100), "tiny": (1, 32, 2, 2)}
"""Layers, width, steps of the base, steps of each tuning."""
CONTEXT = 192
HELD_OUT = 100
"""Texts of each sort that are not learnt from."""
METHODS: dict[str, tuple[AdapterConfig | None, tuple[float, ...]]] = {
    "LoRA, rank 8": (AdapterConfig(r=8), (3e-3, 1e-2)),
    "rsLoRA, rank 8, alpha 8": (AdapterConfig(r=8, lora_alpha=8, use_rslora=True), (1e-3, 3e-3)),
    "DoRA, rank 8": (AdapterConfig(r=8, use_dora=True), (3e-3, 1e-2)),
    "whole weights": (None, (1e-3, 3e-3)),
}
"""Adapter (None: the weights themselves) and rates, of which the better one counts."""


def run(options: Options) -> Report:
    """One table."""
    return Report([World(options.effort).methods()])


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
            max_position_embeddings=CONTEXT,
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
