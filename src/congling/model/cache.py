"""Keys and values of the tokens already read, so that generating one token costs one token.

Memory is taken once; all rows move in step. Prompts of unequal length are padded on the left, and ``start``
says where each row's text begins::

    slot      0   1   2   3   4   5        length = 4: slots 0-3 are filled
    row 0    ·   ·   从  零              start = 2, positions of 从 零 are 0 1
    row 1    学  而  时  习              start = 0, positions are 0 1 2 3
"""

# B batch, T new tokens, K key/value heads, D head width, S slots

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.model.config import ModelConfig


class LayerCache:
    """One block's keys and values, (B, K, S, D) each; keys are rotated unless that depends on the length."""

    def __init__(
        self, shape: tuple[int, int, int, int], device: torch.device | str, dtype: torch.dtype
    ) -> None:
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, K, T, D) and return all keys and values so far."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """The caches of all blocks for ``rows`` sequences of at most ``capacity`` tokens.

    ``start`` (B,) counts the padding slots at the left of each row; without it no row is padded.

    Raises:
        UserError: ``capacity`` exceeds the model's context.
    """

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        capacity: int,
        *,
        start: Tensor | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if capacity > config.max_position_embeddings:
            raise UserError(
                "the cache is longer than the model's context",
                value=capacity,
                hint=f"the model reads at most {config.max_position_embeddings} tokens",
            )
        shape = (rows, config.attention.num_key_value_heads, capacity, config.attention.head_dim)
        self.layers = [LayerCache(shape, device, dtype) for _ in range(config.num_hidden_layers)]
        self.capacity, self.start = capacity, start

    @property
    def length(self) -> int:
        """Slots filled so far."""
        return self.layers[0].length

    def rewind(self, length: int) -> None:
        """Forget what stands in the slots from ``length`` on."""
        for layer in self.layers:
            layer.length = min(length, layer.length)

    def take(self, rows: Tensor) -> None:
        """Go on with these rows alone, in this order; a row may be taken several times."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        if self.start is not None:
            self.start = self.start[rows]

    def positions(self, tokens: int) -> Tensor | slice:
        """Positions of the next ``tokens``: one slice for all rows, or (B, T) when rows start unequally."""
        if self.start is None:
            return slice(self.length, self.length + tokens)
        slots = torch.arange(self.length, self.length + tokens, device=self.start.device)
        return (slots - self.start[:, None]).clamp_min(0)

    def visible(self, tokens: int, device: torch.device) -> tuple[Tensor | None, bool]:
        """The mask (B or 1, 1, T, S) and the causal flag of ``AttentionContext`` for the next ``tokens``."""
        if self.start is None and (self.length == 0 or tokens == 1):
            # A first reading is plainly causal; a single new token sees everything.
            return None, self.length == 0
        query = torch.arange(self.length, self.length + tokens, device=device)[:, None]  # (T, 1)
        slot = torch.arange(self.length + tokens, device=device)  # (S,)
        visible = slot <= query
        if self.start is None:
            return visible[None, None], False
        # A padding slot sees itself: a row that saw nothing would turn into NaN.
        return (visible & ((slot >= self.start[:, None, None]) | (slot == query)))[:, None], False
