"""How many bits the weights of a stored model take, part by part: read from headers, no tensor is opened.

An embedding is a third of a small model and more, so "4 bits" is what its blocks have, and not the file.
"""

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from congling.core import files
from congling.core.errors import UserError
from congling.interop.gguf.file import GGUFFile

PARTS = ("embedding", "attention", "mlp", "output", "norms and others")
_PATTERNS = {
    "embedding": r"embedding\.|positions\.|token_embd\.|position_embd\.",
    "attention": r"blocks\.\d+\.attention\.(?!\w*norm)|blk\.\d+\.attn_(?!\w*norm)",
    "mlp": r"blocks\.\d+\.mlp\.(?!\w*norm)|blk\.\d+\.ffn_(?!\w*norm)",
    "output": r"head\.|output\.",
}  # fmt: skip
"""Names of tensors in a checkpoint and in a GGUF file, from their beginning."""
_LARGEST_HEADER = 2**27


@dataclass(frozen=True)
class StoredBits:
    """What stands in a file."""

    file_bytes: int
    """Of the files with weights, vocabulary and headers included where they are in it."""
    tensor_bytes: dict[str, int]
    """By part of the model, see ``PARTS``."""

    def bits(self, weights: int) -> float:
        """Bits of all tensors by the number of weights of the model."""
        return 8 * sum(self.tensor_bytes.values()) / weights


def part_of(name: str) -> str:
    """The part a tensor belongs to, by its name here or in a GGUF file.

    >>> part_of("blocks.0.mlp.up.weight"), part_of("blk.3.attn_norm.weight"), part_of("output.weight")
    ('mlp', 'norms and others', 'output')
    """
    return next((part for part, start in _PATTERNS.items() if re.match(start, name)), PARTS[-1])


def stored_bits(path: Path) -> StoredBits:
    """Of a GGUF file, or of the weights in a checkpoint directory.

    Raises:
        UserError: the file is damaged.
    """
    if path.is_file():
        file = GGUFFile.open(path)
        return _counted(path.stat().st_size, ((one.name, one.bytes) for one in file.tensors.values()))
    weights = sorted(path.glob("*.safetensors"))
    tensors = (pair for file in weights for pair in _tensors(file))
    return _counted(sum(file.stat().st_size for file in weights), tensors)


def _counted(size: int, tensors: Iterator[tuple[str, int]]) -> StoredBits:
    found: dict[str, int] = dict.fromkeys(PARTS, 0)
    for name, length in tensors:
        found[part_of(name)] += length
    return StoredBits(size, found)


def _tensors(file: Path) -> Iterator[tuple[str, int]]:
    """Names and bytes of a safetensors file."""
    try:
        with files.opened(file) as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _LARGEST_HEADER)))
        spans = {name: one["data_offsets"] for name, one in header.items() if name != "__metadata__"}
        yield from ((name, int(end) - int(start)) for name, (start, end) in spans.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        raise UserError("damaged or no safetensors file", where=file) from None
