"""What may change between stop and resume, and what must not: a run goes on as it was begun; no torch.

Every checkpoint holds the settings it was trained with. ``config.toml`` is for people to read: a run does not
go on where it says something else.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from congling.core import artifact
from congling.core.config import Config, upgraded
from congling.core.differences import Difference, differences, differing, listed
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.train.runs.longer import Longer, lengthened
from congling.train.runs.retention import state_of

HARMLESS = frozenset(
    f"train.{key}"
    for key in (
        "save_steps",
        "save_total_limit",
        "wait_for_space",
        "logging_steps",
        "max_skipped",
        "device",
        "eval_steps",
        "early_stopping_patience",
        "sample_steps",
        "sample_prompts",
        "sample_tokens",
        "on_spike",
        "max_rollbacks",
        "auto_find_batch_size",
        "ddp_timeout",
    )
)
"""Keys that do not touch the weights: the same command may give them other values when it goes on."""
CUT = frozenset(("train.per_device_train_batch_size", "train.gradient_accumulation_steps"))
"""Keys that cut a step into micro-batches: where memory is short they may change together, as long as a step
learns from as many rows. From there on its sums are rounded otherwise."""
BY_CONTENT = frozenset(("data.sources",))
"""Keys whose contents are compared, by fingerprint: the same rows at another place are the same."""
ADVICE: Mapping[str, str] = dict.fromkeys(
    ("budget", "epochs", "train.max_steps"), "a later end is asked for with --longer 30m"
)
"""What to do where one of these keys differs."""
STATE_KEY = "settings"
"""Name of the settings in a checkpoint's ``state.json``, and of their fingerprint in its manifest."""


def harmless(before: Config, now: Config) -> frozenset[str]:
    """Dotted keys in which two configurations of one run may differ."""
    rows = [_step_rows(one.model_dump(mode="json").get("train")) for one in (before, now)]
    return HARMLESS | BY_CONTENT | (CUT if rows[0] is not None and rows[0] == rows[1] else frozenset())


def cut_again(before: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The keys of :data:`CUT` that a ``[train]`` table asks for; None where a step would have other rows."""
    names = [key.removeprefix("train.") for key in sorted(CUT)]
    found = {name: asked[name] for name in names if name in asked}
    return found if _step_rows({**before, **found}) == _step_rows(before) else None


def _step_rows(train: Any) -> int | None:
    """Rows that a step learns from; None where a table does not say."""
    if not isinstance(train, Mapping):
        return None
    rows, accumulation = train.get("per_device_train_batch_size"), train.get("gradient_accumulation_steps")
    return rows * accumulation if isinstance(rows, int) and isinstance(accumulation, int) else None


def settings_of(config: Config) -> dict[str, Any]:
    """What determines the weights, as plain values."""
    return _without_harmless(config.model_dump(mode="json"))


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of what determines the weights."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def require_unedited(run: RunDirectory, config: Config, rows: Sequence[Longer] = ()) -> None:
    """Compare settings with those of the newest checkpoint that has any.

    Args:
        run: the run that is to go on.
        config: its settings, as ``config.toml`` says them.
        rows: how the run was made longer since.

    Raises:
        UserError: they differ; the message names the keys with the values then and now.
    """
    for checkpoint in run.checkpoints():
        if (recorded := _recorded(checkpoint)) is not None:
            return require_as_recorded(run, checkpoint, recorded, config, rows)


def require_as_recorded(
    run: RunDirectory, checkpoint: Path, recorded: Mapping[str, Any], config: Config, rows: Sequence[Longer]
) -> None:
    """Compare settings with those of one checkpoint; see :func:`require_unedited`."""
    now = settings_of(config)
    then = upgraded(type(config), recorded)
    if isinstance(then.get("train"), dict):
        then["train"] = lengthened(then["train"], rows)
    if rows:
        then.pop("deadline", None)  # a longer run ends at a step, and no longer by the clock
    if found := list(differing(_uncut(then), _uncut(now))):
        raise UserError(
            f"these settings are not those that {checkpoint.name} was trained with",
            where=run.config,
            value=", ".join(one.key for one in found),
            hint=f"{listed(found)}; put the old values back, or begin anew with --fresh",
        )


def _uncut(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the rows of a step in place of the way it is cut."""
    train = settings.get("train")
    if (rows := _step_rows(train)) is None or not isinstance(train, Mapping):
        return dict(settings)
    rest = {key: value for key, value in train.items() if f"train.{key}" not in CUT}
    return {**settings, "train": {**rest, "per_device_train_batch_size × gradient_accumulation_steps": rows}}


def _recorded(checkpoint: Path) -> Mapping[str, Any] | None:
    """The settings in a checkpoint, where it has any and they are whole."""
    try:
        artifact.opened(checkpoint, "checkpoint").checked("state/state.json")
    except (OSError, UserError):
        return None
    recorded = state_of(checkpoint).get(STATE_KEY)
    return recorded if isinstance(recorded, dict) else None


def take_over(run: RunDirectory, before: Config, now: Config) -> list[Difference]:
    """Note that a run goes on with other values of harmless keys; gives those that changed."""
    found = [one for one in differences(before, now) if one.key in HARMLESS | CUT]
    if found:
        run.event("settings changed", changes=[str(one) for one in found])
    return found


def changed(before: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Harmless keys of a ``[train]`` table that are asked for now with another value than before."""
    return {
        key: value for key, value in asked.items() if f"train.{key}" in HARMLESS and value != before.get(key)
    }


def _without_harmless(values: Any, path: str = "") -> Any:
    if not isinstance(values, dict):
        return values
    left_out = HARMLESS | BY_CONTENT
    names = {key: f"{path}.{key}" if path else str(key) for key in values}
    return {
        key: _without_harmless(value, names[key])
        for key, value in values.items()
        if names[key] not in left_out and value is not None
    }
