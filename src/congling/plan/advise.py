"""Choose everything a recipe leaves open, and say why: the model, the batch, the rates, the horizon.

The arithmetic behind it: time = tokens · FLOPs per token ÷ (utilisation · peak), less start-up, compiling,
held-out losses and samples. When the budget affords fewer than about four passes over the data, compute is
the limit and the model is sized for the compute; beyond, the data are, and regularisation is chosen for the
number of passes.
"""

from dataclasses import dataclass, replace

from congling.core.config import build
from congling.model.config import ModelConfig
from congling.model.rope_scaling import ClexScaling
from congling.plan import advice_numbers
from congling.plan.advise_batch import affordable_steps, batch_of, horizon, tokens_of, training_seconds
from congling.plan.advise_intervals import intervals
from congling.plan.advise_model import dropout_of, given_beside, given_of, model_of, sizes
from congling.plan.advise_optimizer import against_overfitting, optimizer_of, schedule_of
from congling.plan.choices import Choice, Choices
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.recipe import Recipe
from congling.quant.config import OneBitConfig
from congling.train.config import TrainConfig

LEAST_SECONDS = 0.01
"""What a plan is made for where nothing of the budget is left; it is then refused."""


@dataclass(frozen=True)
class Advice:
    """A complete configuration, with a reason for every choice."""

    model: ModelConfig
    train: TrainConfig
    choices: tuple[Choice, ...]
    budget: float
    """Wall-clock seconds the advice was made for."""

    def with_choice(self, choice: Choice) -> "Advice":
        """The same, and one choice more."""
        return replace(self, choices=(*self.choices, choice))


def advise(
    recipe: Recipe,
    corpus: CorpusFacts,
    machine: MachineFacts,
    *,
    seconds_per_step: float | None = None,
    start: ModelConfig | None = None,
    trained_length: int | None = None,
    spent: float = 0.0,
    squeeze: float = 1.0,
) -> Advice:
    """Complete a recipe for this corpus and machine.

    ``seconds_per_step`` is a time measured with the advised model and batch; the horizon then follows it.
    ``start`` is a model that is trained already and begun from; where its context was extended beyond
    ``trained_length``, rows are as long as it now reads. ``spent`` seconds of the budget are used up;
    ``squeeze`` is the share of the time for steps that they may really take.

    Raises:
        UserError: an unknown family or preset, or values that contradict each other or ``start``.
    """
    budget = max(LEAST_SECONDS, float(recipe.budget or advice_numbers.DEFAULT_BUDGET) - spent)
    model_choices = Choices(given_of(recipe) if start is None else given_beside(recipe))
    train_choices = Choices(dict(recipe.train))
    context, size = sizes(corpus, machine, budget)
    if start is None:
        model = model_of(recipe, model_choices, corpus, size, context, dropout=0.0)
        context = model.max_position_embeddings
    else:
        model, context = start, _context_of(start, trained_length, context, recipe)
    train = batch_of(train_choices, model, context, corpus, size, machine, budget, seconds_per_step)
    room = squeeze * training_seconds(budget, compiled=train["torch_compile"] == "on")
    steps = affordable_steps(model, train, machine, room, seconds_per_step)
    steps, why = horizon(steps, tokens_of(train), corpus, budget)
    train["max_steps"] = train_choices.pick("max_steps", steps, why)
    passes = train["max_steps"] * tokens_of(train) / max(1, corpus.tokens)
    rules = advice_numbers.regularisation_for(0 if corpus.tokens < advice_numbers.TINY_TOKENS else passes)
    model_choices.made.clear()
    if start is None:
        model = model_of(recipe, model_choices, corpus, size, context, dropout=rules.dropout, passes=passes)
    else:
        model = start.replace(dropout=dropout_of(model_choices, corpus, rules.dropout, passes))
    share = 1.0 if start is None else advice_numbers.START_SHARE
    if isinstance(recipe.quantization, OneBitConfig):
        share *= advice_numbers.ONEBIT_SHARE
    train["optimizer"] = optimizer_of(train_choices, model, train["max_steps"], rules, passes, share)
    train["schedule"] = schedule_of(train_choices, rules, train["max_steps"])
    train |= against_overfitting(train_choices, train["max_steps"], rules)
    train |= intervals(train_choices, recipe, train, corpus, budget)
    rest = {key: value for key, value in recipe.train.items() if key not in train}
    train_choices.take(rest)
    config = build(TrainConfig, train | rest, where="recipe", under="train")
    return Advice(model, config, tuple(model_choices.made + train_choices.made), budget)


def _context_of(start: ModelConfig, trained_length: int | None, context: int, recipe: Recipe) -> int:
    """Rows of a model that is trained already: as advised, or as long as an extended one is to learn to read,
    unless positions are drawn, so that short rows teach it."""
    longest = start.max_position_embeddings
    curve = start.positions.kind == "rope" and isinstance(start.positions.rope_scaling, ClexScaling)
    drawn = recipe.train.get("position_sampling", "randomized" if curve else "none") != "none"
    if trained_length is None or trained_length >= longest or drawn:
        return min(longest, context)
    return longest
