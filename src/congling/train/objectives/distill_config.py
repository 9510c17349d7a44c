"""What a student learns from its teacher: the ``[distill]`` table. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from congling.core.config import Config
from congling.train.config import Share


class DistillConfig(Config):
    """How far the student's next-token distribution is from the teacher's, and on which texts."""

    divergence: Literal["forward", "reverse", "js"] = "forward"
    """``forward`` KL(teacher ‖ student) covers all the teacher might say, ``reverse`` KL(student ‖ teacher)
    keeps to what it is likely to say, ``js`` lies between them (see ``beta``)."""
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the teacher in the mixture of ``js``: near 0 as ``forward``, near 1 as ``reverse``."""
    temperature: PositiveFloat = 1.0
    """Divides the logits of both; the loss is multiplied by its square, so that gradients keep their size."""
    alpha: Share = 0.1
    """Share of the plain next-token loss; the rest is the divergence."""
    hidden: NonNegativeFloat | None = None
    """Weight of how far the directions of the hidden states are from the teacher's, added up over blocks
    (OneBit, Xu et al. 2024: 1); not compared when not given. Needs a student of the teacher's depth and
    width."""
    lmbda: Share = 0.0
    """Probability with which the rows of a step are continued by the student itself."""
    prefix_tokens: PositiveInt | None = None
    """Tokens of the corpus that such rows begin with; a quarter of the context when not given."""
