"""run.c and runq.c of llama2.c, followed step by step in numpy: what an exported ``model.bin`` does there.

Shares nothing with our own model: sizes, order of tensors and arithmetic are those of the C programs, which
hold every weight in the file's own row order and rotate neighbouring channels. Version 2 multiplies as runq
does: activations are quantised to eight bits in groups, products of whole numbers summed a group at a time.
"""

# T new tokens, S tokens so far, W width, H heads, K key/value heads, D head width, V vocabulary

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from congling.core.errors import UserError
from congling.interop.llama2c import layout
from congling.interop.llama2c.model import MODEL, TOKENIZER, mapped_file, stored
from congling.interop.llama2c.vocabulary import BOS, Vocabulary

_EPSILON, _BASE = np.float32(1e-5), np.float32(10000)


class Llama2C:
    """A ``model.bin`` with its ``tokenizer.bin``, run as run.c (float32) or runq.c (version 2) would."""

    def __init__(
        self, path: Path | str, tokenizer: Path | str | None = None, *, dummy_space: bool = True
    ) -> None:
        """Open a model file or the folder that holds it.

        Args:
            path: ``model.bin`` or its folder.
            tokenizer: ``tokenizer.bin``; by default the one beside the model.
            dummy_space: put a space before every text, as run.c does. Without it ids of the text alone can
                be compared with a tokenizer that puts none.

        Raises:
            UserError: a file is missing or damaged.
        """
        path = Path(path)
        path = path / MODEL if path.is_dir() else path
        raw = mapped_file(path)
        self._header = header = layout.parse(raw, path)
        self._weights = {entry.name: _Matrix(raw, entry) for entry in layout.entries(header)}
        self._dummy_space = dummy_space
        beside = Path(tokenizer) if tokenizer is not None else path.with_name(TOKENIZER)
        self._vocabulary = (
            Vocabulary.read(beside, header.vocab_size) if tokenizer or beside.exists() else None
        )
        self._forget()

    @property
    def name(self) -> str:
        """The C program whose steps are followed."""
        return "llama2.c runq" if self._header.version == 2 else "llama2.c run"

    def tokenize(self, text: str, *, bos: bool = False) -> list[int]:
        """Ids as run.c finds them; ``bos`` puts id 1 first, as it does before every prompt.

        Raises:
            UserError: there is no ``tokenizer.bin``.
        """
        if self._vocabulary is None:
            raise UserError("there is no tokenizer.bin beside the model, which run.c needs")
        return [BOS] * bos + self._vocabulary.encode(text, dummy_space=self._dummy_space)

    def piece(self, index: int) -> bytes:
        """Bytes that an id stands for.

        Raises:
            UserError: there is no ``tokenizer.bin``.
        """
        if self._vocabulary is None:
            raise UserError("there is no tokenizer.bin beside the model, which run.c needs")
        return self._vocabulary.text_of(index)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Scores of the next token at each place of one text: (T, V) float32.

        Raises:
            UserError: the text is empty or longer than the context, or an id is unknown.
        """
        self._forget()
        return self._scores(self._forward(ids))

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The ``count`` likeliest next tokens, one after another (``-t 0``).

        Raises:
            UserError: as ``logits``; the context must hold ``ids`` and what follows.
        """
        self._forget()
        hidden = self._forward(ids)
        found: list[int] = []
        for _ in range(count):
            found.append(int(self._scores(hidden[-1:]).argmax()))
            if len(found) < count:
                hidden = self._forward(found[-1:])
        return found

    def _forget(self) -> None:
        header = self._header
        empty = np.zeros((0, header.kv_heads, header.head_width), np.float32)
        self._keys, self._values = [empty] * header.layers, [empty] * header.layers

    def _forward(self, ids: Sequence[int]) -> np.ndarray:
        """Hidden states of the next tokens, keys and values kept: (T,) -> (T, W)."""
        start, header = len(self._keys[0]), self._header
        if not 0 < len(ids) <= header.context - start:
            raise UserError("a text must have between 1 and so many tokens", value=header.context - start)
        if not all(0 <= index < header.vocab_size for index in ids):
            raise UserError("an id is outside the vocabulary", value=header.vocab_size)
        x = self._weights["embedding.weight"].rows(ids)
        for layer in range(header.layers):
            x = x + self._attention(x, layer, start)
            x = x + self._mlp(x, layer)
        return x

    def _attention(self, x: np.ndarray, layer: int, start: int) -> np.ndarray:
        header, name = self._header, f"blocks.{layer}.attention."
        x = self._norm(x, f"blocks.{layer}.attention_norm.weight")
        query, key, value = (
            self._times(x, f"{name}{part}.weight").reshape(len(x), -1, header.head_width)
            for part in ("query", "key", "value")
        )
        query, key = _rotated(query, start), _rotated(key, start)
        self._keys[layer] = np.concatenate((self._keys[layer], key))
        self._values[layer] = np.concatenate((self._values[layer], value))
        shared = header.heads // header.kv_heads
        keys, values = (np.repeat(kept[layer], shared, axis=1) for kept in (self._keys, self._values))
        scores = np.einsum("thd,shd->hts", query, keys) / np.sqrt(np.float32(header.head_width))
        later = np.arange(len(keys)) > start + np.arange(len(x))[:, None]  # (T, S)
        scores = np.where(later, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", weights, values).reshape(len(x), -1)
        return self._times(mixed, f"{name}output.weight")

    def _mlp(self, x: np.ndarray, layer: int) -> np.ndarray:
        name = f"blocks.{layer}.mlp."
        x = self._norm(x, f"blocks.{layer}.mlp_norm.weight")
        gate, up = self._times(x, f"{name}gate.weight"), self._times(x, f"{name}up.weight")
        with np.errstate(over="ignore"):  # exp(-gate) of a very negative gate: infinity, and so 0
            gate = gate / (np.float32(1) + np.exp(-gate))
        return self._times(gate * up, f"{name}down.weight")

    def _scores(self, hidden: np.ndarray) -> np.ndarray:
        hidden = self._norm(hidden, "norm.weight")
        return self._times(hidden, "embedding.weight" if self._header.shared else layout.HEAD)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        mean = (x * x).mean(-1, keepdims=True) + _EPSILON
        return self._weights[name].values() * (x / np.sqrt(mean))

    def _times(self, x: np.ndarray, name: str) -> np.ndarray:
        return self._weights[name].times(x)


class _Matrix:
    """One tensor of the mapped file; nothing is copied but what is being used."""

    def __init__(self, raw: np.ndarray, entry: layout.Entry) -> None:
        self._raw, self._entry = raw, entry
        self._groups = entry.shape[-1] // entry.group if entry.group else 0

    def values(self) -> np.ndarray:
        return stored(self._raw, self._entry)

    def rows(self, ids: Sequence[int]) -> np.ndarray:
        return self.values()[list(ids)]

    def times(self, x: np.ndarray) -> np.ndarray:
        """``x @ weight.T``: (T, inputs) -> (T, outputs)."""
        if not self._groups:
            return x @ self.values().T
        entry, group = self._entry, self._entry.group
        end = entry.offset + entry.values
        weights = self._raw[entry.offset : end].view(np.int8).reshape(entry.shape)
        scales = self._raw[end : entry.offset + entry.bytes].copy().view("<f4").reshape(-1, self._groups)
        numbers, factors = _quantised(x, group)
        total = np.zeros((len(x), len(weights)), np.float32)
        for i in range(self._groups):
            part = slice(i * group, (i + 1) * group)
            # Sums of whole numbers below 2^24 are exact in float32: 127 · 127 · 64 is.
            products = numbers[:, part] @ weights[:, part].astype(np.float32).T
            total += products * factors[:, i, None] * scales[:, i]
        return total


def _quantised(x: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations as whole numbers (held as float32) and the scale of each group: (T, n), (T, n / group)."""
    rows = x.reshape(len(x), -1, group)
    factors = np.abs(rows).max(-1) / np.float32(127)
    scaled = rows / np.where(factors == 0, np.float32(1), factors)[..., None]
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))  # C's round(): halves go outwards
    return rounded.reshape(x.shape), factors


def _rotated(x: np.ndarray, start: int) -> np.ndarray:
    """Turn neighbouring channels of each head by the angle of their position: (T, H, D)."""
    width = x.shape[-1]
    frequencies = np.float32(1) / _BASE ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width))
    angles = np.arange(start, start + len(x), dtype=np.float32)[:, None] * frequencies  # (T, D/2)
    cosines, sines = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.stack((even * cosines - odd * sines, even * sines + odd * cosines), axis=-1)
    return turned.reshape(x.shape)
