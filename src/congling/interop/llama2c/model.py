"""Models of llama2.c in our terms and back: ``model.bin`` of version 0, 1 or 2, ``tokenizer.bin`` beside it.

::

    export/
    ├── model.bin          run model.bin -z tokenizer.bin        (version 2: runq)
    └── tokenizer.bin
"""

# H heads, D head width, W width, C context

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.core.output import replacing
from congling.core.progress import track
from congling.interop.foreign import ForeignModel
from congling.interop.gguf.arrangement import to_half_split, to_interleaved
from congling.interop.llama2c import groups, tokenizer_bin
from congling.interop.llama2c.layout import EPSILON, ROPE_BASE, Entry, Header, entries, parse
from congling.interop.obstacles import Obstacle, Unrepresentable
from congling.interop.targets import obstacles
from congling.model.config import AttentionConfig, ModelConfig, RMSNormConfig, RotaryConfig
from congling.model.mlp_config import GatedMLPConfig

MODEL, TOKENIZER = "model.bin", "tokenizer.bin"


def read(path: Path | str) -> ForeignModel:
    """Open a model file, or the folder that holds ``model.bin``; tensors are read when they are asked for.

    A ``tokenizer.bin`` beside it becomes the tokenizer, if it can.

    Raises:
        UserError: no llama2.c model, or one that is cut short.
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    mapped = mapped_file(path)
    header = parse(mapped, path)
    tokenizer, notes = tokenizer_bin.beside(path.with_name(TOKENIZER), header.vocab_size)
    facts = {"name": path.stem, "notes": notes, "types": {"int8": 1} if header.version == 2 else {}}
    return ForeignModel(_config(header), Weights(path, header, mapped), tokenizer, facts)


def write(model: ForeignModel, folder: Path | str, *, version: int = 0, overwrite: bool = False) -> list[str]:
    """Write ``model.bin`` and, if there is a tokenizer, ``tokenizer.bin``; returns notes for the person.

    Raises:
        UserError: run.c cannot run this model or its tokenizer, with the nearest choice that it can.
    """
    notes = _checked(model.config)
    header = _header(model.config, version)
    with replacing(Path(folder), overwrite=overwrite) as temporary:
        temporary.mkdir()
        with (temporary / MODEL).open("wb") as stream:
            _write_tensors(model.weights, header, stream)
        if model.tokenizer is not None:
            notes += tokenizer_bin.write(model.tokenizer, temporary / TOKENIZER, model.config.vocab_size)
    return notes


def _checked(config: ModelConfig) -> list[str]:
    """Notes on what run.c does a little differently from this model.

    Raises:
        UserError: it cannot run the model at all.
    """
    told = config.norm.eps
    found = obstacles(config.replace(norm={"eps": EPSILON}), None, "llama2c")
    if found:
        raise Unrepresentable(Obstacle(f"run.c cannot run this model: {found[0].what}", found[0].nearest))
    if told != EPSILON:
        return [f"run.c normalises with epsilon {EPSILON:g}, this model with {told:g}: it computes otherwise"]
    return []


class Weights(Mapping[str, Tensor]):
    """Tensors of a model file by our names, float32, in half-split order; read when asked for."""

    def __init__(self, path: Path, header: Header, mapped: np.ndarray) -> None:
        self._path, self._header, self._map = path, header, mapped
        self._entries = {entry.name: entry for entry in entries(header) if entry.name != "rotary tables"}

    def __getitem__(self, name: str) -> Tensor:
        """Read one tensor.

        Raises:
            UserError: it holds values that are not numbers.
        """
        entry = self._entries[name]
        values = stored(self._map, entry)
        if not np.isfinite(values).all():
            raise UserError("a tensor holds values that are not finite", where=self._path, value=name)
        heads = _heads(name, self._header)
        return torch.from_numpy(np.ascontiguousarray(to_half_split(values, heads) if heads else values))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def stored(mapped: np.ndarray, entry: Entry) -> np.ndarray:
    """Float32 values of one tensor in the order of the file, a copy."""
    count, start = entry.values, entry.offset
    if not entry.group:
        return mapped[start : start + 4 * count].copy().view("<f4").reshape(entry.shape)
    scales = mapped[start + count : start + entry.bytes].copy().view("<f4")
    return groups.decode(mapped[start : start + count].view(np.int8), scales, entry.group).reshape(
        entry.shape
    )


def mapped_file(path: Path) -> np.ndarray:
    """The file as bytes, without reading it; what is evidently a pickle is refused.

    Raises:
        UserError: it cannot be read, or is a pickle.
    """
    try:
        with files.opened(path) as stream:
            start = stream.read(4)
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if start else b""
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"the file cannot be read ({why})", value=str(path)) from None
    # A pickle's protocol number is followed by an opcode; a width of 640 is stored as 80 02 00 00.
    if start == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1] in range(2, 6) and start[2:] != b"\0\0"):
        raise UserError(
            "this is a PyTorch pickle (ckpt.pt), which can run any program when opened and is never read",
            where=path,
            hint="llama2.c writes model.bin beside ckpt.pt: name that file",
        )
    return np.frombuffer(mapped, np.uint8)


def _config(header: Header) -> ModelConfig:
    return ModelConfig(
        vocab_size=header.vocab_size,
        max_position_embeddings=header.context,
        num_hidden_layers=header.layers,
        hidden_size=header.width,
        attention=AttentionConfig(
            num_attention_heads=header.heads, num_key_value_heads=header.kv_heads, head_dim=header.head_width
        ),
        mlp=GatedMLPConfig(intermediate_size=header.hidden),
        norm=RMSNormConfig(eps=EPSILON),
        positions=RotaryConfig(rope_theta=ROPE_BASE),
        tie_word_embeddings=header.shared,
    )


def _header(config: ModelConfig, version: int) -> Header:
    if version not in (0, 1, 2):
        raise UserError("no such version of llama2.c files", value=version, hint="0, 1 or 2")
    assert isinstance(config.mlp, GatedMLPConfig)
    hidden, attention = config.mlp.intermediate_size, config.attention
    group = groups.group_size(config.hidden_size, hidden) if version == 2 else 0
    return Header(
        version,
        config.hidden_size,
        hidden,
        config.num_hidden_layers,
        attention.num_attention_heads,
        attention.num_key_value_heads,
        config.vocab_size,
        config.max_position_embeddings,
        config.tie_word_embeddings,
        group,
    )


def _write_tensors(weights: Mapping[str, Tensor], header: Header, stream: BinaryIO) -> None:
    stream.write(header.packed())
    listed = list(entries(header))
    for entry in track(listed, "writing", total=len(listed), unit="tensors"):
        if entry.name == "rotary tables":
            stream.write(_rotary_tables(header).astype("<f4").data)
            continue
        values = weights[entry.name].detach().to("cpu", torch.float32).numpy()
        if values.shape != entry.shape:
            raise UserError(f"{entry.name} has the wrong shape, {entry.shape} is needed", value=values.shape)
        heads = _heads(entry.name, header)
        values = np.ascontiguousarray(to_interleaved(values, heads) if heads else values, dtype="<f4")
        for part in groups.encode(values, entry.group) if entry.group else (values,):
            stream.write(part.data)


def _rotary_tables(header: Header) -> np.ndarray:
    """(2, C, D/2): cosines, then sines, computed in the steps of llama2.c's model.py so that bits agree."""
    channels = torch.arange(0, header.head_width, 2).float()
    frequencies = 1.0 / (ROPE_BASE ** (channels / header.head_width))
    angles = torch.outer(torch.arange(header.context), frequencies).float()
    return torch.stack((angles.cos(), angles.sin())).numpy()


def _heads(name: str, header: Header) -> int:
    """Heads whose rows are arranged in rotary pairs; 0 where nothing rotates."""
    part = name.split(".")[-2]
    return header.heads if part == "query" else header.kv_heads if part == "key" else 0
