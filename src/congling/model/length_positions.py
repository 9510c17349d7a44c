"""Rotary positions whose frequencies depend on the text's length: dynamic NTK, LongRoPE, CLEX.

Which frequencies hold is decided by each token that looks, by its own position; the keys it sees are turned
by the same ones, so keys are kept as they were before rotation::

    trained length 4     query     0 1 2 3 │ 4 5 6 7 │ 8         dynamic: every token from 4 on is a band,
    CLEX                 t         1       │ 2       │ 3         longrope has two, CLEX one for each t
    keys turned by θ(t)            0-3     │ 0-7     │ 0-8

So a text read as a whole, in pieces, one by one, or beside others of other lengths is one and the same
function. (Where one length holds for all tokens read at once, as in transformers, it is not.)
"""

# B batch, T time, S keys in sight, D head width, R 1 or B

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from congling.model.frequencies import frequencies_at, magnitude
from congling.model.positions import Angles, AttentionContext, Band, RotaryPositions, signed_angles
from congling.model.rope_scaling import SHARED_BANDS, LongRopeScaling


class LengthPositions(RotaryPositions):
    """Frequencies of tokens beyond the trained length follow their position."""

    def context(
        self, seen: AttentionContext, positions: Tensor | slice, tokens: int, before: int
    ) -> AttentionContext:
        """With a band for each stretch of tokens that see through the same frequencies."""
        keys = self._key_positions(positions, tokens, before)  # (R, S)
        lengths = keys[:, before:] + 1  # (R, T)
        classes = self.classes(lengths)
        changes = (classes[:, 1:] != classes[:, :-1]).any(0).nonzero().squeeze(1) + 1
        bounds = [0, *changes.tolist(), tokens]
        firsts = torch.tensor(bounds[:-1], device=keys.device)
        frequency = self.frequencies(lengths[:, firsts].flatten()).unflatten(0, (len(keys), -1))
        bands = []
        for band, (start, end) in enumerate(pairwise(bounds)):
            angles = partial(self._band_angles, frequency[:, band], keys[:, : before + end])
            # All blocks share what turns a band, unless so many (dynamic) would fill memory.
            bands.append(Band(start, end, angles() if len(firsts) <= SHARED_BANDS else angles))
        return seen._replace(bands=tuple(bands))

    def _band_angles(self, frequency: Tensor, positions: Tensor) -> Angles:
        """(R, S, 1, D) of keys at these positions (R, S), turned by (R, D/2)."""
        grown, dtype = magnitude(self.config.rope_scaling), self._device_anchor.dtype
        return signed_angles(positions[..., None, None].float(), frequency[:, None, None], grown, dtype)

    def classes(self, lengths: Tensor) -> Tensor:
        """Numbers that are equal for lengths with equal frequencies."""
        scaling = self.config.rope_scaling
        if isinstance(scaling, LongRopeScaling):
            return (lengths > scaling.original_max_position_embeddings).long()
        return lengths.clamp_min(getattr(scaling, "original_max_position_embeddings", 0))

    def frequencies(self, lengths: Tensor) -> Tensor:
        """Of tokens that end texts of these lengths (N,): (N, D/2) float32."""
        return frequencies_at(self.config, self.head_width, lengths)

    def _key_positions(self, positions: Tensor | slice, tokens: int, before: int) -> Tensor:
        """(R, S) of all slots: those read before, then the new tokens."""
        if not before and isinstance(positions, Tensor):
            return positions
        slots = torch.arange(before + tokens, device=self.device)[None]
        if isinstance(positions, slice):
            return slots
        # Padding stands at the left alone: the last token's slot and position tell how much of it there is.
        padding = before + tokens - 1 - positions[:, -1:]
        return (slots - padding).clamp_min(0)
