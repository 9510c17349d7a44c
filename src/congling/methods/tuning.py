"""From a decided configuration to a finished run: what every tuning verb does in the same order.

::

    lock ─ checks ─ stop at an error ─ session ─ say what will be done ─ the method's work ─ train ─ report
"""

import contextlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from congling.core import machine
from congling.core.config import build
from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.interrupt import stopping_said
from congling.core.lock import only_writer
from congling.core.rundir import RunDirectory
from congling.methods.base_model import OpenedBase
from congling.methods.continuing import continued, require_begun
from congling.methods.session import MethodSpec, Session, Tuned
from congling.methods.tuning_recipe import TuningConfig, TuningRecipe
from congling.model.config import parameters
from congling.plan import tuning_plan
from congling.plan.planning import PLAN_FILE, require_sound
from congling.plan.tuning_plan import TuningFacts
from congling.plan.tuning_record import TuningPlan
from congling.report import pages, record
from congling.report.advice import keys
from congling.train.backends import ddp
from congling.train.runs.longer import finish

Show = Callable[[Session, Sequence[Diagnosis], Console], None]
"""Says what will be done, and what was found."""


def tune(
    opened: OpenedBase,
    config: TuningConfig,
    facts: TuningFacts,
    out: Path | str,
    *,
    recipe: TuningRecipe,
    method: str,
    noun: str,
    rows: tuple[int, int],
    work: Callable[[Session], MethodSpec],
    show: Show,
    console: Console | None,
    must_resume: bool,
    force: bool,
    longer: str | None = None,
    beside_the_point: Collection[str] = (),
) -> Tuned:
    """Check, show, train and report; the first process alone shows and reports.

    Args:
        opened: the base.
        config: everything decided.
        facts: base and data.
        out: the run directory.
        recipe: what of all this was asked for.
        method: the command.
        noun: what a row is called, in the singular.
        rows: how many to learn from, and held out.
        work: what the method does, once its model is there.
        show: called before that.
        console: where to show; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        force: train even though a check found an error.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.
        beside_the_point: codes of findings that say nothing about this method.

    Raises:
        UserError: a check found an error, ``out`` holds another run or another process works in it, or the
            run cannot be made longer.
        Interrupted: Ctrl-C; the state is saved.
    """
    first, run = ddp.join(config.train.device, config.train.ddp_timeout), RunDirectory(Path(out))
    kept = stopping_said("the run was prepared or trained", f"what is finished in {out} is kept")
    with kept, ddp.together(), only_writer(run.path, once=True) if first else contextlib.nullcontext():
        config = _as_begun(config, run, longer=longer, must_resume=must_resume, first=first)
        found = tuning_plan.check(facts, config.train, adapter=config.adapter is not None)
        findings = [finding for finding in found if finding.code not in beside_the_point]
        if not force:
            require_sound(findings)
        with Session(opened, config) as session:
            if console is not None and session.backend.rank == 0:
                show(session, findings, console)
            asked = keys(recipe.model_dump(exclude_unset=True))
            plan = TuningPlan(
                method,
                str(opened.path),
                facts,
                noun,
                rows,
                config.train,
                asked,
                findings,
                parameters(opened.model),
                session.learnt,
            )
            files = {PLAN_FILE: plan.to_text()}
            tuned = session.train(work(session), out, must_resume=must_resume, files=files)
        finish(run)
        return (
            replace(tuned, report=pages.write(record.read(run.path), run.path / "report")) if first else tuned
        )


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
