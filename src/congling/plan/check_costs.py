"""Whether time, memory and disk are enough for a plan, and whether the machine is used as it likes."""

import math
from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.core.units import show_bytes, show_count, show_rate, show_seconds
from congling.plan.situation import BATCH, Situation

OVER = 1.1
"""How far a plan may be above its budget: the estimate is no better than that."""
LEAST_SHARE = 0.5
"""Share of a budget that steps which were asked for may take, also where preparing the text used up more
than the rest."""


def time(s: Situation) -> Iterator[Diagnosis]:
    """Nobody means three hundred hours; and what does not fit is not begun."""
    left = None if s.budget is None else max(s.budget - s.spent, 0.0)
    if s.budget is not None and left is not None and _too_long(s, s.budget, left):
        yield Diagnosis("error", "over-budget", *_over(s, left))
    if s.cost.seconds > 86400 and (left is None or s.cost.seconds > 1.5 * left):
        epoch = s.cost.seconds / max(s.cost.passes, 1e-9)
        yield Diagnosis(
            "error" if s.cost.seconds > 360_000 else "warning",
            "very-long",
            f"takes about {show_seconds(s.cost.seconds)} ({show_seconds(epoch)} a pass over the text)",
            f"{show_count(s.cost.tokens)} tokens at "
            + show_rate(s.cost.tokens_per_step / s.cost.seconds_per_step, "tokens"),
            _fewer(s) + "; or say --budget, or take a faster machine",
        )


def _too_long(s: Situation, budget: float, left: float) -> bool:
    """Whether the plan cannot be carried out in time.

    Steps that were asked for count alone: what stands around them cannot be chosen, and they end with the
    clock. Where the plan chose as few steps as there can be, everything counts.
    """
    if s.gives("train.max_steps"):
        return s.cost.seconds - s.cost.fixed_seconds > OVER * max(left, LEAST_SHARE * budget)
    return s.cost.seconds > OVER * left


def _over(s: Situation, left: float) -> tuple[str, str, str]:
    """What is too long, why, and what to do."""
    of = f" of {show_seconds(s.budget or 0)}" if s.spent > 1 else ""
    what = f"takes about {show_seconds(s.cost.seconds)}; the budget leaves {show_seconds(left)}{of}"
    longer = f"give a budget of {show_seconds(math.ceil(s.cost.seconds + s.spent))} or more"
    if s.gives("train.max_steps"):
        fits = (left - s.cost.fixed_seconds) / (s.cost.seconds - s.cost.fixed_seconds) * s.train.max_steps
        fewer = (
            f"train.max_steps={int(fits)} at most, or none"
            if fits >= 1
            else "leave train.max_steps to the plan"
        )
        return what, "the recipe fixes more work than fits", f"{fewer}; or {longer}"
    if s.spent > left:
        return what, "preparing the text took the rest", f"run it again (what is prepared stays), or {longer}"
    if s.sized or s.gives(*BATCH):
        return what, "the recipe fixes more work than fits", f"{_fewer(s)}; or {longer}"
    why = f"the start, {s.train.max_steps} steps of the smallest model and the report take longer"
    return what, why, longer


def _fewer(s: Situation) -> str:
    """How to make the work less, by what the recipe gives."""
    ways = []
    if s.sized:
        ways.append("use a smaller model")
    if s.gives("train.max_steps"):
        ways.append("fewer steps")
    if s.gives(*BATCH):
        ways.append("fewer tokens a step (" + ", ".join(key for key in BATCH if s.gives(key)) + ")")
    return ", or ".join(ways) or "take less text"


def memory(s: Situation) -> Iterator[Diagnosis]:
    """What does not fit is killed, usually at the worst moment."""
    need, have = s.cost.peak_memory, s.machine.memory
    if need > 0.9 * have:
        largest = max(s.cost.memory, key=lambda part: s.cost.memory[part])
        ways = []
        if largest == "activations" and s.train.per_device_train_batch_size > 1:
            ways.append(
                "halve train.per_device_train_batch_size and double train.gradient_accumulation_steps "
                "(the same step)"
            )
        if largest == "activations" and not s.train.gradient_checkpointing:
            ways.append("set train.gradient_checkpointing = true")
        if s.sized:
            ways.append("use a smaller model or vocabulary")
        remedy = ", or ".join(ways) or "close other programs, or take a machine with more memory"
        yield Diagnosis(
            "error" if need > have else "warning",
            "memory",
            f"needs about {show_bytes(need)} of {show_bytes(have)}",
            f"{show_bytes(s.cost.memory[largest])} of it for {largest}",
            remedy,
        )


def disk(s: Situation) -> Iterator[Diagnosis]:
    """A full disk loses the checkpoint it was about to write."""
    if s.cost.disk_bytes > 0.9 * s.machine.free_disk:
        severity = "error" if s.cost.disk_bytes > s.machine.free_disk else "warning"
        yield Diagnosis(
            severity,
            "disk",
            f"writes about {show_bytes(s.cost.disk_bytes)}; {show_bytes(s.machine.free_disk)} are free",
            f"checkpoints of {show_bytes(s.cost.disk['checkpoints'])} in all",
            "free some space, or lower train.save_total_limit"
            if s.train.save_total_limit > 1
            else "free some space",
        )


def precision(s: Situation) -> Iterator[Diagnosis]:
    """Half precision is slower where the processor emulates it."""
    if s.train.precision == "bf16" and s.machine.precision != "bf16" and s.machine.accelerator is None:
        yield Diagnosis(
            "warning",
            "bf16-on-cpu",
            "bf16 on a processor",
            "most processors emulate it: about four times slower than fp32",
            "set train.precision to fp32, or leave it out",
        )
