"""Writing a safetensors file tensor by tensor, so that a large model never is in memory as a whole.

::

    u64 length of the header │ header: JSON, padded with spaces to 8 bytes │ data of all tensors, no gaps

Format: https://huggingface.co/docs/safetensors
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from congling.core.progress import track

_TYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int8: "I8", torch.uint8: "U8",
}  # fmt: skip


Layout = Mapping[str, tuple[Sequence[int], torch.dtype]]
"""Shape and type of each tensor."""


def write(tensors: Mapping[str, Tensor], path: Path, layout: Layout | None = None) -> None:
    """Write tensors in the order of the mapping.

    Without ``layout`` a lazy mapping is read twice, which costs its work twice.

    Raises:
        KeyError: a tensor is of a type that no model's file has.
        ValueError: a tensor is not as ``layout`` has it.
    """
    if layout is None:
        layout = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in tensors:
        shape, dtype = layout[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _TYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in track(tensors.items(), "writing", total=len(tensors), unit="tensors"):
            if (tuple(tensor.shape), tensor.dtype) != (tuple(layout[name][0]), layout[name][1]):
                raise ValueError(f"{name}: {tuple(tensor.shape)}, {tensor.dtype}")
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
