"""Loss spikes: steps until an injected one is noticed, and false alarms of runs in which nothing is wrong.

Small models learn sentences of the embedded small world. Trouble is a rate many times too high, or rows of
random characters, for five steps at a random place; trouble that hardly raises the loss is counted apart.
"""

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from congling.data.batches import Batch, CorpusBatches
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import generate
from congling.data.token_split import TokenSplit
from congling.model.families import qwen3
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.train.runs.spikes import SpikeDetector
from measuring import Options
from reporting import Report, Table

STEPS, CONTEXT, LASTS = 120, 32, 5
TROUBLE = {"rate × 1000": 1000.0, "rate × 100": 100.0, "rate × 30": 30.0, "random rows": 0.0}
REPEATS = {"full": 12, "quick": 4, "tiny": 1}
ORDINARY = {"full": 6, "quick": 2, "tiny": 1}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "muon": {"kind": "muon"},
    "adamw": {"kind": "adamw", "learning_rate": 2e-3},
}
HARMED = 1.25
"""Times its usual level that the loss must reach within the trouble to be a rise at all."""


@dataclass(frozen=True)
class Trouble:
    """What goes wrong, from which step on."""

    at: int
    factor: float
    """Of the rate; 0 for random rows instead."""


def run(options: Options) -> Report:
    """Two tables."""
    tiny = options.effort == "tiny"
    steps = 30 if tiny else STEPS
    noticed = Table("Injected trouble", ("trouble", "runs", "loss rose", "noticed", "steps until noticed"))
    draw = random.Random(0)
    for name, factor in list(TROUBLE.items())[: 1 if tiny else None]:
        rose, found = 0, list[int]()
        for i in range(REPEATS[options.effort]):
            optimizer = list(OPTIMIZERS)[i % 2]
            at = draw.randrange(10, steps - 10)
            losses = _losses(steps, optimizer, 8, 0.1, i, Trouble(at, factor))
            usual = statistics.median(losses[at - 5 : at + 1])
            rose += max(losses[at : at + LASTS + 1]) > HARMED * usual
            if spikes := SpikeDetector().read(_rows(losses)):
                found.append(spikes[0].step - at)
        until = f"{min(found)} to {max(found)}, median {statistics.median(found):.0f}" if found else "–"
        runs = REPEATS[options.effort]
        noticed.rows.append((name, str(runs), str(rose), str(len(found)), until))
    ordinary = Table("Nothing wrong", ("optimizer", "rows", "warm-up", "runs", "false alarms"))
    for optimizer, rows, warmup in _kinds(tiny):
        count = ORDINARY[options.effort]
        alarms = sum(
            len(SpikeDetector().read(_rows(_losses(steps, optimizer, rows, warmup, seed, None))))
            for seed in range(count)
        )
        ordinary.rows.append((optimizer, str(rows), f"{warmup:g}", str(count), str(alarms)))
    return Report([noticed, ordinary])


def _kinds(tiny: bool) -> Iterator[tuple[str, int, float]]:
    for optimizer in OPTIMIZERS:
        for rows in (1, 4, 16):
            for warmup in (0.0, 0.1):
                yield optimizer, rows, warmup
                if tiny:
                    return


def _losses(
    steps: int, optimizer: str, rows: int, warmup: float, seed: int, trouble: Trouble | None
) -> list[float]:
    """Training losses of one run."""
    vocabulary, split = _corpus()
    config = TrainConfig.model_validate(
        {
            "max_steps": steps,
            "max_length": CONTEXT,
            "per_device_train_batch_size": rows,
            "seed": seed,
            "device": "cpu",
            "precision": "fp32",
            "optimizer": OPTIMIZERS[optimizer],
            "schedule": {"kind": "wsd", "warmup_ratio": warmup},
        }
    )
    model = Transformer(
        qwen3(vocab_size=vocabulary, max_position_embeddings=CONTEXT, num_hidden_layers=2, hidden_size=64)
    )
    model.initialise(seed)
    batches: Any = CorpusBatches(split, context=CONTEXT, rows=rows, seed=seed)
    if trouble is not None and not trouble.factor:
        batches = _broken(batches, trouble.at, vocabulary)
    one = Trainer(model, batches, next_token, config, Single(config), prefetch=0)
    if trouble is not None and trouble.factor:
        one.lr_factor = _raised(one.lr_factor, trouble)
    found: list[float] = []
    one.run([lambda trainer: found.append(float(trainer.step_metrics["loss"]))])
    return found


def _raised(usual: Callable[[int], float], trouble: Trouble) -> Callable[[int], float]:
    return lambda step: usual(step) * (trouble.factor if 0 <= step - trouble.at < LASTS else 1.0)


def _broken(batches: CorpusBatches, at: int, vocabulary: int) -> Callable[[int, int, int], list[Batch]]:
    def made(step: int, rank: int, world: int) -> list[Batch]:
        found = batches(step, rank, world)
        if not 0 <= step - at < LASTS:
            return found
        draw = np.random.default_rng(step)
        tokens = draw.integers(0, vocabulary, (len(found[0].tokens), CONTEXT + 1))
        return [Batch(tokens[:, :-1], tokens[:, 1:], count=float(tokens[:, 1:].size))]

    return made


@cache
def _corpus() -> tuple[int, TokenSplit]:
    """Sentences by character: size of the vocabulary, and the tokens."""
    texts = [one.text for one in generate(SmallWorldConfig(size=200_000, seed=0, mix={"story": 1.0}))]
    known = {letter: index + 1 for index, letter in enumerate(sorted(set("".join(texts))))}
    tokens = [[*(known[letter] for letter in text), 0] for text in texts]
    ends = np.cumsum([len(text) for text in tokens])
    flat = np.array([token for text in tokens for token in text], np.uint16)
    lengths, sizes = (np.array([len(text) for text in found]) for found in (texts, map(str.encode, texts)))
    return len(known) + 1, TokenSplit(flat, ends, lengths, sizes, 0, len(known) + 1)


def _rows(losses: list[float]) -> list[dict[str, float]]:
    return [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
