"""What a model was before its context was extended, where it was trained since: what its run began with."""

from pathlib import Path

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.evals.unextended import stretched, trained
from congling.infer.reading import EXTENDED as FACT
from congling.infer.reading import extension_of
from congling.interop.source import locate_checkpoint
from congling.model.checkpoint import load_config
from congling.plan.planning import PLAN_FILE
from congling.report.record_files import json_of, mapping

_DEEPEST = 8  # runs that were begun with the result of another


def former_model(checkpoint: Artifact, *, adapted: bool = False) -> Path | None:
    """The checkpoint that a longer context has to beat, where training followed its extension.

    That is the first one back, of those that a run began with, whose positions were stretched without
    training, or are not stretched any more. None where nothing was extended, or the way back is lost: a run
    tells where its base lay, and the base is taken for the same by its fingerprint.

    Args:
        checkpoint: of the model under test.
        adapted: adapters are on it.
    """
    extended, found = _extended(checkpoint), None
    if adapted and FACT in checkpoint.facts and not trained(checkpoint):
        return checkpoint.path  # adapters are no part of what was there before
    for _ in range(_DEEPEST):
        if FACT in checkpoint.facts and not trained(checkpoint):
            break  # its weights are those from before
        if (base := _begun_with(checkpoint)) is None:
            break
        checkpoint, found = base, base.path
        if not _extended(checkpoint):
            break
        extended = True
    return found if extended else None


def _extended(checkpoint: Artifact) -> bool:
    if FACT in checkpoint.facts or extension_of(checkpoint.facts):
        return True
    try:
        return stretched(load_config(checkpoint.path))
    except UserError:  # a GGUF file, an adapter
        return False


def _begun_with(checkpoint: Artifact) -> Artifact | None:
    """The checkpoint that the run began with, if it still lies there and is the same."""
    run = checkpoint.path.parent.parent
    place = mapping(json_of(run / PLAN_FILE, []).get("base")).get("path")
    if not trained(checkpoint) or not isinstance(place, str):
        return None
    known = {checkpoint.parents.get(name) for name in ("start", "base")}
    try:
        found = artifact.opened(locate_checkpoint(place), "checkpoint")
    except UserError:
        return None
    return found if found.fingerprint in known else None
