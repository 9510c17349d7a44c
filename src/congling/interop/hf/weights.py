"""Weights of a Hugging Face folder under our names: found by the table, checked by shape, read on demand."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.quantised.tensors import QuantisedTensors
from congling.interop.hf.stored import StoredTensors
from congling.interop.names import Entry, entries_of, pattern
from congling.interop.torch_state import named

Shapes = Mapping[str, tuple[int, ...]]
_NO_PARAMETERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
"""Ends of names that hold tables which follow from the configuration."""


class _Place(NamedTuple):
    """Where one of our tensors lies: in one of theirs (``dim``, ``rows``), or one of theirs an expert."""

    entry: Entry
    names: tuple[str, ...]
    dim: int
    rows: slice | None


class Source(NamedTuple):
    """Which of their tensors holds one of ours."""

    name: str
    rows: slice | np.ndarray
    transposed: bool
    one_expert: bool
    """Whether it holds a part of it alone."""


class FolderWeights(Mapping[str, Tensor]):
    """Our tensors, float32, read from the files at each access.

    ``changed`` holds functions by our name for tensors that are not used as they are stored, ``fused_rows``
    numbers of the rows of fused queries, keys and values in our order, if theirs is another.

    Raises:
        UserError: a tensor is missing, unknown or of another shape.
    """

    def __init__(
        self,
        stored: StoredTensors | QuantisedTensors,
        architecture: str,
        shapes: Shapes,
        changed: Mapping[str, Callable[[Tensor], Tensor]],
        fused_rows: np.ndarray | None = None,
    ) -> None:
        self._stored, self._changed, self._fused_rows = stored, changed, fused_rows
        self._prefix, self._architecture = _prefix(stored, architecture), architecture
        self._places = {name: self._find(architecture, name, shapes) for name in shapes}
        self._refuse_unknown(shapes)

    def __getitem__(self, name: str) -> Tensor:
        entry, names, dim, rows = self._places[name]
        if entry.one_expert:
            found = torch.stack([self._stored.read(part) for part in names])
        elif rows is not None and self._fused_rows is not None:
            found = self._stored.read(names[0])[self._fused_rows[rows]]
        else:
            found = self._stored.read(names[0], dim, rows)
        found = (found.T if entry.transposed else found).contiguous()
        return self._changed[name](found) if name in self._changed else found

    def source(self, name: str) -> "Source":
        """Where one of our tensors comes from."""
        entry, names, _, rows = self._places[name]
        taken = slice(None) if rows is None else rows
        if rows is not None and self._fused_rows is not None:
            taken = self._fused_rows[rows]
        return Source(names[0], taken, entry.transposed, entry.one_expert)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _find(self, architecture: str, name: str, shapes: Shapes) -> _Place:
        _, layer = pattern(name)
        entries = entries_of(architecture, name)
        for entry in entries:
            first = self._their(entry, layer, 0)
            if first in self._stored:
                return self._place(entry, name, layer, shapes)
        missing = self._their(entries[0], layer, 0) if entries else f"{name}, which {architecture} has not"
        raise UserError("a tensor is missing", where=self._where, value=missing, hint=named(self._stored))

    def _place(self, entry: Entry, name: str, layer: int | None, shapes: Shapes) -> _Place:
        """The place of a tensor within an entry that is there, every shape compared."""
        if entry.one_expert:
            count = shapes[name][0]
            last = self._their(entry, layer, count - 1)
            if count > len(self._stored) or last not in self._stored:
                raise UserError("the tensor of an expert is missing", where=self._where, value=last)
            names = tuple(self._their(entry, layer, expert) for expert in range(count))
            for part in names:
                self._compare(part, shapes[name][1:])
            return _Place(entry, names, 0, None)
        theirs = self._their(entry, layer, 0)
        parts = [shapes[part.format(layer)] for part in entry.ours]
        whole = list(parts[0])
        dim = max(0, len(whole) - 2)  # of the output rows
        sizes = [part[dim] for part in parts]
        whole[dim] = sum(sizes)
        if entry.transposed:
            whole.reverse()
            dim = 1 - dim
        self._compare(theirs, tuple(whole))
        if len(parts) == 1:
            return _Place(entry, (theirs,), 0, None)
        index = entry.ours.index(pattern(name)[0])
        return _Place(entry, (theirs,), dim, slice(sum(sizes[:index]), sum(sizes[: index + 1])))

    def _compare(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._stored:
            raise UserError("a tensor is missing", where=self._where, value=name)
        if self._stored.shape(name) != shape:
            raise UserError(
                f"{name} has the wrong shape, {shape} is needed",
                where=self._where,
                value=self._stored.shape(name),
                hint="the weights belong to another config.json",
            )

    def _their(self, entry: Entry, layer: int | None, expert: int) -> str:
        return entry.theirs.format(layer, expert).removeprefix(self._prefix)

    def _refuse_unknown(self, shapes: Shapes) -> None:
        known = {name for place in self._places.values() for name in place.names}
        if "head.weight" not in shapes:
            head = entries_of(self._architecture, "head.weight")[0].theirs
            known.add(head)  # a copy of the embedding that some programs store
        unknown = sorted(
            name for name in self._stored if name not in known and not name.endswith(_NO_PARAMETERS)
        )
        if unknown:
            raise UserError(
                f"{len(unknown)} tensors no part of this model uses, the first",
                where=self._where,
                value=unknown[0],
            )

    @property
    def _where(self) -> str:
        return str(self._stored.files[0].parent)


def _prefix(stored: StoredTensors | QuantisedTensors, architecture: str) -> str:
    """What names lack here: models saved without their head lack ``model.`` (of GPT-2 ``transformer.``)."""
    whole = entries_of(architecture, "embedding.weight")[0].theirs
    outer, _, inner = whole.partition(".")
    return f"{outer}." if whole not in stored and inner in stored else ""
