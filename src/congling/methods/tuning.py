"""From a decided configuration to a finished run: what every tuning verb does in the same order.

::

    checks ─ stop at an error ─ session ─ say what will be done ─ the method's work ─ train
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from rich.console import Console

from congling.methods.recipe import TuningConfig
from congling.methods.session import Session, Tuned, Work
from congling.plan import tuning
from congling.plan.findings import Finding
from congling.plan.planning import require_sound
from congling.plan.tuning import TuningFacts
from congling.train.bases import OpenedBase

Show = Callable[[Session, Sequence[Finding], Console], None]
"""Says what will be done, and what was found."""


def tune(
    opened: OpenedBase, config: TuningConfig, facts: TuningFacts, out: Path | str, *,
    work: Callable[[Session], Work], show: Show, console: Console | None, must_resume: bool, force: bool,
    beside_the_point: Collection[str] = (),
) -> Tuned:  # fmt: skip
    """Check, show and train; the first process alone shows.

    Args:
        opened: the base.
        config: everything decided.
        facts: base and data.
        out: the run directory.
        work: what the method does, once its model is there.
        show: called before that.
        console: where to show; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        force: train even though a check found an error.
        beside_the_point: codes of findings that say nothing about this method.

    Raises:
        UserError: a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    found = tuning.check(facts, config.train, adapter=config.adapter is not None)
    findings = [finding for finding in found if finding.code not in beside_the_point]
    if not force:
        require_sound(findings)
    with Session(opened, config) as session:
        if console is not None and session.backend.rank == 0:
            show(session, findings, console)
        return session.train(work(session), out, must_resume=must_resume)
