"""``export-lora``: adapters merged into a GGUF file, tensor by tensor; what they do not touch is copied."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from congling.core.errors import UserError
from congling.interop.adapters.any import read_any
from congling.interop.gguf.architectures import architecture_of
from congling.interop.gguf.arrangement import to_interleaved
from congling.interop.gguf.config import config_from
from congling.interop.gguf.file import GGUFFile, TensorData, write_gguf
from congling.interop.gguf.weights import GGUFWeights, pieces
from congling.llamacpp_trainers.adapter_options import ExportOptions
from congling.llamacpp_trainers.console import Print, say
from congling.quant import ggml
from congling.transform.adapter import Adapter
from congling.transform.merge import merged


def run(options: ExportOptions, out: Print = say) -> None:
    """Write the base with the adapters in it, all of its keys, and each tensor in the type it had.

    Raises:
        UserError: a name is missing, a file cannot be read, an adapter was made for another base, or a type
            cannot be written.
    """
    base, target = options.model_base, options.model_out
    if not base or not target or not options.adapters:
        raise UserError(
            "export-lora needs a base, an adapter and an output", hint="-m FILE -l ADAPTER -o FILE"
        )
    if Path(target).exists() and Path(base).exists() and Path(target).samefile(base):
        raise UserError("the output would take the place of the base", value=target)
    if options.type and options.type not in ggml.TYPES:
        raise UserError("no type of tensors", value=options.type, hint=", ".join(ggml.TYPES))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    file = GGUFFile.open(base)
    config, architecture = config_from(file), architecture_of(file)
    adapters = [(read_any(path, config, architecture), strength) for path, strength in options.adapters]
    for path, strength in options.adapters:
        out(f"export_lora: {path} at {strength:g}")
    merger = _Merger(file, adapters, options.type)
    write_gguf(target, file.fields, [merger.tensor(name) for name in file.tensors], overwrite=True)
    out(f"export_lora: {merger.changed} tensors merged, saved to {target}")


class _Merger:
    """The tensors of the file to write."""

    def __init__(self, file: GGUFFile, adapters: Sequence[tuple[Adapter, float]], type: str) -> None:
        config, architecture = config_from(file), architecture_of(file)
        self.file, self.type, self.changed = file, type, 0
        self.places = pieces(file, config, architecture)
        self.weights = merged(GGUFWeights(file, self.places), adapters)
        adapted = {name for adapter, _ in adapters for name in adapter.factors}
        self.adapted = {self.places[name].tensor for name in adapted}

    def tensor(self, name: str) -> TensorData:
        """A tensor as it was, or with the adapters' products added when its turn comes."""
        info = self.file.info(name)
        if name not in self.adapted:
            return TensorData(name, info.shape, info.type, lambda: self.file.raw(name))
        self.changed += 1
        # A gain stays as it is: rounding it would reach every position.
        type = self.type if self.type and len(info.shape) > 1 else info.type
        return TensorData(name, info.shape, type, lambda: ggml.encode(self._values(name), type))

    def _values(self, name: str) -> np.ndarray:
        """All our parameters in one tensor, one below the other, rows in the file's order."""
        parts = []
        for ours, piece in self.places.items():
            if piece.tensor == name:
                rows = self.weights[ours].float().numpy()
                parts.append(rows if piece.heads is None else to_interleaved(rows, piece.heads))
        return np.concatenate(parts).reshape(self.file.info(name).shape)
