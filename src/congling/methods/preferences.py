"""What DPO, its relatives and reward models share: settings filled in, held-out numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from congling.core.config import build
from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.data.tuning.examples import Example
from congling.data.tuning.row_reader import SplitRows
from congling.methods.session import Session
from congling.methods.showing import show_rows, show_work
from congling.methods.tuning import Show
from congling.methods.tuning_recipe import TuningConfig, TuningRecipe
from congling.plan import tuning_plan
from congling.plan.tuning_plan import TuningFacts
from congling.train.loop import Objective

STEP_PAIRS, LEAST_PAIRS = 32, 8
"""Most and fewest rows of a step, where nobody asks for others; a fiftieth of the data in between."""
C = TypeVar("C", bound=TuningConfig)


def filled_in(
    kind: type[C],
    recipe: TuningRecipe,
    facts: TuningFacts,
    rows: int,
    *,
    sides: int,
    gentleness: float,
    **tables: Any,
) -> C:
    """The configuration with everything decided.

    Args:
        kind: of the configuration.
        recipe: what is asked for.
        facts: base and data.
        rows: training rows.
        sides: sequences of a row.
        gentleness: share of the rate of plain tuning.
        tables: the method's own.
    """
    asked = dict(recipe.train)
    if not asked.keys() & {"per_device_train_batch_size", "gradient_accumulation_steps"}:
        step = min(STEP_PAIRS, max(LEAST_PAIRS, rows // tuning_plan.UPDATES), max(1, rows))
        asked["per_device_train_batch_size"] = max(
            1, min(step, tuning_plan.MICRO_TOKENS // (sides * facts.longest))
        )
        asked["gradient_accumulation_steps"] = max(1, round(step / asked["per_device_train_batch_size"]))
    train = tuning_plan.settings(
        asked,
        facts,
        adapter=recipe.adapter is not None,
        epochs=recipe.num_train_epochs,
        gentleness=gentleness,
        steps_per_epoch=lambda context, each, accumulation: rows / (each * accumulation),
    )
    train.pop("eval_tokens", None)  # counts tokens of texts; here whole rows are scored
    decided = {"data": recipe.data, "adapter": recipe.adapter, "train": train, **tables}
    return build(kind, decided, where="recipe")


def held_out(
    batches: Sequence[Any], objective: Objective, place: Callable[[Any], Any]
) -> Callable[[Any], Mapping[str, float]]:
    """Model to the means over held-out rows of everything the objective measures."""

    @torch.no_grad()
    def look(model: Any) -> Mapping[str, float]:
        sums: dict[str, float] = {}
        for batch in batches:
            for name, value in objective(model, place(batch)).metrics.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        count = sum(batch.count for batch in batches)
        return {name: value / count for name, value in sums.items()}

    return look


def in_order(batches: Any, rows: int, total: int) -> list[Any]:
    """All rows of a set once, as micro-batches of ``rows``, by a batcher's ``batch``."""
    return [batches.batch(np.arange(start, min(start + rows, total))) for start in range(0, total, rows)]


def sides_of(pairs: Iterable[tuple[Example, Example]]) -> list[Example]:
    """All answers, the better of a pair before the worse."""
    return [example for pair in pairs for example in pair]


def shown(
    noun: str, rows: SplitRows[Any], facts: TuningFacts, config: TuningConfig, detail: str = ""
) -> Show:
    """What a run over such rows says before it starts; ``detail`` stands behind the rows of a step."""

    def show(session: Session, findings: Sequence[Diagnosis], console: Console) -> None:
        show_rows(len(rows.train), len(rows.validation), noun, rows.findings, console)
        train = session.config.train  # its steps may be more than those it was begun with
        step = f"{train.per_device_train_batch_size * train.gradient_accumulation_steps} {noun}s{detail}"
        show_work(
            step,
            facts,
            train,
            session.learnt,
            adapter=config.adapter is not None,
            console=console,
            findings=findings,
        )

    return show
