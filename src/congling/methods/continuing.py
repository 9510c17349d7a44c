"""Training a finished run longer: ``--longer`` gives it a later end, ``--fresh`` puts it aside."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from congling.core import pointers, terminal
from congling.core.artifact import write_text
from congling.core.config import Config, load
from congling.core.differences import require_same
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.core.units import amount, seconds, show_seconds
from congling.plan.planning import PLAN_FILE
from congling.report import record
from congling.report.old_keys import plan_of
from congling.train.config import TrainConfig
from congling.train.runs import longer, retention
from congling.train.runs.deadline import recorded
from congling.train.runs.longer import Longer
from congling.train.runs.settings import ADVICE, harmless, require_unedited
from congling.train.schedule import decay_start, warmup_steps

C = TypeVar("C", bound=Config)
KEPT_RESULTS = ("scores",)
"""Names in ``results.json`` that say themselves which step they are of; others are of the end of the run."""


class _Amount(NamedTuple):
    """By how much a run is to be longer: one of the two is given."""

    steps: int | None
    seconds: float | None


def continued(config: C, run: RunDirectory, asked: str | None = None) -> C:
    """The configuration with the end that the run has by now, which ``--longer`` moves.

    Asked for the same again while the run is on its way there, it goes on; asked for more when it is over, it
    becomes longer once more. The directory is ready for going on afterwards.

    Args:
        config: what determines the run, a table ``train`` included, as it was begun or as it is now.
        run: its directory, locked.
        asked: by how much it is to be longer, such as ``30m`` or ``2000steps``.

    Raises:
        UserError: there is no run to make longer, or it cannot be done exactly; or its settings were edited.
    """
    if not run.config.is_file():
        require_begun(run, longer=asked)
        return config
    retention.clear_leftovers(run)
    rows = longer.read(run)
    config = _with(config, rows)
    before = _with(load(type(config), run.config, recorded=True), rows)
    require_unedited(run, before, rows)
    require_same(before, config, where=run.path, harmless=harmless(before, config), advice=ADVICE)
    if asked is not None and not (rows and not rows[-1].done and rows[-1].asked == asked):
        end = _end(config, run)
        rows = [*rows, _next(_train(config), end, run, asked)]
        longer.write(run, rows)
        _say(run, rows[-1], end.steps)
        config = _with(config, rows)
    if rows and not rows[-1].applied:
        _forget_results(run)
        _plan_again(run, rows[-1])
        longer.apply(run, rows)
    if rows:
        now = _with(before, rows).to_toml()
        if now != run.config.read_text(encoding="utf-8"):
            write_text(run.config, now)
    return config


def require_begun(run: RunDirectory, *, must_resume: bool = False, longer: str | None = None) -> None:
    """Where no run was begun, refuse to go on with it: before anything is planned.

    Raises:
        UserError: there is no run, and one is to be gone on with.
    """
    if run.config.is_file() or not (must_resume or longer is not None):
        return
    wish = "resume" if must_resume else "make longer"
    option = "--resume" if must_resume else "--longer"
    hint = f"leave out {option} to start one"
    raise UserError(f"there is no run to {wish}", value=str(run.path), hint=hint)


def _train(config: Any) -> TrainConfig:
    return config.train


def _with(config: C, rows: list[Longer]) -> C:
    """The configuration as it is by now; a longer run ends at a step, and no longer by the clock."""
    if not rows:
        return config
    clock = {"deadline": None} if _timed(config) else {}
    return config.replace(train=longer.lengthened(_train(config).model_dump(), rows), **clock)


def _timed(config: Config) -> bool:
    return getattr(config, "deadline", None) is not None


class _End(NamedTuple):
    """Where a run ends so far."""

    steps: int
    begins: int | None
    """The step after which the rate falls; None where no step is free of the end."""


def _end(config: Config, run: RunDirectory) -> _End:
    """The end by the settings, or as it was decided by the clock."""
    train = _train(config)
    start = decay_start(train.schedule, train.max_steps)
    turns = recorded(run.path) if _timed(config) else []
    if not _timed(config) or start is None:
        return _End(turns[-1].steps if turns else train.max_steps, start)
    if turns:
        return _End(turns[-1].steps, turns[0].step)
    newest = next((longer.step_of(path) for path in run.checkpoints()), 0)
    return _End(max(newest, train.max_steps), newest)  # nothing is decided yet: all was at the full rate


def _next(train: TrainConfig, end: _End, run: RunDirectory, asked: str) -> Longer:
    """What making the run longer by so much means.

    Raises:
        UserError: it cannot be done exactly, or ``asked`` is no amount.
    """
    more = _amount(asked)
    begins = _beginning(train, end, run)
    if more.steps is not None:
        steps = end.steps + more.steps
    else:
        steps = end.steps + max(1, round((more.seconds or 0.0) / _pace(run)))
    while (decay_start(train.schedule, steps) or 0) < begins:
        steps += 1  # a fall that the clock shortened began later than one of this length
    warmup = warmup_steps(train.schedule, train.max_steps)
    same = warmup_steps(train.schedule, steps) == warmup
    handed_on = pointers.handed_on(run.path)
    newest = run.checkpoints()[0]
    over = longer.step_of(newest) == end.steps
    keeps = over and handed_on is not None and longer.step_of(handed_on) > begins
    return Longer(
        asked=asked,
        begins=begins,
        before=train.max_steps,
        steps=steps,
        warmup_steps=None if same else warmup,
        kept=handed_on.name if keeps and handed_on is not None else None,
    )


def _amount(asked: str) -> _Amount:
    text = asked.strip().lower()
    counted = re.fullmatch(r"(.+?)\s*steps?", text)
    try:
        found = _Amount(amount(counted[1]), None) if counted else _Amount(None, seconds(text))
        if not (found.steps or found.seconds):
            raise ValueError("more than nothing is needed")
    except ValueError as error:
        raise UserError(
            f"--longer says by how much: {error}",
            value=asked,
            hint="a time such as 30m or 2h, or steps such as 2000steps",
        ) from None
    return found


def _beginning(train: TrainConfig, end: _End, run: RunDirectory) -> int:
    """The step that a longer run goes on from.

    Raises:
        UserError: there is none whose state is that of a longer run.
    """
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise UserError(
            "this run has no checkpoint yet",
            value=str(run.path),
            hint="run the command without --longer, or begin anew with --fresh and another budget",
        )
    newest = longer.step_of(checkpoints[0])
    if train.early_stopping_patience is not None and newest < end.steps and _ended(run):
        raise UserError(
            "this run ended early by itself: no held-out number became better",
            where="train.early_stopping_patience",
            value=train.early_stopping_patience,
            hint="let it wait longer: the same command with a larger train.early_stopping_patience",
        )
    anew = (
        "begin anew with --fresh and the whole budget; or train its weights further with a new warm-up and "
        f"decay, as `congling pretrain … --from {run.path}` and `congling sft {run.path} …` do, which is not "
        "what one longer run would have given"
    )
    start = end.begins
    if start is None:
        raise UserError(
            "the rate of this run depends on its end from the first step on",
            where="train.schedule.kind",
            value=train.schedule.kind,
            hint=anew,
        )
    found = longer.source(run, start)
    if found is None:
        raise UserError(
            f"the checkpoint of step {start:,}, after which the rate fell, is not there: it was removed, or "
            "an older congling did not keep it",
            value=str(run.path),
            hint=anew,
        )
    return longer.step_of(found)


def _ended(run: RunDirectory) -> bool:
    return run.last_turn() == "finished"


def _pace(run: RunDirectory) -> float:
    """Seconds of a step of this run, all that interrupts the steps included.

    Raises:
        UserError: it is not known.
    """
    at = record.read(run.path).seconds_at()
    last = max(at, default=0)
    if last < 2 or at[last] <= 0:
        raise UserError(
            "how long a step of this run takes is not known",
            value=str(run.path),
            hint="say by how many steps, such as --longer 2000steps",
        )
    return at[last] / last


def _say(run: RunDirectory, row: Longer, before: int) -> None:
    """What will happen, on standard error, as all that is said while a run goes on."""
    lines = [
        f"longer: goes on from step {row.begins:,}, where the rate had not begun to fall, "
        f"to step {row.steps:,} instead of {before:,}"
    ]
    with contextlib.suppress(UserError):
        lines[0] += f"; about {show_seconds((row.steps - row.begins) * _pace(run))}"
    if row.kept is not None:
        lines.append(f"  the model of the first end stays in {run.path / longer.ENDINGS / row.kept}")
    terminal.say("\n".join(lines))


def _forget_results(run: RunDirectory) -> None:
    """Leave nothing in ``results.json`` that was measured at the first end and does not say so."""
    file = run.path / record.RESULTS_FILE
    found = _json(file)
    if found.keys() - set(KEPT_RESULTS):
        kept = {name: found[name] for name in KEPT_RESULTS if name in found}
        write_text(file, json.dumps(kept, ensure_ascii=False, indent=1) + "\n")


def _plan_again(run: RunDirectory, row: Longer) -> None:
    """Let ``plan.json``, where there is one, say the steps of the longer run, and what they cost."""
    file = run.path / PLAN_FILE
    plan = plan_of(_json(file))
    train, cost = plan.get("train"), plan.get("cost")
    if not isinstance(train, dict) or train.get("max_steps") != row.before:
        return
    train["max_steps"], factor = row.steps, row.steps / row.before
    if isinstance(cost, dict):
        time = cost.get("time")
        time = time if isinstance(time, dict) else {}
        more = {name: time[name] * factor for name in time if name not in ("start", "compile")}
        cost["time"] = time | more
        cost["seconds"] = sum(cost["time"].values())
        for name in ("tokens", "passes", "flops"):
            if isinstance(cost.get(name), (int, float)):
                cost[name] = type(cost[name])(cost[name] * factor)
    why = f"--longer {row.asked}: from step {row.begins:,} on, after {row.before:,} steps before"
    for choice in plan.get("choices", []):
        if isinstance(choice, dict) and choice.get("key") == "max_steps":
            choice |= {"value": str(row.steps), "why": why}
    write_text(file, json.dumps(plan, ensure_ascii=False, indent=1) + "\n")


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
