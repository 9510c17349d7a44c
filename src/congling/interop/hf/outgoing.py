"""Weights of ours as a Hugging Face folder holds them: joined, transposed and split one tensor at a time."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from congling.interop.names import ARCHITECTURES, Entry, pattern

Shapes = Mapping[str, tuple[int, ...]]


class OutgoingTensors(Mapping[str, Tensor]):
    """Their tensors by their name, made from ours at each access, in one type.

    Experts come matrix after matrix, so that a stack of them is read once in a pass over all.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], architecture: str, shapes: Shapes, dtype: torch.dtype
    ) -> None:
        self._weights, self._dtype = weights, dtype
        self._stack: tuple[str, Tensor] = ("", torch.empty(0))
        self._loaders: dict[str, Callable[[], Tensor]] = {}
        self.layout: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        """Shape and type of each, known without reading any."""
        for name, shape in shapes.items():
            ours, layer = pattern(name)
            entry = next(entry for entry in ARCHITECTURES[architecture] if ours in entry.ours)
            if not entry.one_expert:  # the several parts of one tensor all lead to the same loader
                theirs = entry.theirs.format(layer)
                self._loaders[theirs] = self._joined(entry, layer)
                parts = [shapes[part.format(layer)] for part in entry.ours]
                whole = (sum(part[0] for part in parts), *shape[1:])
                self.layout[theirs] = (whole[::-1] if entry.transposed else whole, dtype)
                continue
            for expert in range(shape[0]):
                theirs = entry.theirs.format(layer, expert)
                self._loaders[theirs] = self._expert(name, expert)
                self.layout[theirs] = (shape[1:], dtype)

    def __getitem__(self, name: str) -> Tensor:
        return self._loaders[name]().to(self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def _joined(self, entry: Entry, layer: int | None) -> Callable[[], Tensor]:
        names = [part.format(layer) for part in entry.ours]

        def load() -> Tensor:
            parts = [self._weights[name] for name in names]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            return whole.T if entry.transposed else whole

        return load

    def _expert(self, name: str, expert: int) -> Callable[[], Tensor]:
        def load() -> Tensor:
            if self._stack[0] != name:
                self._stack = (name, self._weights[name])
            return self._stack[1][expert]

        return load
