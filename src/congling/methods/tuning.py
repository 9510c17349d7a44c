"""The steps that all fine-tuning methods share, from a configuration to a finished run.

::

    begin ─ the method's rows and settings ─ tune: lock ─ checks ─ session ─ show ─ train ─ report
"""

import contextlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from congling.core import machine
from congling.core.config import build
from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.interrupt import stopping_said
from congling.core.lock import only_writer
from congling.core.rundir import RunDirectory
from congling.data.problems import ReadingLog
from congling.data.tuning.examples import Example, targets_of
from congling.methods.base_model import OpenedBase, open_base
from congling.methods.continuing import continued, require_begun
from congling.methods.fresh import begin_anew
from congling.methods.recipes import TuningConfig, TuningRecipe
from congling.methods.session import MethodSpec, Session, Tuned
from congling.model.counts import parameters
from congling.plan import tuning_plan
from congling.plan.planning import PLAN_FILE, require_sound
from congling.plan.text_lengths import TextLengths
from congling.plan.tuning_plan import TuningFacts
from congling.plan.tuning_record import TuningPlan
from congling.report import pages, record
from congling.report.advice import keys
from congling.train.backends import ddp
from congling.train.config import checked_train
from congling.train.runs.longer import finish
from congling.transform.config import AdapterConfig

C = TypeVar("C", bound=TuningConfig)
Show = Callable[[Session, Sequence[Diagnosis], Console], None]
"""Says what will be done, and what was found."""


class RunOptions(TypedDict, total=False):
    """How a run is begun or gone on with; all may be left out."""

    console: Console | None
    """Where to show what is planned; left out, nowhere."""
    must_resume: bool
    """Fail where there is nothing to go on from."""
    longer: str | None
    """By how much the run that is there is to end later, such as ``30m`` or ``2000steps``."""
    fresh: bool
    """Put an earlier run aside and begin anew."""
    force: bool
    """Train even though a check found an error."""


def require_sound_table(recipe: TuningRecipe) -> None:
    """Name mistakes in ``[train]`` before anything follows from it; steps and context may be left open.

    Raises:
        UserError: the table has a mistake.
    """
    checked_train(recipe.train, tuning_plan.KINDS)


@dataclass(frozen=True)
class Prepared:
    """A tuning run with everything decided."""

    method: str
    """The command."""
    noun: str
    """What a row is called, in the singular."""
    opened: OpenedBase
    recipe: TuningRecipe
    """What of all this was asked for."""
    config: TuningConfig
    facts: TuningFacts
    rows: tuple[int, int]
    """How many to learn from, and held out."""
    ignored_codes: Collection[str] = ()
    """Of findings that say nothing about this method."""

    def plan(self, session: Session, findings: list[Diagnosis]) -> TuningPlan:
        """What the run keeps of how it came about."""
        return TuningPlan(
            self.method,
            self.opened.described(),
            self.facts,
            self.noun,
            self.rows,
            session.config.train,
            keys(self.recipe.model_dump(exclude_unset=True)),
            findings,
            parameters(self.opened.model),
            session.learnt,
        )


def begin(base: Path | str, recipe: TuningRecipe, out: Path | str, options: RunOptions) -> OpenedBase:
    """Open the base; an earlier run is put aside before, where the run is to begin anew.

    Raises:
        UserError: ``[train]`` has a mistake, the base cannot be used, or the run cannot be put aside.
    """
    begin_anew(
        Path(out),
        base,
        *recipe.data.sources,
        fresh=options.get("fresh", False),
        resume=options.get("must_resume", False),
        longer=options.get("longer"),
    )
    require_sound_table(recipe)
    return open_base(base)


def facts_of(
    opened: OpenedBase,
    train: Sequence[Example],
    held_out: Sequence[Example],
    findings: ReadingLog,
    adapter: AdapterConfig | None = None,
) -> TuningFacts:
    """Count what is learnt from and what is held out; of a pair both answers count.

    Args:
        opened: the base.
        train: at least one example.
        held_out: perhaps none.
        findings: of reading the rows.
        adapter: what is trained beside the base, if not the base itself.
    """
    inputs = [example.length for example in train]
    return TuningFacts(
        model=opened.model,
        base_bytes=opened.size,
        packed=opened.packed,
        examples=len(train),
        inputs=sum(inputs),
        targets=targets_of(train),
        longest=max(inputs),
        held_out=len(held_out),
        faults=findings.counts,
        held_out_inputs=sum(example.length for example in held_out),
        held_out_targets=targets_of(held_out),
        strange_marks=adapter is not None and _strange_marks(opened, train[0], adapter),
        trained_length=opened.trained_length,
        lengths=TextLengths.of(inputs),
    )


def _strange_marks(opened: OpenedBase, example: Example, adapter: AdapterConfig) -> bool:
    """Whether rows hold special tokens that the base has not been tuned on, and the adapter cannot teach."""
    tables = ("embedding",) if opened.model.tie_word_embeddings else ("embedding", "head")
    if opened.chat or all(adapter.chooses(table) for table in tables):
        return False
    tokenizer = opened.tokenizer
    known = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, *tokenizer.prefix_ids}
    return not {*example.input_ids.tolist()}.isdisjoint({*tokenizer.special.values()} - known)


def decided(
    kind: type[C],
    recipe: TuningRecipe,
    facts: TuningFacts,
    train: dict[str, Any],
    steps_per_epoch: Callable[[int, int, int], float],
    *,
    lr_scale: float = 1.0,
    whole_rows: bool = True,
) -> C:
    """The configuration with everything decided.

    Args:
        kind: of the configuration; its tables besides ``[train]`` are those of the recipe.
        recipe: what is asked for.
        facts: base and data.
        train: the recipe's ``[train]`` with what the method itself fills in.
        steps_per_epoch: (context, rows, accumulation) to steps.
        lr_scale: share of the learning rate of plain tuning.
        whole_rows: held-out rows are scored whole, not up to a number of tokens.
    """
    settings = tuning_plan.settings(
        train,
        facts,
        adapter=recipe.adapter is not None,
        epochs=recipe.num_train_epochs,
        lr_scale=lr_scale,
        steps_per_epoch=steps_per_epoch,
    )
    if whole_rows:
        settings.pop("eval_tokens", None)
    tables = {name: getattr(recipe, name) for name in kind.model_fields if name != "train"}
    return build(kind, {**tables, "train": settings}, where="recipe")


def tune(
    prepared: Prepared,
    out: Path | str,
    *,
    spec: Callable[[Session], MethodSpec],
    show: Show,
    options: RunOptions,
) -> Tuned:
    """Check, show, train and report; the first process alone shows and reports.

    Args:
        prepared: base, rows and settings.
        out: the run directory.
        spec: what the method trains on, once its model is there.
        show: called before that.
        options: how it is begun or gone on with.

    Raises:
        UserError: a check found an error, ``out`` holds another run or another process works in it, or the
            run cannot be made longer.
        Interrupted: Ctrl-C; the state is saved.
    """
    console, must_resume = options.get("console"), options.get("must_resume", False)
    config, run = prepared.config, RunDirectory(Path(out))
    first = ddp.join(config.train.device, config.train.ddp_timeout)
    kept = stopping_said("the run was prepared or trained", f"what is finished in {out} is kept")
    with kept, ddp.together(), only_writer(run.path, once=True) if first else contextlib.nullcontext():
        config = _as_begun(config, run, longer=options.get("longer"), must_resume=must_resume, first=first)
        found = tuning_plan.check(
            prepared.facts,
            config.train,
            adapter=config.adapter is not None,
            groups=None if (shifted := getattr(config, "longlora", None)) is None else shifted.groups,
            rows_given="max_length" in prepared.recipe.train,
        )
        findings = [finding for finding in found if finding.code not in prepared.ignored_codes]
        require_sound(findings, force=options.get("force", False))
        with Session(prepared.opened, config) as session:
            if console is not None and session.backend.rank == 0:
                show(session, findings, console)
            files = {PLAN_FILE: prepared.plan(session, findings).to_text()}
            tuned = session.train(spec(session), run.path, must_resume=must_resume, files=files)
        finish(run)
        if not first:
            return tuned
        return replace(tuned, report=pages.write(record.read(run.path), run.path / "report"))


def _as_begun(
    config: TuningConfig, run: RunDirectory, *, longer: str | None, must_resume: bool, first: bool
) -> TuningConfig:
    """The configuration with the end that the run has by now, in every process; the first finds it out."""
    if first:
        require_begun(run, must_resume=must_resume, longer=longer)
        config = continued(config, run, longer)
    if machine.processes() == 1:
        return config
    return build(
        type(config), json.loads(ddp.broadcast_text(config.model_dump_json())), where="the first process"
    )
