"""Supervised fine-tuning: rows of questions and answers, or texts; a LoRA adapter, or all weights.

::

    rows ─ conversations.read ─ examples, cut to the context ─ packed into rows ─ next-token loss of answers

Only answers are learnt; of plain texts, every token. A GGUF base stays packed, and takes an adapter.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.data.tuning import conversations
from congling.data.tuning.examples import Example, ExampleBatches, packed, tokens_per_character
from congling.data.tuning.row_reader import SplitRows
from congling.evals.answers import answers, held_out_loss
from congling.evals.periodic import continuations
from congling.infer.reading import extension_after
from congling.methods import recipes, tuning
from congling.methods.recipes import SFTConfig, SFTRecipe
from congling.methods.session import MethodSpec, Session, Tuned, fingerprint
from congling.methods.tuning import Prepared, RunOptions, begin, facts_of, tune
from congling.plan.tuning_plan import TuningFacts, context_of
from congling.plan.tuning_show import show
from congling.train.objectives.next_token import next_token
from congling.train.objectives.noisy import neftune
from congling.train.positions import longest_of, sampling_of
from congling.train.runs.metrics import MetricScales
from congling.transform.longlora import shift

read_recipe = partial(recipes.read_recipe, SFTRecipe)
"""Settings and data files to a recipe; see :func:`congling.methods.recipes.read_recipe`."""


def run(base: Path | str, recipe: SFTRecipe, out: Path | str, **options: Unpack[RunOptions]) -> Tuned:
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one.
        recipe: data, adapter, training.
        out: the run directory.
        options: how it is begun or gone on with.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    opened = begin(base, recipe, out, options)
    if recipe.template is not None:
        opened = opened.under_template(recipe.template)
    examples = conversations.read(
        recipe.data, opened.tokenizer, context_of(recipe.train, opened.model, opened.trained_length)
    )
    facts = facts_of(opened, examples.train, examples.validation, examples.findings, recipe.adapter)
    config = _decided(recipe, facts, examples)

    def show_plan(session: Session, findings: Sequence[Diagnosis], console: Console) -> None:
        train, adapter = session.config.train, config.adapter is not None
        show(facts, examples, train, findings, adapter=adapter, learnt=session.learnt, console=console)

    counts = (facts.examples, facts.held_out)
    prepared = Prepared("sft", "example", opened, recipe, config, facts, counts)
    return tune(
        prepared, out, spec=lambda session: _spec(session, config, examples), show=show_plan, options=options
    )


def _decided(recipe: SFTRecipe, facts: TuningFacts, examples: SplitRows[Example]) -> SFTConfig:
    """The configuration with everything decided."""
    lengths = [example.length for example in examples.train]

    def steps_per_epoch(context: int, rows: int, accumulation: int) -> float:
        return len(packed(lengths, context)) / (rows * accumulation)

    train = dict(recipe.train)
    if recipe.loss_reduction == "answer" and examples.validation:
        train.setdefault("metric_for_best_model", "loss_per_answer")
    return tuning.decided(SFTConfig, recipe, facts, train, steps_per_epoch, whole_rows=False)


def _spec(session: Session, config: SFTConfig, examples: SplitRows[Example]) -> MethodSpec:
    """Packed examples, the next token's loss, and the loss of held-out answers."""
    train, tokenizer = config.train, session.opened.tokenizer
    if config.longlora is not None:
        shift(session.model, config.longlora, train.max_length)
    noise = config.neftune_noise_alpha
    evaluate = sample = None
    if examples.validation:
        evaluate = held_out_loss(examples.validation, train, session.backend)
    if train.sample_prompts:
        sample = continuations(tokenizer, train)
    elif examples.questions:
        sample = answers(tokenizer, examples.questions, train)
    by_token = config.loss_reduction == "token"  # a mean over answers is none over their characters
    return MethodSpec(
        ExampleBatches(
            examples.train,
            **session.batching,
            reduction=config.loss_reduction,
            sampling=sampling_of(train, session.opened.model),
        ),
        next_token if noise is None else neftune(next_token, noise),
        fingerprint((*examples.train, *examples.validation)),
        evaluate=evaluate,
        sample=sample,
        chat=bool(examples.rows),
        scales=MetricScales(tokens_per_character(examples.train) if by_token else None),
        facts=extension_after(session.opened.artifact.facts, longest_of(train, session.opened.model)),
    )
