"""``export-lora``: adapters merged into a GGUF file, tensor by tensor; what they do not touch is copied."""

from pathlib import Path

import numpy as np
import torch

from congling.core.errors import UserError
from congling.interop.adapters.any import read_any
from congling.interop.gguf.arrangement import to_interleaved, turned_heads
from congling.interop.gguf.config import architecture_of, config_from
from congling.interop.gguf.file import GGUFFile, TensorData, write_gguf
from congling.interop.gguf.names import FUSED, our_name
from congling.model.config import ModelConfig
from congling.quant import ggml
from congling.train.classic.console import Print, say
from congling.train.classic.options import ExportOptions
from congling.transform.adapter import Adapter

Strengths = list[tuple[Adapter, float]]


def run(options: ExportOptions, out: Print = say) -> None:
    """Write the base with the adapters in it, all of its keys, and each tensor in the type it had.

    Raises:
        UserError: a name is missing, a file cannot be read, an adapter was made for another base, or a type
            cannot be written.
    """
    base, target = options.model_base, options.model_out
    if not base or not target or not options.adapters:
        raise UserError("export-lora needs a base, an adapter and an output", hint="-m FILE -l ADAPTER -o FILE")
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
    merger = _Merger(file, config, architecture, adapters, options.type)
    write_gguf(target, file.fields, [merger.tensor(name) for name in file.tensors], overwrite=True)
    out(f"export_lora: {merger.changed} tensors merged, saved to {target}")


class _Merger:
    """The tensors of the file to write."""

    def __init__(
        self, file: GGUFFile, config: ModelConfig, architecture: str, adapters: Strengths, type: str
    ) -> None:
        self.file, self.config, self.architecture, self.adapters = file, config, architecture, adapters
        self.type, self.changed = type, 0

    def tensor(self, name: str) -> TensorData:
        """A tensor as it was, or with the adapters' products added when its turn comes."""
        info = self.file.info(name)
        parts = self._parts(name)
        if not any(part in adapter.factors for part in parts for adapter, _ in self.adapters):
            return TensorData(name, info.shape, info.type, lambda: self.file.raw(name))
        self.changed += 1
        # A gain has no blocks, and its rounding would reach every channel.
        type = self.type if self.type and len(info.shape) > 1 else info.type
        return TensorData(name, info.shape, type, lambda: ggml.encode(self._merged(name, parts), type))

    def _parts(self, name: str) -> list[str]:
        """Our parameters in a tensor: one, or three below each other."""
        if name.endswith(f".{FUSED}.weight"):
            layer = name.split(".")[1]
            return [f"blocks.{layer}.attention.{part}.weight" for part in ("query", "key", "value")]
        ours = our_name(name, self.architecture)
        return [] if ours is None else [ours]

    def _merged(self, name: str, parts: list[str]) -> np.ndarray:
        values = self.file.array(name).copy()
        rows = self.config.attention.rows if len(parts) > 1 else (len(values),)
        ends = np.cumsum(rows)
        for part, height, end in zip(parts, rows, ends, strict=True):
            for adapter, strength in self.adapters:
                if part in adapter.factors:
                    delta = (strength * adapter.factors[part].delta()).float().numpy()
                    heads = turned_heads(part, self.config, self.architecture)
                    delta = delta if heads is None else to_interleaved(delta, heads)
                    place = values[end - height : end]
                    place += delta.reshape(place.shape)
        return values
