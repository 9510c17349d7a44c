"""What a budget makes of a plan: when training has to be over, and what has to fit behind it."""

from congling.plan import advice_numbers
from congling.plan.advise_batch import most_steps
from congling.plan.cost import looked_at, scored_at_the_end
from congling.plan.planning import Plan
from congling.plan.recipe import Recipe
from congling.train.runs.deadline import DeadlineConfig

LEAST_SCORED = 4000
"""Tokens of a final score: fewer say little."""


def deadline_of(plan: Plan, recipe: Recipe, *, reported: bool) -> DeadlineConfig | None:
    """When the run has to be over; ``None`` without a budget, or for a plan that is forced beyond it.

    ``reported``: a score, texts and a report follow, as in ``congling train``.
    """
    if recipe.budget is None or any(finding.code == "over-budget" for finding in plan.findings):
        return None
    cost, train, corpus = plan.cost, plan.train, plan.corpus
    evaluation, sampling, saving = (cost.each[name] for name in ("held-out loss", "samples", "checkpoints"))
    look = looked_at(train, corpus)
    scored = _scored(plan, recipe.budget)
    most = train.max_steps
    if "max_steps" not in recipe.train:
        most = max(most, most_steps(train.tokens_per_step, corpus))
    return DeadlineConfig(
        seconds=recipe.budget,
        most_steps=most,
        step=cost.seconds_per_step,
        evaluation=evaluation,
        sampling=sampling,
        saving=saving,
        evaluations_after=advice_numbers.SCORE_OVERLAP * scored / look if look and reported else 0,
        samplings_after=advice_numbers.WRITTEN_AT_THE_END / train.sample_tokens if reported else 0,
        after=advice_numbers.REPORT_SECONDS if reported else 0.5,
        scored_tokens=scored if scored < scored_at_the_end(corpus) else None,
    )


def _scored(plan: Plan, budget: float) -> int:
    """Tokens of the final score: all, or as many as its share of the budget allows."""
    every = scored_at_the_end(plan.corpus)
    reading = advice_numbers.SCORE_OVERLAP * plan.cost.seconds_per_step / plan.cost.tokens_per_step / 3
    return min(every, max(LEAST_SCORED, int(advice_numbers.SCORE_SHARE * budget / reading)))
