"""A text on its way through a model's blocks, and what the layers of a block read on it.

::

    rows ─ embedding ─▶ block 0 ─▶ block 1 …
                          │ query, key, value │ output │ gate, up │ down
                          └ each stage may be changed before the next is observed

What a layer is observed on went through all layers before it as they are at that time. Held are the inputs of
one block, and the sums of the layers that are observed together.
"""

# B rows, T time, W width

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from congling.core.errors import UserError
from congling.model.positions import AttentionContext
from congling.model.transformer import Transformer
from congling.quant.config import STAGES, kind_of_layer, read_tensor
from congling.quant.statistics import InputStatistics, InputSums, SquareSums

Rows = tuple[Tensor, Tensor | None, Tensor | None]
"""Ids, positions and documents (B, T) of some rows, as the model takes them; without padding."""
_Sums = TypeVar("_Sums", bound=SquareSums)


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the blocks, with their places."""
    for place, module in model.named_modules():
        if isinstance(module, nn.Linear) and place.startswith("blocks."):
            yield place, module


class _Stop(Exception):
    """All that a pass was for has been seen."""


class Walk:
    """Rows before one block of a model.

    Attributes:
        index: number of the block.
        inputs: (B, T, W) what it reads, batch by batch.
    """

    def __init__(self, model: Transformer, rows: Sequence[Rows]) -> None:
        self.model, self.rows, self.index = model, rows, 0
        self.inputs = [_begun(model, row)[0] for row in rows]

    def places(self) -> list[str]:
        """Of the block's linear layers."""
        start = f"blocks.{self.index}."
        return [place for place, _ in linear_layers(self.model) if place.startswith(start)]

    def stages(self) -> list[list[str]]:
        """The same, stage by stage."""
        return [[place for place in self.places() if kind_of_layer(place) in stage] for stage in STAGES]

    def statistics(self, places: Sequence[str]) -> dict[str, InputStatistics]:
        """What the inputs of some layers of the block look like; one object for those that read one tensor.

        Raises:
            UserError: inputs that are not finite.
        """
        found = self.observed(places, InputSums)
        made = {id(one): one.statistics() for one in found.values()}
        return {place: made[id(one)] for place, one in found.items()}

    def observed(
        self, places: Sequence[str], kind: type[_Sums], *, advance: bool = False
    ) -> dict[str, _Sums]:
        """The same as sums of any kind; with ``advance`` the walk goes on to the next block in the same pass.

        Raises:
            UserError: as ``statistics``.
        """
        readers: dict[tuple[str, ...], str] = {}
        for place in places:
            readers.setdefault(read_tensor(place), place)
        sums: dict[str, _Sums] = {}
        left: set[str] = set()

        def watch(place: str, layer: Any) -> Callable[..., None]:
            sums[place] = kind(layer.in_features, layer.weight.device)

            def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
                sums[place].add(given[0])
                left.discard(place)
                if not left and not advance:
                    raise _Stop

            return see

        with contextlib.ExitStack() as hooks:
            for place in readers.values():
                layer = self.model.get_submodule(place)
                hooks.callback(layer.register_forward_pre_hook(watch(place, layer)).remove)
            for at, (x, row) in enumerate(zip(self.inputs, self.rows, strict=True)):
                left.update(sums)
                with contextlib.suppress(_Stop):
                    made = self.model.blocks[self.index](x, _begun(self.model, row)[1][self.index])
                    self.inputs[at] = made if advance else x
        self.index += advance
        odd = next((place for place, one in sums.items() if not bool(one.squares.isfinite().all())), None)
        if odd is not None:
            what = "the inputs of a layer are not finite: its weights, or those before it, are damaged"
            raise UserError(what, value=odd)
        return {place: sums[readers[read_tensor(place)]] for place in places}

    def advance(self) -> None:
        """Go on to the next block."""
        self.observed((), SquareSums, advance=True)


def _begun(model: Transformer, row: Rows) -> tuple[Tensor, list[AttentionContext]]:
    tokens, positions, documents = row
    return model.begin(tokens, positions=positions, documents=documents)
