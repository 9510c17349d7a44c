"""What a base learns of longer rows: S²-Attn against full attention, adapters against all weights.

::

    python benchmarks/longlora_quality.py BASE --train book.txt --held held.jsonl --context 4096 --steps 100

The base is stretched by position interpolation; every way then takes as many steps over the same rows. Scored
is the last quarter of held-out windows, always with full attention, each window by every way (paired). A
result is kept in a file of its own, so that a long comparison can be stopped and continued.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from congling.data.tuning.examples import Example, ExampleBatches
from congling.evals.length import tail_losses
from congling.evals.paired import paired
from congling.infer.checkpoints import load_checkpoint
from congling.model.transformer import Transformer
from congling.plan.tuning_plan import rate_of
from congling.train.backends.single import Single
from congling.train.config import AdamWConfig, TrainConfig, WSDConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.transform import longlora, lora
from congling.transform.config import AdapterConfig, LongLoRAConfig
from congling.transform.extend import extended
from reporting import Table
from small_base import Ids, windows

GROUPS = 4


def _factors(*whole: str) -> AdapterConfig:
    return AdapterConfig(r=8, lora_alpha=16, target_modules=("attention",), modules_to_save=whole)


ADAPTERS: dict[str, AdapterConfig | None] = {
    "LoRA": _factors(),
    "LoRA + norms": _factors("norms"),
    "LoRA + embedding": _factors("embedding"),
    "LoRA + both": _factors("embedding", "norms"),
    "all weights": None,
}
"""What is learnt, as in table 2 of the paper."""
WAYS = [(name, True) for name in ADAPTERS] + [("LoRA + both", False), ("all weights", False)]
"""What is learnt, and whether in groups."""


@dataclass(frozen=True)
class Task:
    """A base, and what it is to learn."""

    base: Transformer
    context: int
    train: Sequence[Ids]
    """Rows of ``context`` + 1 ids."""
    held: Sequence[Ids]
    """The same, to be scored."""
    steps: int
    rows: int = 1
    rates: tuple[float, ...] = (1.0,)
    """Times the rate that the plan would take; the best of them counts."""

    def stretched(self) -> Transformer:
        """The base with the longer context; weights are copies."""
        model = Transformer(extended(self.base.config, "linear", self.context))
        model.load_state_dict(self.base.state_dict())
        return model

    def losses(self, model: Transformer) -> list[float]:
        """Nats a token of the last quarter of each held-out window."""
        found = tail_losses(model, self.held, [self.context], self.context // 4, rows=2)
        return found[:, 0].tolist()


@dataclass(frozen=True)
class Result:
    """What came of a way."""

    name: str
    grouped: bool
    rate: float
    trained: int
    losses: list[float]
    seconds: float
    """CPU seconds a step."""


def learn(task: Task, name: str, grouped: bool, times: float) -> Result:
    """Train one way at one rate, and score it."""
    model, adapter = task.stretched(), ADAPTERS[name]
    rate = times * rate_of(model.config, adapter=adapter is not None)
    if adapter is not None:
        lora.attach(model, adapter)
    if grouped:
        longlora.shift(model, LongLoRAConfig(groups=GROUPS), task.context)
    config = TrainConfig(
        max_steps=task.steps,
        max_length=task.context,
        per_device_train_batch_size=task.rows,
        optimizer=AdamWConfig(learning_rate=rate, weight_decay=0.0),
        schedule=WSDConfig(warmup_ratio=0.1),
        device="cpu",
        precision="fp32",
    )
    every = np.ones(task.context + 1, bool)
    examples = [Example(ids.astype(np.int32), every, task.context, "") for ids in task.train]
    batches = ExampleBatches(examples, context=task.context, rows=task.rows)
    start = time.process_time()
    Trainer(model, batches, next_token, config, Single(config)).run()
    seconds = (time.process_time() - start) / task.steps
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return Result(name, grouped, rate, trained, task.losses(model), seconds)


def compare(task: Task, kept: Path | None = None, only: str = "") -> Table:
    """All ways as a table; results are kept in the folder ``kept``, and not made again."""
    found: dict[tuple[str, bool], Result] = {}
    for name, grouped in WAYS:
        if only in f"{name}, {'S²-Attn' if grouped else 'full attention'}":
            each = [_once(task, name, grouped, times, kept) for times in task.rates]
            found[name, grouped] = min(each, key=lambda one: float(np.mean(one.losses)))
    before = task.losses(task.stretched().eval())
    columns = ("learnt", "attention", "values", "rate", "CPU s/step", "loss", "less than LoRA", "gap closed")
    trained = task.base.config.max_position_embeddings
    title = f"Rows of {task.context} for {task.steps} steps on a base of {trained}"
    table = Table(f"{title}: {np.mean(before):.4f} nats/token before", columns)
    worst, best = found.get(("LoRA", True)), found.get(("all weights", True))
    for (name, grouped), one in found.items():
        gap = ""
        if worst is not None and best is not None and worst is not best:
            whole = np.mean(worst.losses) - np.mean(best.losses)
            gap = f"{(np.mean(worst.losses) - np.mean(one.losses)) / whole:.0%}"
        cells = (f"{one.trained:,}", f"{one.rate:.1e}", f"{one.seconds:.2f}", f"{np.mean(one.losses):.4f}")
        less = "" if worst is None else _shown(one.losses, worst.losses)
        table.rows.append((name, "S²-Attn" if grouped else "full", *cells, less, gap))
    for name in ADAPTERS:
        if (name, True) in found and (name, False) in found:
            more = _shown(found[name, False].losses, found[name, True].losses)
            table.notes.append(f"{name}: S²-Attn minus full attention {more} nats/token.")
    table.notes.append(
        f"The last {task.context // 4} tokens of {len(task.held)} held-out windows, read with full "
        "attention; intervals of 95 % are paired, over windows."
    )
    return table


def _once(task: Task, name: str, grouped: bool, times: float, kept: Path | None) -> Result:
    if kept is None:
        return learn(task, name, grouped, times)
    words = name.replace(" + ", "-").replace(" ", "-").lower()
    path = kept / f"{words}-{'groups' if grouped else 'full'}-{task.context}-{task.steps}-{times:g}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(learn(task, name, grouped, times))), encoding="utf-8")
    return Result(**json.loads(path.read_text(encoding="utf-8")))


def _shown(first: Sequence[float], second: Sequence[float]) -> str:
    """Second minus first."""
    found = paired(first, second)
    if found.low is None or found.high is None:
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _texts(path: Path) -> list[str]:
    """A text, or the texts of JSON lines."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        return [content]
    return [json.loads(line)["text"] for line in content.splitlines()]


def main() -> None:
    """Compare the ways on a base and texts that are named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="a checkpoint or run with the short context")
    parser.add_argument("--train", type=Path, required=True, help="a text, or JSON lines with `text`")
    parser.add_argument("--held", type=Path, required=True, help="the same, to be scored: long texts")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0], help="times the plan's rate")
    parser.add_argument("--only", default="", help="ways whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/longlora"))
    given = parser.parse_args()
    loaded = load_checkpoint(given.base, "cpu")
    train = windows(map(loaded.tokenizer.encode, _texts(given.train)), given.context)
    # Windows of one text alone: what stands before a scored token belongs to it.
    texts = [loaded.tokenizer.encode(text) for text in _texts(given.held)]
    held = [one for text in texts for one in windows([text], given.context)]
    task = Task(loaded.model, given.context, train, held, given.steps, given.rows, tuple(given.rates))
    page = compare(task, given.out, given.only).markdown()
    (given.out / "longlora.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
