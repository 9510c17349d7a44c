"""A plan: the advice, what it costs, and what is wrong with it, as one value that can be shown, stored
and compared.

::

    recipe + corpus facts + machine facts ─advise→ model, train ─estimate→ cost ─check→ findings
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from congling.core.diagnosis import Diagnosis
from congling.core.errors import UserError
from congling.core.units import show_rate
from congling.model.config import ModelConfig
from congling.plan import advice_numbers
from congling.plan.advise import Advice, advise
from congling.plan.advise_batch import LEAST_STEPS
from congling.plan.advise_memory import fitted
from congling.plan.checks import check
from congling.plan.choices import Choice
from congling.plan.corpus_facts import CorpusFacts, MachineFacts, this_machine, to_json
from congling.plan.cost import NOTHING_YET, Beside, Cost, estimate
from congling.plan.recipe import Recipe
from congling.plan.situation import Situation
from congling.train.config import TrainConfig
from congling.train.measurement import Calibration, Probe
from congling.train.schedule import learning_rate_factor

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What will be run, what it will cost, and what to know before."""

    advice: Advice
    corpus: CorpusFacts
    machine: MachineFacts
    cost: Cost
    findings: tuple[Diagnosis, ...]
    trained_length: int | None = None
    """Tokens of the longest texts that the model was trained on, where its context was extended."""

    @property
    def model(self) -> ModelConfig:
        """The model to train."""
        return self.advice.model

    @property
    def train(self) -> TrainConfig:
        """How to train it."""
        return self.advice.train

    def learning_rates(self, points: int = 60) -> list[float]:
        """Share of the peak rate at evenly spaced steps."""
        steps = self.train.max_steps
        places = [round(i * (steps - 1) / max(1, points - 1)) for i in range(points)]
        return [learning_rate_factor(self.train.schedule, step, steps) for step in places]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        cost = self.cost
        return {
            "budget": self.advice.budget,
            "model": self.model.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json"),
            "choices": [{"key": one.key, "value": one.value, "why": one.why} for one in self.advice.choices],
            "corpus": to_json(self.corpus),
            "machine": to_json(self.machine),
            "cost": {
                "parameters": cost.parameters,
                "total_parameters": cost.total_parameters,
                "embedding_share": cost.embedding_share,
                "tokens_per_step": cost.tokens_per_step,
                "tokens": cost.tokens,
                "passes": cost.passes,
                "flops": cost.flops,
                "attention_share": cost.attention_share,
                "seconds_per_step": cost.seconds_per_step,
                "utilisation": cost.utilisation,
                "time": cost.time,
                "seconds": cost.seconds,
                "memory": cost.memory,
                "peak_memory": cost.peak_memory,
                "disk": cost.disk,
                "disk_bytes": cost.disk_bytes,
            },
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_text(self, more: Mapping[str, Any] | None = None) -> str:
        """Content of ``plan.json``; ``more`` is what is known of the run besides."""
        return json.dumps({**(more or {}), **self.to_json()}, ensure_ascii=False, indent=1) + "\n"


def make(
    recipe: Recipe,
    corpus: CorpusFacts,
    machine: MachineFacts,
    *,
    seconds_per_step: float | None = None,
    peak_memory: float | None = None,
    start: ModelConfig | None = None,
    trained_length: int | None = None,
    beside: Beside = NOTHING_YET,
) -> Plan:
    """Plan a recipe for a corpus and a machine; ``start`` is a trained model to begin from, whose context was
    perhaps extended beyond ``trained_length``.

    ``seconds_per_step`` and ``peak_memory`` (bytes of the process) are measured with the plan's own model and
    batch, where they are: plan once, measure, plan again. ``beside`` is what the budget has to hold besides.

    Raises:
        UserError: the recipe contradicts itself.
    """
    if recipe.budget is not None:
        beside = replace(beside, scoring=advice_numbers.SCORE_SHARE * recipe.budget)
    advice, cost = _within_budget(
        recipe,
        corpus,
        machine,
        seconds_per_step,
        peak_memory=peak_memory,
        start=start,
        trained_length=trained_length,
        beside=beside,
    )
    situation = Situation(
        advice.model,
        advice.train,
        corpus,
        machine,
        cost,
        recipe.budget,
        fresh=start is None,
        tokenizer_kind=recipe.tokenizer.kind,
        quantization=recipe.quantization,
        exports=recipe.exports,
        spent=beside.spent,
        given=recipe.given_keys | ({"model"} if start is not None else set()),
        trained_length=trained_length,
    )
    return Plan(advice, corpus, machine, cost, tuple(check(situation)), trained_length)


def _within_budget(
    recipe: Recipe,
    corpus: CorpusFacts,
    machine: MachineFacts,
    seconds_per_step: float | None,
    *,
    peak_memory: float | None,
    start: ModelConfig | None,
    trained_length: int | None,
    beside: Beside,
) -> tuple[Advice, Cost]:
    """Advice with so many steps that all of it fits the budget, and what it costs."""
    squeeze, tries = 1.0, FITTING_TRIES
    while True:
        advised = advise(
            recipe,
            corpus,
            machine,
            seconds_per_step=seconds_per_step,
            start=start,
            trained_length=trained_length,
            spent=beside.spent,
            squeeze=squeeze,
        )
        advice = fitted(advised, recipe, corpus, machine)
        cost = estimate(
            advice.model,
            advice.train,
            corpus,
            machine,
            seconds_per_step=seconds_per_step,
            peak_memory=peak_memory,
            beside=beside,
        )
        moving, room = cost.seconds - cost.fixed_seconds, advice.budget - cost.fixed_seconds
        tries -= 1
        if (
            not tries
            or moving <= room
            or "max_steps" in recipe.train
            or advice.train.max_steps <= LEAST_STEPS
        ):
            return advice, cost
        squeeze *= max(0.01, 0.99 * room / moving)  # what interrupts the steps takes time as well


FITTING_TRIES = 5
"""How often the steps are made fewer until a plan fits its budget."""


def measured(
    recipe: Recipe,
    corpus: CorpusFacts,
    out: Path | str,
    probe: Callable[[str, str], Probe],
    measure: Callable[[ModelConfig, TrainConfig], Calibration],
    start: ModelConfig | None = None,
    trained_length: int | None = None,
    beside: Beside = NOTHING_YET,
) -> Plan:
    """Plan for this machine as measured: its matmul peak decides the model, real steps of it time and memory.

    Args:
        recipe: what is asked for.
        corpus: what there is to train on.
        out: where the run will be written; its free disk counts.
        probe: device and precision to what the machine can do (:func:`congling.train.calibrate.probe`).
        measure: trains some steps (:func:`congling.train.calibrate.measure`); not called for a plan with
        an error.
        start: a trained model to begin from.
        trained_length: tokens of the longest texts it was trained on, where its context was extended.
        beside: what the budget has to hold besides; the time of measuring is added to it.

    Raises:
        UserError: the recipe contradicts itself.
    """
    began = time.monotonic()
    wanted = (str(recipe.train.get(key, "auto")) for key in ("device", "precision"))
    here = this_machine(out, probe(*wanted))
    planned = partial(make, recipe, corpus, here, start=start, trained_length=trained_length)
    first = planned(beside=beside)
    if any(finding.severity == "error" for finding in first.findings):
        return first
    found = measure(first.model, first.train)
    if beside.spent:  # within the program that trains
        beside = replace(beside, spent=beside.spent + time.monotonic() - began)
    made = planned(
        seconds_per_step=found.seconds_per_step, peak_memory=found.peak_memory_bytes, beside=beside
    )
    threads = _threads(found)
    return made if threads is None else replace(made, advice=made.advice.with_choice(threads))


def _threads(found: Calibration) -> Choice | None:
    """How threads wait for one another, where there was a choice."""
    if found.manner is None or found.other_manner is None:
        return None
    faster, slower = (
        show_rate(found.tokens_per_step / seconds, "tokens")
        for seconds in (found.seconds_per_step, found.other_manner)
    )
    beside = ": beside other programs, spinning takes the processors from the work"
    alone = ": on processors of one's own, waking takes longer than spinning"
    why = f"{faster} now, and {slower} the other way" + (beside if found.manner == "asleep" else alone)
    return Choice("threads", f"wait {found.manner} for one another", why)


_IMPOSSIBLE = ("packed-needs-adapter",)
"""Codes of errors with which no run can begin, forced or not."""


def require_sound(findings: Iterable[Diagnosis], *, force: bool = False) -> None:
    """Stop at the first error among findings; of a forced plan, at what cannot be run at all.

    Raises:
        UserError: there is one.
    """
    for finding in findings:
        impossible = finding.code in _IMPOSSIBLE
        if finding.severity == "error" and (impossible or not force):
            raise UserError(
                f"the plan has an error: {finding.what}; {finding.why}",
                hint=finding.remedy if impossible else f"{finding.remedy}; --force runs it all the same",
            )
