"""Models that do one thing exactly: go on as the text went on where it was the same before."""

from bisect import bisect_left

import torch
from torch import Tensor

from congling.model.cache import KVCache
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer


class Copying(Transformer):
    """Foretells what stood behind the first place in sight that was like the end of the text.

    The last ``sight`` tokens are in sight. Likeness is that of ``order`` ids. Where nothing was alike all ids
    are equally likely. With a cache it keeps the ids in the place of keys.
    """

    def __init__(self, config: ModelConfig, sight: int, order: int = 3) -> None:
        super().__init__(config)
        self.sight, self.order = sight, order

    def forward(self, tokens: Tensor, *, cache: KVCache | None = None, **_: object) -> Tensor:
        """(B, T) -> (B, T, 1): the id that is foretold, -1 for none."""
        read, before = tokens, 0 if cache is None else cache.length
        if cache is not None:
            for layer in cache.layers:
                wide = tokens[:, None, :, None].expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3])
                layer.extend(wide.to(layer.keys.dtype), wide.to(layer.keys.dtype))
            read = cache.layers[0].keys[:, 0, : cache.length, 0].long()
        starts = [0] * len(read) if cache is None or cache.start is None else cache.start.tolist()
        found = [
            [-1] * (start - before) + self._foretold(row[start:], max(0, before - start))
            for row, start in zip(read.tolist(), starts, strict=True)
        ]
        return torch.tensor(found)[..., None].float()

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., 1) -> (..., V)."""
        foretold = hidden.long()
        flat = torch.zeros(*hidden.shape[:-1], self.config.vocab_size)
        return flat.scatter(-1, foretold.clamp_min(0), torch.where(foretold < 0, 0.0, 20.0))

    def _foretold(self, ids: list[int], start: int) -> list[int]:
        """What follows ``ids[: end + 1]`` for every end from ``start`` on."""
        places: dict[tuple[int, ...], list[int]] = {}
        found = []
        for end in range(len(ids)):
            last = tuple(ids[end + 1 - self.order : end + 1]) if end + 1 >= self.order else ()
            before = places.setdefault(last, [])
            at = bisect_left(before, end + self.order - self.sight)  # the whole of it is in sight
            if end >= start:
                found.append(ids[before[at] + 1] if last and at < len(before) else -1)
            before.append(end)
        return found
