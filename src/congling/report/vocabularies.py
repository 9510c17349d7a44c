"""Which runs count the same tokens, told by the tokenizers in their checkpoints, or in those of their bases.

::

    whole model   checkpoint/tokenizer/tokenizer.json …   the files that hold the pieces
    adapter       checkpoint ─ its base ─ tokenizer/…     where it was trained, or beside it in the comparison
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.core import artifact, pointers
from congling.core.errors import UserError
from congling.report.origin import manifest_of
from congling.report.record import RunRecord, mapping
from congling.report.weights import ADAPTER, checkpoint_of, description

_NOT_PIECES = ("tokenizer/report.json", "tokenizer/MANIFEST.json", "tokenizer/congling.json")
"""What says how pieces are used (a chat template, a report), and changes no token of a text."""


def tokenizers_of(runs: Sequence[RunRecord]) -> list[str | None]:
    """For each run a name of its pieces; None where nothing tells.

    A run without a tokenizer of its own has that of its base: read where the base was, else where another of
    the runs is that base, or was made from it too. Else the base itself is the name.
    """
    origins = [_origin(run) for run in runs]
    pieces = [one.pieces or _of_base(one) for one in origins]
    known = {
        name: found
        for one, found in zip(origins, pieces, strict=True)
        if found
        for name in (one.fingerprint, one.base)
        if name
    }
    return [found or _named(one, known) for one, found in zip(origins, pieces, strict=True)]


@dataclass(frozen=True)
class _Origin:
    """What a run's directory says of its tokenizer."""

    pieces: str | None
    fingerprint: str
    """Of the best checkpoint."""
    base: str
    """Of what it began with."""
    places: tuple[str, ...]
    """Where that was."""
    tokenizer: str | None
    """Of the tokenizer directory, where only that is known."""


def _origin(run: RunRecord) -> _Origin:
    checkpoint = checkpoint_of(run)
    manifest = manifest_of(checkpoint) if checkpoint is not None else {}
    adapter = description((checkpoint or run.path / "adapter") / ADAPTER)
    parents, recorded = mapping(manifest.get("parents")), mapping(run.plan.get("base")).get("path")
    bases = (parents.get("base"), mapping(adapter.get("base")).get("fingerprint"))
    return _Origin(
        _pieces(manifest),
        "" if checkpoint is None else _fingerprint(checkpoint),
        next((one for one in bases if isinstance(one, str)), ""),
        tuple(one for one in (adapter.get("base_path"), recorded) if isinstance(one, str) and one),
        parents.get("tokenizer"),
    )


def _pieces(manifest: Mapping[str, Any]) -> str | None:
    files = {str(name): str(value) for name, value in mapping(manifest.get("files")).items()}
    own = {name: value for name, value in files.items() if name.startswith("tokenizer/")}
    found = {name: value for name, value in own.items() if name not in _NOT_PIECES} or own
    return "".join(f"{name}:{value}" for name, value in sorted(found.items())) or None


def _of_base(origin: _Origin) -> str | None:
    """The pieces of the base, where it is still what it was when the run began."""
    for path in origin.places:
        place = _checkpoint_at(Path(path))
        if place is not None and origin.base and _fingerprint(place) == origin.base:
            return _pieces(manifest_of(place))
    return None


def _named(origin: _Origin, known: Mapping[str, str]) -> str | None:
    if not origin.base:
        return origin.tokenizer
    return known.get(origin.base, f"of the base {origin.base}")


def _fingerprint(checkpoint: Path) -> str:
    try:
        return artifact.opened(checkpoint, "checkpoint").fingerprint
    except UserError:
        return ""


def _checkpoint_at(path: Path) -> Path | None:
    """The checkpoint that a path is or leads to, as for a model to be loaded."""
    if artifact.exists(path):
        return path
    found = (pointers.handed_on(place, say=lambda text: None) for place in (path, path / "run"))
    return next((place for place in found if place is not None), None)
