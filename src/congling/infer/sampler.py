"""Sampling the next token: pure functions of the logits and seeded generators."""

# B batch, V vocabulary

from collections.abc import Sequence

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from congling.core.config import Config
from congling.core.errors import UserError


class SamplingConfig(Config):
    """How to choose the next token; filters apply in the order of the fields."""

    repetition_penalty: PositiveFloat = 1.0
    """Divide positive and multiply negative logits of tokens already in the text (Keskar et al. 2019)."""
    temperature: NonNegativeFloat = 0.8
    """Divide the logits; 0 = always the likeliest token."""
    top_k: PositiveInt | None = None
    """Keep the k likeliest tokens."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the fewest tokens whose probabilities reach p (nucleus sampling, Holtzman et al. 2020)."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """Keep tokens at least this share as likely as the likeliest (Nguyen et al. 2024)."""
    seed: int = Field(default=0, ge=-(2**63), lt=2**64)
    whole_characters: bool = True
    """Draw nothing that spoils a character: no byte that cannot stand where it would come, no end within
    one. It changes which tokens may come, not what is likely among them; a model that never errs writes the
    same without it."""


def drawable(logits: Tensor, barred: Tensor) -> Tensor:
    """Logits (..., V) with minus infinity at the ids (n,) that stand for no token.

    Vocabularies are padded to round numbers, and a model scores the rows behind its tokens like any others.
    Whatever draws, or asks which token is likeliest, asks here.
    """
    return logits.index_fill(-1, barred, -torch.inf) if len(barred) else logits


def sample(
    logits: Tensor,
    config: SamplingConfig,
    random: torch.Generator | Sequence[torch.Generator] | Tensor,
    seen: Tensor | None = None,
) -> Tensor:
    """Choose one token a row: logits (B, V) -> ids (B,).

    ``seen`` (B, V) is true for tokens already in a row's text; without it there is no repetition penalty.

    ``random`` is one generator for all rows; one for each, so that what is drawn for one depends on no other;
    or a number from 0 to below 1 for each, (B,) float64, which chooses the same token on every device.
    Generators must live on the device of the logits.

    Raises:
        UserError: the logits are not finite.
    """
    logits = logits.float()
    if seen is not None:
        penalty = config.repetition_penalty
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    if config.temperature == 0:
        return logits.argmax(-1)
    logits = logits / config.temperature
    if isinstance(random, Tensor):
        return _inverted(logits, config, random)
    probabilities = filtered(logits, config)
    if not probabilities.isfinite().all():
        raise UserError(
            "the model's scores are no finite numbers",
            hint="its weights are damaged, or the temperature is too near 0: write 0 for the likeliest token",
        )
    if isinstance(random, torch.Generator):
        return torch.multinomial(probabilities, 1, generator=random).squeeze(-1)
    drawn = [torch.multinomial(row, 1, generator=own) for row, own in zip(probabilities, random, strict=True)]
    return torch.cat(drawn)


def filtered(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Probabilities (B, V) after top-k, top-p and min-p; the likeliest token always stays."""
    probabilities = _likeliest(logits, config.top_k).softmax(-1)
    if config.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        # A token goes when those before it already reach p, so the one that crosses the line stays.
        beyond = ordered.cumsum(-1) - ordered >= config.top_p
        probabilities = probabilities.masked_fill(beyond.scatter(-1, order, beyond), 0)
    if config.min_p > 0:
        least = config.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0)
    return probabilities / probabilities.sum(-1, keepdim=True)


def _likeliest(logits: Tensor, k: int | None) -> Tensor:
    """Logits (B, V) of the k likeliest tokens, minus infinity for the others."""
    if k is None or k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def _inverted(logits: Tensor, config: SamplingConfig, numbers: Tensor) -> Tensor:
    """One id a row by inverting the distribution function: (B, V) and (B,) -> (B,)."""
    logits = _likeliest(logits, config.top_k)
    if config.top_p < 1 or config.min_p > 0:
        logits = logits.masked_fill(filtered(logits, config) == 0, -torch.inf)
    # By the likeliest that is left: all that was cut off may have had nearly the whole probability.
    reached = (logits - logits.amax(-1, keepdim=True)).double().exp().cumsum(-1)
    whole = reached[:, -1:]
    places = (numbers.to(reached.device)[:, None] * whole).minimum(
        torch.nextafter(whole, whole.new_zeros(()))
    )
    return torch.searchsorted(reached, places, right=True).squeeze(1)
