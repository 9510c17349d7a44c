"""Rows to tune on, made by the small world: instructions, preference pairs, and prompts to be judged.

Row ``i`` depends on the seed and ``i`` alone, and the three layouts of one seed hold the same tasks: the
chosen side of a pair is the answer of the instruction. No seed gives the documents of the corpus again.

Other seeds give other rows, but there are few sums: of those of one seed many come again with another. What
nobody has trained on is what ``split = "unseen"`` asks: that share of all tasks is in no ``seen`` row.

::

    instructions   {"messages": [user, assistant], "answer": …, "kind": …, "wording": …}
    pairs          {"messages": [user], "chosen": …, "rejected": …, "kind": …, "wording": …}
    prompts        {"messages": [user], "answer": …, "kind": …, "wording": …}
"""

import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from congling.core.config import Config
from congling.core.output import replacing
from congling.core.units import Amount
from congling.data.smallworld.config import require_weights
from congling.data.smallworld.tasks import draw, wrong
from congling.data.smallworld.wordings import TASKS, WORDINGS, Script, TaskKind

Layout = Literal["instructions", "pairs", "prompts"]
DEFAULT_MIX: dict[TaskKind, float] = {"questions": 0.4, "arithmetic": 0.3, "couplets": 0.15, "story": 0.15}


class RowsConfig(Config):
    """Rows of the small world."""

    kind: Layout = "instructions"
    count: Amount = Field(2000, ge=1, le=10_000_000)
    seed: int = Field(0, ge=0, lt=2**64)
    script: Script = "hans"
    """Simplified or Traditional characters."""

    mix: dict[TaskKind, float] = Field(default_factory=DEFAULT_MIX.copy)
    """Share of the rows of each kind; weights need not add up to 1. A kind left out is not made."""

    paraphrases: Literal["seen", "unseen", "all"] = "seen"
    """Which wordings a task may be put in: ``unseen`` is one of each kind that ``seen`` leaves out."""

    split: Literal["seen", "unseen", "all"] = "seen"
    """Which tasks: ``unseen`` is a tenth of all, stories, sums and lines that no ``seen`` rows hold."""

    questions_per_story: int = Field(1, ge=1, le=16)
    """Questions about one story, asked one after another, in instructions: the rest of a story's questions
    cost few tokens more."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        require_weights(self.mix.values())
        return self


def rows(config: RowsConfig) -> Iterator[dict[str, Any]]:
    """Yield ``config.count`` rows; memory stays constant."""
    return (row(config, index) for index in range(config.count))


def row(config: RowsConfig, index: int) -> dict[str, Any]:
    """Row number ``index``, from 0."""
    # One bit above all seeds of the corpus' documents (``generator.py``): these numbers are no document's.
    random = Random(1 << 128 | config.seed << 64 | index)
    kinds: list[TaskKind] = [kind for kind in TASKS if config.mix.get(kind, 0) > 0]
    ends = list(accumulate(config.mix[kind] for kind in kinds))
    at = random.random() * ends[-1]
    kind = kinds[min(sum(end <= at for end in ends), len(kinds) - 1)]
    task = draw(kind, config.script, random)
    while config.split != "all" and task.held_out != (config.split == "unseen"):
        task = draw(kind, config.script, random)
    wordings = WORDINGS[config.script][kind]
    choices = {"seen": range(len(wordings) - 1), "unseen": [len(wordings) - 1], "all": range(len(wordings))}
    possible = choices[config.paraphrases]
    wording = possible[int(random.random() * len(possible))]
    user = {"role": "user", "content": wordings[wording].format_map(task.fields)}
    meta = {"kind": kind, "wording": wording}
    if config.kind == "pairs":
        rejected = wrong(task, config.script, random)
        return {"messages": [user], "chosen": task.answer, "rejected": rejected, **meta}
    turns = [user]
    if config.kind == "instructions":
        turns.append({"role": "assistant", "content": task.answer})
        for question, answer in task.more[: config.questions_per_story - 1]:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "answer": task.answer, **meta}


def write(config: RowsConfig, out: Path | str, *, overwrite: bool = False) -> int:
    """Write rows as JSON lines, the file whole or not at all; returns its size in bytes.

    Raises:
        UserError: ``out`` exists and is not to be replaced, or cannot be written.
    """
    with replacing(out, overwrite=overwrite) as partial:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for made in rows(config):
                file.write(json.dumps(made, ensure_ascii=False) + "\n")
        return partial.stat().st_size
