"""How a model read text in training (context, document mask), which evaluation must do alike.

A model trained with ``document_mask`` has never seen one document behind another: scored without the mask it
looks worse than it is. What training did is a fact of the checkpoint; older checkpoints lack it, and there
the ``config.toml`` of the run they lie in is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from congling.core.artifact import Artifact
from congling.core.config import read_toml
from congling.core.errors import UserError
from congling.core.renamed import with_new_keys
from congling.model.config import ModelConfig
from congling.model.positions_words import positions_in_words

MASK, CONTEXT = "document_mask", "train_context"
"""Names of the facts."""
EXTENDED, EXTENSION, TRAINED = "extended", "extension", "trained"
"""Facts that a context was extended: with the weights as they were, and with weights trained since, on rows
of which the longest is named in it."""


@dataclass(frozen=True)
class Reading:
    """How rows of text are read."""

    context: int
    """Tokens of a row in training."""
    document_mask: bool
    """Whether attention stays inside documents that share a row."""
    recorded: bool = True
    """Whether checkpoint or run says so; else the model's context, and no mask."""

    def facts(self) -> dict[str, Any]:
        """As a checkpoint keeps them; none where nothing is known."""
        return {MASK: self.document_mask, CONTEXT: self.context} if self.recorded else {}

    def told(self) -> str:
        """In a sentence, where it is worth one."""
        if not self.recorded:
            return "how rows were read in training (document_mask) is not recorded: scored without a mask"
        return "attention stays inside documents, as in training" if self.document_mask else ""


def reading_of(checkpoint: Artifact, model: ModelConfig) -> Reading:
    """How the model of a checkpoint was trained to read."""
    known = checkpoint.facts if MASK in checkpoint.facts else _of_run(checkpoint)
    mask, context = known.get(MASK), known.get(CONTEXT, model.max_position_embeddings)
    if not isinstance(mask, bool) or not isinstance(context, int) or isinstance(context, bool):
        return Reading(model.max_position_embeddings, document_mask=False, recorded=False)
    return Reading(max(1, min(context, model.max_position_embeddings)), mask)


def _of_run(checkpoint: Artifact) -> Mapping[str, Any]:
    """The facts as the configuration of a pretraining run has them, if the checkpoint lies in one."""
    file = checkpoint.path.parent.parent / "config.toml"
    try:
        config = read_toml(file) if file.is_file() else {}
    except UserError:
        return {}
    train = config.get("train")
    if "model" not in config or not isinstance(train, Mapping):
        return {}  # a tuning run reads rows; how its base was trained it does not say
    return {
        MASK: train.get("document_mask", False),
        CONTEXT: with_new_keys(("TrainConfig",), train).get("max_length"),
    }


def extension_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint, or an adapter, keeps of how the context was extended; nothing where it was not."""
    for name in (EXTENSION, EXTENDED):
        found = facts.get(name)
        if isinstance(found, Mapping) and _length(found.get("from")):
            return found
    return {}


def trained_length(facts: Mapping[str, Any], model: ModelConfig) -> int:
    """Tokens of the longest texts that a model was trained on, where its context was extended beyond them;
    else its context."""
    found, context = extension_of(facts), model.max_position_embeddings
    lengths = [length for name in ("from", TRAINED) if (length := _length(found.get(name)))]
    return min(context, max(lengths, default=context))


def extension_after(facts: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The fact after training on rows of so many tokens, or at so many positions; none where there was
    none."""
    found = extension_of(facts)
    if not found:
        return {}
    kept = {name: value for name, value in found.items() if name != "measured"}
    return {EXTENSION: {**kept, TRAINED: max(rows, _length(found.get(TRAINED)) or 0)}}


def lengths_in_words(facts: Mapping[str, Any], model: ModelConfig) -> str:
    """Both lengths of a model whose context was extended, how, and what it learnt since; else nothing."""
    found = extension_of(facts)
    if not found:
        return ""
    rows = _length(found.get(TRAINED))
    since = f"trained at up to {rows:,} tokens since" if rows else "not trained further since"
    how = positions_in_words(model.positions)
    return f"{model.max_position_embeddings:,} tokens, extended from {found['from']:,} ({how}), {since}"


def _length(value: object) -> int | None:
    """A number of tokens; None for anything else that stands there."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
