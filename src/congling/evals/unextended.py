"""The model as it was before its context was extended, which a longer context has to beat.

::

    positions were never stretched     the model itself
    only its positions were changed    the same weights, with the positions it had before
    anything else                      another checkpoint, where one is named
"""

from collections.abc import Sequence

from congling.core.artifact import Artifact
from congling.core.config import Config, build
from congling.core.errors import UserError
from congling.evals.context_lengths import original_length
from congling.infer.checkpoints import Loaded
from congling.infer.reading import EXTENDED as FACT
from congling.infer.reading import extension_of
from congling.model.config import ModelConfig, Positions
from congling.model.transformer import Transformer
from congling.transform.repositioned import repositioned


class _Before(Config):
    """The fact, as it is checked."""

    positions: Positions


def unextended(loaded: Loaded) -> Transformer | None:
    """The model before its positions were stretched: itself if they never were; None where nobody knows,
    or where its weights were trained since.

    Raises:
        UserError: what the checkpoint says of its former positions is damaged.
    """
    model, fact = loaded.model, loaded.checkpoint.facts.get(FACT)
    if fact is None:
        known = stretched(model.config) or extension_of(loaded.checkpoint.facts)
        return None if known else model
    if not isinstance(fact, dict) or "positions" not in fact or trained(loaded.checkpoint):
        return None
    where = loaded.checkpoint.path
    before = build(_Before, {"positions": fact["positions"]}, where=where, recorded=True).positions
    if before.kind == "learned" or before == model.config.positions:
        return model
    return repositioned(model, before, original_length(loaded))


def trained(checkpoint: Artifact) -> bool:
    """Whether a run of training wrote a checkpoint."""
    return (checkpoint.path.parent.parent / "metrics.jsonl").is_file()


def require_same_tokens(base: Loaded, texts: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Compare the ids that a model reads of some texts with those that another has read.

    Raises:
        UserError: they differ.
    """
    if any(base.tokenizer.encode(text) != list(ids) for text, ids in texts):
        raise UserError(
            "the base reads other tokens than the model, so their losses do not compare",
            value=str(base.checkpoint.path),
            hint="name the checkpoint that the model was made from",
        )


def stretched(config: ModelConfig) -> bool:
    """Whether a configuration says that positions were stretched; a larger ``rope_theta`` says nothing."""
    return config.positions.kind == "rope" and config.positions.rope_scaling is not None


def reading(model: Transformer, tokens: int) -> Transformer:
    """The same model, which reads so many tokens at least; learned positions end where they end."""
    config = model.config
    if config.positions.kind == "learned" or config.max_position_embeddings >= tokens:
        return model
    return repositioned(model, config.positions, tokens)
