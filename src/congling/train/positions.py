"""Which positions the rows of a training run get: those they have, or others up to the model's context."""

from typing import Literal

from congling.core.errors import UserError
from congling.data.position_sampling import PositionKind, PositionSampling
from congling.model.config import ModelConfig
from congling.model.rope_scaling import ClexScaling
from congling.train.config import TrainConfig


def sampling_of(settings: TrainConfig, model: ModelConfig) -> PositionSampling | None:
    """How positions are drawn; None where tokens keep those they have in their row.

    The curve of CLEX is learnt at lengths that rows have, so a model with one is trained with ``randomized``
    positions unless something else is asked for.

    Raises:
        UserError: positions are to be drawn, but the model is not rotary, or rows fill all that it has.
    """
    asked, reach = _asked(settings, model)
    if asked is None or asked == "none":
        return None
    where = "train.position_sampling"
    if model.positions.kind != "rope":
        what = f"positions can be drawn where they rotate, not for the kind {model.positions.kind}"
        raise UserError(what, where=where, value=asked, hint="leave it out")
    if reach <= settings.max_length:
        raise UserError(
            f"there are no positions to draw: rows of {settings.max_length} tokens have all "
            f"{reach} of the model",
            where=where,
            value=asked,
            hint=f"leave it out, or set train.max_length below {reach}",
        )
    return PositionSampling(asked, reach, settings.seed)


def longest_of(settings: TrainConfig, model: ModelConfig) -> int:
    """Tokens that positions are trained up to: those of a row, or more where they are drawn."""
    asked, reach = _asked(settings, model)
    return settings.max_length if asked in (None, "none") else max(reach, settings.max_length)


def _asked(settings: TrainConfig, model: ModelConfig) -> tuple[PositionKind | Literal["none"] | None, int]:
    """How positions are drawn, and the number they are below."""
    asked, reach = settings.position_sampling, model.max_position_embeddings
    scaling = model.positions.rope_scaling if model.positions.kind == "rope" else None
    if isinstance(scaling, ClexScaling):
        reach = min(reach, scaling.max_factor * scaling.original_max_position_embeddings)
        if asked is None and reach > settings.max_length:
            asked = "randomized"
    return asked, reach
