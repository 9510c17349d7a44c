"""Writing a safetensors file tensor by tensor, so that a large model never is in memory as a whole.

::

    u64 length of the header │ header: JSON, padded with spaces to 8 bytes │ data of all tensors, no gaps

Format: https://huggingface.co/docs/safetensors
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write floating-point tensors in the order of the mapping, which is read twice if it is lazy.

    Raises:
        KeyError: a tensor is not float32, float16 or bfloat16.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        kind = _TYPES[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
