"""What a budget makes of a plan: when training has to be over."""

from congling.core.config import build
from congling.plan.deadline import deadline_of
from congling.plan.recipe import Recipe
from support.situations import HLM, SLQM, plan


def recipe(**train):
    return build(Recipe, {"data": {"sources": ["book.txt"]}, "budget": "3m", "train": train})


def test_a_deadline_knows_what_the_plan_knows():
    found = plan(HLM, "3m")
    made = deadline_of(found, recipe(), reported=True)
    assert made is not None and made.seconds == 180
    assert made.step == found.cost.seconds_per_step
    assert made.most_steps > found.train.max_steps  # more would still teach something
    assert made.evaluations_after > 1 and made.after > 1
    alone = deadline_of(found, recipe(), reported=False)
    assert alone is not None and alone.evaluations_after == alone.samplings_after == 0


def test_steps_that_are_asked_for_are_the_most():
    found = plan(HLM, "3m", train__max_steps=50)
    made = deadline_of(found, recipe(max_steps=50), reported=True)
    assert made is not None and made.most_steps == 50


def test_a_text_that_bears_no_more_ends_the_run():
    found = plan(SLQM, "3h")
    made = deadline_of(found, recipe(), reported=True)
    assert made is not None and made.most_steps == found.train.max_steps


def test_without_a_budget_or_forced_beyond_it_there_is_no_deadline():
    nothing = build(Recipe, {"data": {"sources": ["book.txt"]}})
    assert deadline_of(plan(HLM, None), nothing, reported=True) is None
    assert deadline_of(plan(HLM, "1s"), recipe(), reported=True) is None
