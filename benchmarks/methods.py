"""Scores of tuned models on tasks of the small world, by its rules: accuracy, and who wins against whom.

Not timed, so it is no part of ``run.py``. The log of the methods (docs/log) names the commands::

    python benchmarks/methods.py accuracy runs/sft questions.jsonl sums.jsonl
    python benchmarks/methods.py wins runs/dpo runs/sft stories.jsonl
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from congling.data.smallworld import judge
from congling.evals.scores import wilson
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.completions import complete
from congling.tokenizer.chat.encode import chat_ids

AT_ONCE = 50
LONGEST = 140


def answers(
    loaded: Loaded, rows: Sequence[Mapping[str, Any]], temperature: float, seed: int = 0
) -> list[tuple[str, bool]]:
    """What a model says to each row, and whether it ended by itself."""
    found, tokenizer = [], loaded.tokenizer
    for start in range(0, len(rows), AT_ONCE):
        part = [chat_ids(tokenizer, row["messages"]) for row in rows[start : start + AT_ONCE]]
        room = loaded.model.config.max_position_embeddings - max(map(len, part))
        written = complete(
            loaded.model,
            part,
            group=1,
            new_tokens=min(LONGEST, room),
            stops=tokenizer.stop_ids,
            temperature=temperature,
            seeds=range(seed + start, seed + start + len(part)),
        )
        found += [(tokenizer.decode(one.ids, skip_special=True), one.ended) for (one,) in written]
    return found


def accuracy(model: str, files: Sequence[str]) -> None:
    """Likeliest answers: share that is right, mean reward, share ended; and how grammatical stories are."""
    loaded = opened(model)
    for file in files:
        rows = read(file)
        said = answers(loaded, rows, 0.0)
        right = [
            judge.right(row["kind"], judge.prompt_of(row), text, row["answer"])
            for row, (text, _) in zip(rows, said, strict=True)
        ]
        low, high = wilson(sum(right), len(right))
        rewards = [judge.reward(row, text) for row, (text, _) in zip(rows, said, strict=True)]
        print(
            json.dumps(
                {
                    "model": model,
                    "file": Path(file).name,
                    "n": len(rows),
                    "right": sum(right) / len(right),
                    "low": low,
                    "high": high,
                    "reward": sum(rewards) / len(rewards),
                    "ended": sum(ended for _, ended in said) / len(said),
                    "grammatical": sum(judge.grammatical(text) for text, _ in said) / len(said),
                }
            ),
            flush=True,
        )


def wins(first: str, second: str, files: Sequence[str], draws: int = 2) -> None:
    """Answers drawn at temperature 1: of the cases in which rewards differ, the share the first wins."""
    models = [opened(first), opened(second)]
    for file in files:
        rows = read(file)
        better = worse = 0
        for draw in range(draws):
            ours, theirs = (answers(one, rows, 1.0, seed=1000 * draw) for one in models)
            for row, (mine, _), (other, _) in zip(rows, ours, theirs, strict=True):
                difference = judge.reward(row, mine) - judge.reward(row, other)
                better, worse = better + (difference > 1e-9), worse + (difference < -1e-9)
        low, high = wilson(better, better + worse)
        total = len(rows) * draws
        print(
            json.dumps(
                {
                    "first": first,
                    "second": second,
                    "file": Path(file).name,
                    "n": total,
                    "wins": better,
                    "losses": worse,
                    "ties": total - better - worse,
                    "win_rate": better / max(1, better + worse),
                    "low": low,
                    "high": high,
                }
            ),
            flush=True,
        )


def opened(name: str) -> Loaded:
    """A model by its run, or ``BASE+ADAPTER``."""
    base, *adapters = name.split("+")
    loaded = load_checkpoint(base, "cpu", adapters=[(one, 1.0) for one in adapters])
    loaded.model.eval()
    return loaded


def read(file: str) -> list[dict[str, Any]]:
    """Rows of ``congling data rows --kind prompts``."""
    return [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]


if __name__ == "__main__":
    torch.set_num_threads(2)
    if sys.argv[1] == "accuracy":
        accuracy(sys.argv[2], sys.argv[3:])
    else:
        wins(sys.argv[2], sys.argv[3], sys.argv[4:])
