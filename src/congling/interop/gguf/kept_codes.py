"""Tensors of a GGUF file that keep the codes of a checkpoint in few bits."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from congling.core.units import plural, show_bytes
from congling.interop.gguf.sources import Source
from congling.interop.gguf.writer import TensorData
from congling.quant import as_blocks, ggml
from congling.quant.experts import parameter_of
from congling.quant.frozen import FrozenLinear
from congling.quant.mixtures import COPY


class KeptCodes(Mapping[str, np.ndarray]):
    """Blocks (…, O, bytes of a row) uint8 by our parameter, each made when it is asked for.

    Attributes:
        types: of the tensors that keep their codes, by GGUF's name.
        others: tensors with layers in few bits that do not, by GGUF's name.
        off: how far a weight is off at most, where minima had to be rounded.
    """

    def __init__(
        self,
        layers: Mapping[str, FrozenLinear],
        listed: Sequence[Source],
        types: Mapping[str, str] | None = None,
    ) -> None:
        """``types`` are those that all tensors are to have; by default each gets the one of fewest bits that
        holds its codes exactly."""
        self._layers, self._types = layers, dict[str, str]()
        self._places: dict[str, list[str]] = {}
        for place in sorted(layers, key=lambda place: (len(place), place)):  # expert 2 before expert 10
            self._places.setdefault(parameter_of(place), []).append(place)
        self.types, self.others, self.off = dict[str, str](), list[str](), 0.0
        for source in listed:
            if not source.parameters or not self._places.keys() >= set(source.parameters):
                continue
            misses = self._misses(source, as_blocks.TYPES if types is None else (types[source.name],))
            if types is None:
                misses = {type: off for type, off in misses.items() if not off}
            if not misses:
                self.others.append(source.name)
                continue
            type, off = next(iter(misses.items()))
            self.types[source.name], self.off = type, max(self.off, off)
            self._types |= dict.fromkeys(source.parameters, type)

    def _misses(self, source: Source, types: Sequence[str]) -> dict[str, float]:
        """Types that hold the codes of all layers in a tensor, and how far weights are off at most."""
        found = {type: 0.0 for type in types if type in as_blocks.TYPES}
        for place in (place for name in source.parameters for place in self._places[name]):
            if found:
                codes = as_blocks.codes_of(self._layers[place])
                misses = {type: None if codes is None else codes.miss(type) for type in found}
                found = {type: max(found[type], off) for type, off in misses.items() if off is not None}
        return found

    def __getitem__(self, name: str) -> np.ndarray:
        type, places = self._types[name], self._places[name]
        found = [as_blocks.codes_of(self._layers[place]) for place in places]
        made = [codes.blocks(type) for codes in found if codes is not None]
        return made[0] if places == [name.removesuffix(".weight")] else np.stack(made)

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def notes(self, tensors: Sequence[TensorData], asked: str) -> list[str]:
        """What a person is told; ``asked`` is the type they chose."""
        notes = []
        for type, count in Counter(self.types.values()).items():
            bits = 8 * ggml.TYPES[type].bytes / ggml.TYPES[type].values
            notes.append(
                f"{count} {plural(count, 'tensor')} with codes as they are: {type}, {bits:.3g} bits a weight"
            )
        if self.off:
            notes.append(f"their minima are rounded to float16: weights are off by {self.off:.1e} at most")
        kinds = {tensor.name: tensor.type for tensor in tensors}
        anew = Counter(kinds[name] for name in self.others)
        shown = ", ".join(f"{count} {plural(count, 'tensor')} as {type}" for type, count in anew.items())
        if asked == COPY:
            whole = sum(tensor.bytes for tensor in tensors)
            plain = show_bytes(sum(tensor.bytes for tensor in tensors if tensor.name not in self.types))
            notes.append(
                f"all else is in float32, {plain} of {show_bytes(whole)}: a --type puts it in fewer bits"
            )
        if anew and asked == COPY:
            notes.append(f"{shown}: no type holds these codes exactly; --type Q8_0 rounds them")
        elif anew.keys() - {"F32"}:
            notes.append(
                f"{shown}: encoded anew from what codes stand for, which --type {COPY} writes exactly"
            )
        return notes
