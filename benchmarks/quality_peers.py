"""One contender for a held-out loss in a process of its own: ``transformers``' Trainer, or a plain loop.

Schedules run on the clock and end exactly with the budget, which is more than a person gets who must guess a
number of steps. Scores are taken off the clock.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, TrainerCallback

import peers
from congling.core.units import seconds
from congling.data.token_split import TokenSplit
from heldout import Clock, Curve, bits_per_character, marks, prepare
from peer_settings import Setting, setting_for


class Watch:
    """The clock, the schedule on it, and the scores so far."""

    def __init__(
        self, clock: Clock, curve: Curve, setting: Setting, model: PreTrainedModel, split: TokenSplit
    ) -> None:
        self.clock, self.curve, self.setting, self.model, self.split = clock, curve, setting, model, split
        self.marks = marks(curve.budget)

    def rate(self) -> float:
        """Learning rate of now."""
        return self.setting.rate * self.setting.factor(self.clock.seconds() / self.curve.budget)

    def step_done(self) -> bool:
        """Score where a mark has been passed; whether the budget is used up."""
        now = self.clock.seconds()
        if self.marks and now >= self.marks[0]:
            self.marks = [mark for mark in self.marks if mark > now]
            with self.clock.stopped():
                self.curve.points.append((now, self._score()))
        return not self.marks

    def _score(self) -> float:
        self.model.eval()
        with torch.compiler.set_stance(
            "force_eager"
        ):  # other shapes than in training: do not compile for them
            context = self.setting.model.max_position_embeddings
            bits = bits_per_character(lambda tokens: self.model(input_ids=tokens).logits, self.split, context)
        self.model.train()
        return bits


def train_with_trainer(watch: Watch, tokens: np.ndarray) -> None:
    """Train in the way of ``transformers``, until the budget is used up."""

    class OnTheClock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            for group in kwargs["optimizer"].param_groups:
                group["lr"] = watch.rate()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = watch.step_done()

    setting = watch.setting
    peers.train(
        watch.model,
        peers.Rows(tokens, setting.model.max_position_embeddings),
        batch=setting.rows,
        callbacks=[OnTheClock()],
        max_steps=10**6,
        learning_rate=setting.rate,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        torch_compile=setting.compile,
        **setting.arguments,
    )


def train_plainly(watch: Watch, tokens: np.ndarray) -> None:
    """nanoGPT's loop: random windows, clipping, AdamW with decay on matrices only."""
    setting, model = watch.setting, watch.model
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=setting.rate, betas=(0.9, 0.99), fused=True)
    forward = torch.compile(model) if setting.compile else model
    for inputs in _random_windows(tokens, setting.model.max_position_embeddings, setting.rows):
        for group in optimizer.param_groups:
            group["lr"] = watch.rate()
        forward(input_ids=inputs, labels=inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if watch.step_done():
            return


def _random_windows(tokens: np.ndarray, context: int, rows: int) -> Iterator[torch.Tensor]:
    ids, random = torch.from_numpy(np.asarray(tokens, np.int64)), np.random.default_rng(0)
    while True:
        starts = random.integers(0, len(ids) - context, rows)
        yield torch.stack([ids[start : start + context] for start in starts])


def contend(
    contender: str,
    text: Path,
    budget: float,
    *,
    rate: float | None = None,
    compiled: bool | None = None,
    clock: Clock | None = None,
) -> Curve:
    """Prepare the corpus, train for ``budget`` seconds on the clock, and return the scores."""
    clock, curve = clock or Clock(), Curve(contender, budget)
    torch.manual_seed(0)
    kind: Literal["bpe", "character"] = "bpe" if contender == "tuned" else "character"
    with tempfile.TemporaryDirectory() as folder:
        shards = prepare(text, Path(folder), kind)
        setting = setting_for(contender, shards, budget, rate, compiled)
        model = peers.build(setting.model)
        shape = {
            "num_hidden_layers": setting.model.num_hidden_layers,
            "hidden_size": setting.model.hidden_size,
            "max_position_embeddings": setting.model.max_position_embeddings,
        }
        curve.settings = shape | {
            "parameters": model.num_parameters(),
            "vocab_size": shards.vocab_size,
            "rows": setting.rows,
            "rate": setting.rate,
            "compiled": setting.compile,
            "optimizer": "AdamW",
            "tokenizer": kind,
        }
        watch = Watch(clock, curve, setting, model, shards["validation"])
        train = train_plainly if contender == "plain" else train_with_trainer
        train(watch, shards["train"].tokens)
    return curve


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=("usual", "tuned", "plain"))
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=seconds, default=180.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    given = parser.parse_args()
    result = contend(given.contender, given.text, given.budget, rate=given.rate, compiled=given.compile)
    result.write(given.out)
