"""Train a model further on rows of questions and answers, or on texts: an adapter beside it, or itself.

Only answers are learnt; of plain texts, every token. A GGUF base stays packed, and takes an adapter::

    congling sft base.gguf --data rows.jsonl --out runs/poet adapter.r=8
    congling sft runs/book --data rows.jsonl --data poems.txt --out runs/poet train.max_steps=300
    congling sft runs/book examples/lora.toml --data rows.jsonl --out runs/poet
    congling sft runs/book --data rows.jsonl --out runs/poet template=llama3 neftune_noise_alpha=5

The same command goes on after an interruption, and with ``--longer 300steps`` beyond its end.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import PositiveFloat

from congling.core.config import build
from congling.data.config import LossReduction
from congling.methods import tuning_recipe as recipes
from congling.methods.options import AsJson, Base, Force, Fresh, Longer, Out, Resume, Settings
from congling.methods.tuning_recipe import TuningConfig, TuningRecipe, require_sound_table
from congling.transform.config import LongLoRAConfig

if TYPE_CHECKING:
    from congling.core.console import Console
    from congling.data.tuning.examples import Example
    from congling.data.tuning.row_reader import SplitRows
    from congling.methods.session import MethodSpec, Session, Tuned
    from congling.plan.tuning_plan import TuningFacts


class SFTRecipe(TuningRecipe):
    """A tuning recipe with what only ``sft`` has."""

    template: str | None = None
    """Chat template to learn in place of the base's own: ``chatml``, ``llama2``, ``llama3``, ``qwen``,
    ``chatglm``, ``none``, or Jinja source."""
    neftune_noise_alpha: PositiveFloat | None = None
    """Noise on embeddings while training (NEFTune): its length for one example, 5 to 15 in the paper."""
    longlora: LongLoRAConfig | None = None
    """Attention in shifted groups while training."""
    loss_reduction: LossReduction = "token"
    """What weighs the same: each learnt token, or each ``answer``, however long."""


class SFTConfig(TuningConfig):
    """All that determines the run, besides the contents of base and data."""

    template: str | None = None
    neftune_noise_alpha: PositiveFloat | None = None
    longlora: LongLoRAConfig | None = None
    loss_reduction: LossReduction = "token"


def command(
    base: Base,
    settings: Settings = None,
    data: Annotated[list[str] | None, typer.Option(help="Rows (JSON, CSV …) or texts; repeatable.")] = None,
    out: Out = Path("sft"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on questions and answers."""
    from congling.core.console import Console
    from congling.methods.ending import show_end
    from congling.methods.fresh import begin_anew

    recipe = read_recipe(settings or [], data or [])
    begin_anew(out, base, *recipe.data.sources, fresh=fresh, resume=resume, longer=longer)
    tuned = run(base, recipe, out, console=Console(), must_resume=resume, longer=longer, force=force)
    show_end(tuned, unit="nats/token", as_json=as_json)


def read_recipe(settings: Sequence[str], data: Sequence[str]) -> SFTRecipe:
    """See :func:`congling.methods.tuning_recipe.read_recipe`.

    Raises:
        UserError: settings and data do not fit, or there is no data.
    """
    return recipes.read_recipe(SFTRecipe, settings, data)


def run(
    base: Path | str,
    recipe: SFTRecipe,
    out: Path | str,
    *,
    console: "Console | None" = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
) -> "Tuned":
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one.
        recipe: data, adapter, training.
        out: the run directory.
        console: where to show what is planned; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.
        force: train even though a check found an error.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.data.tuning import conversations
    from congling.methods.base_model import open_base
    from congling.methods.tuning import tune
    from congling.methods.tuning_facts import facts_of
    from congling.plan import tuning_plan
    from congling.plan.tuning_show import show

    require_sound_table(recipe)
    opened = open_base(base)
    if recipe.template is not None:
        opened = opened.under_template(recipe.template)
    examples = conversations.read(
        recipe.data, opened.tokenizer, tuning_plan.context_of(recipe.train, opened.model)
    )
    facts = facts_of(opened, examples.train, examples.validation, examples.findings, recipe.adapter)
    config = _filled_in(recipe, facts, examples)
    return tune(
        opened,
        config,
        facts,
        out,
        console=console,
        must_resume=must_resume,
        longer=longer,
        force=force,
        recipe=recipe,
        method="sft",
        noun="example",
        rows=(facts.examples, facts.held_out),
        work=lambda session: _work(session, config, examples),
        show=lambda session, findings, console: show(
            facts,
            examples,
            session.config.train,
            findings,
            adapter=config.adapter is not None,
            learnt=session.learnt,
            console=console,
        ),
    )


def _filled_in(recipe: SFTRecipe, facts: "TuningFacts", examples: "SplitRows[Example]") -> SFTConfig:
    """The configuration with everything decided."""
    from congling.data.tuning.examples import packed
    from congling.plan.tuning_plan import settings

    def steps_per_epoch(context: int, rows: int, accumulation: int) -> float:
        return len(packed([example.length for example in examples.train], context)) / (rows * accumulation)

    asked = dict(recipe.train)
    if recipe.loss_reduction == "answer" and examples.validation:
        asked = {"metric_for_best_model": "loss_per_answer"} | asked
    train = settings(
        asked,
        facts,
        adapter=recipe.adapter is not None,
        epochs=recipe.num_train_epochs,
        steps_per_epoch=steps_per_epoch,
    )
    own = {
        name: getattr(recipe, name)
        for name in ("template", "neftune_noise_alpha", "longlora", "loss_reduction")
    }
    decided = {"data": recipe.data, "adapter": recipe.adapter, "train": train, **own}
    return build(SFTConfig, decided, where="recipe")


def _batches(config: SFTConfig, examples: "SplitRows[Example]", pad: int) -> Any:
    from congling.data.tuning.examples import ExampleBatches

    train = config.train
    return ExampleBatches(
        examples.train,
        context=train.max_length,
        rows=train.per_device_train_batch_size,
        accumulation=train.gradient_accumulation_steps,
        seed=train.seed,
        pad=pad,
        reduction=config.loss_reduction,
    )


def _work(session: "Session", config: SFTConfig, examples: "SplitRows[Example]") -> "MethodSpec":
    from congling.data.tuning.examples import tokens_per_character
    from congling.evals.answers import answers, held_out_loss
    from congling.evals.periodic import continuations
    from congling.methods.session import MethodSpec, fingerprint
    from congling.train.objectives.next_token import next_token
    from congling.train.objectives.noisy import neftune
    from congling.train.runs.metrics import MetricScales
    from congling.transform.longlora import shift

    train, tokenizer = config.train, session.opened.tokenizer
    if config.longlora is not None:
        shift(session.model, config.longlora, train.max_length)
    objective = (
        next_token if config.neftune_noise_alpha is None else neftune(next_token, config.neftune_noise_alpha)
    )
    evaluate = sample = None
    if examples.validation:
        evaluate = held_out_loss(examples.validation, train, session.backend.to_device)
    if train.sample_prompts:
        sample = continuations(tokenizer, train)
    elif examples.questions:
        sample = answers(tokenizer, examples.questions, train)
    return MethodSpec(
        _batches(config, examples, tokenizer.pad_id),
        objective,
        fingerprint((*examples.train, *examples.validation)),
        evaluate=evaluate,
        sample=sample,
        chat=bool(examples.rows),
        yardsticks=MetricScales(  # a mean over answers is none over their characters
            tokens_per_character(examples.train) if config.loss_reduction == "token" else None
        ),
    )
