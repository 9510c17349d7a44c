"""What a path holds, told by its content and never by its name."""

import json
import zipfile
from pathlib import Path
from typing import Literal

from congling.core import artifact, files
from congling.core.addresses import refuse_address
from congling.core.errors import UserError

Kind = Literal[
    "run", "checkpoint", "adapter", "tokenizer", "gguf", "gguf-lora", "hf", "peft", "ggla", "llama2c",
    "ollama", "torch", "sentencepiece", "tokenizer-json",
]  # fmt: skip
"""Ours first: ``run`` is a directory that leads to checkpoints."""
MODELS: tuple[Kind, ...] = ("run", "checkpoint", "gguf", "hf", "llama2c", "ollama", "torch")
ADAPTERS: tuple[Kind, ...] = ("adapter", "gguf-lora", "peft", "ggla")
_SIGNS: dict[str, Kind] = {
    **dict.fromkeys(("BEST", "LATEST", "run/BEST", "run/LATEST"), "run"),
    "adapter_config.json": "peft", "config.json": "hf", "model.bin": "llama2c", "Modelfile": "ollama",
    "tokenizer.json": "tokenizer-json", "tokenizer_config.json": "tokenizer-json",
}  # fmt: skip
"""What a directory holds, by the first of these files in it."""
_MAGIC: dict[bytes, Kind] = {b"algg": "ggla", b"24ka": "llama2c"}
_WEIGHTS = ("pytorch_model.bin", "consolidated.00.pth", "ckpt.pt")


def kind_of(path: Path | str) -> Kind:
    """The format of a file or directory.

    Raises:
        UserError: there is nothing, it holds a pickle, or nothing that we know.
    """
    refuse_address(path)
    path = Path(path)
    if path.is_dir():
        return _directory(path)
    if not path.is_file():
        raise UserError("no such file or directory", value=str(path))
    return _file(path)


def refuse_pickle(path: Path) -> None:
    """Raise if a file is a pickle, whatever it is called: opening one runs the code in it.

    Raises:
        UserError: it is one, or it cannot be read.
    """
    head = _head(path)
    # An opcode follows the protocol's number; a llama2.c model of width 640 begins with 80 02 00 00.
    protocol = len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5 and head[2:4] != b"\0\0"
    if protocol or is_archive(path):
        hint = "get the weights as safetensors or GGUF, or convert them in the program they come from"
        if not protocol:
            hint = "congling import takes the tensors of a training script out of it, unrun"
        raise UserError(
            "a pickle is not opened: it can run any code on this machine", value=str(path), hint=hint
        )


def _directory(path: Path) -> Kind:
    if artifact.exists(path):
        return _artifact(path)
    for name, kind in _SIGNS.items():
        if (path / name).is_file():
            return kind
    for name in _WEIGHTS:
        if is_archive(path / name):
            hint = f"name the file itself: {path / name}"
            raise UserError("a checkpoint of torch without a config.json", value=str(path), hint=hint)
        if (path / name).is_file():
            refuse_pickle(path / name)
    hint = "name a checkpoint, a run, a GGUF file, a Hugging Face folder or a llama2.c model.bin"
    raise UserError("this directory holds no model, adapter or tokenizer", value=str(path), hint=hint)


def _artifact(path: Path) -> Kind:
    try:
        kind = json.loads(files.text(path / artifact.MANIFEST))["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"the manifest cannot be read ({type(error).__name__})"
        raise UserError(why, where=path / artifact.MANIFEST) from None
    match kind:
        case "checkpoint" | "adapter" | "tokenizer":
            return kind
        case _:
            raise UserError("this directory holds no model, adapter or tokenizer", where=path, value=kind)


def _file(path: Path) -> Kind:
    head = _head(path)
    if head[:4] == b"GGUF":
        return _gguf(path)
    if head[:4] in _MAGIC:
        return _MAGIC[head[:4]]
    if is_archive(path):
        return "torch"
    refuse_pickle(path)
    if head.lstrip()[:1] == b"{":
        return "tokenizer-json"
    if head[8:9] == b"{":  # a header behind its length
        hint = "name its folder, with config.json or adapter_config.json beside it"
        raise UserError("a safetensors file alone does not say what it is", value=str(path), hint=hint)
    if _is_llama2c(path):
        return "llama2c"
    if head[:1] == b"\n":  # the first field of its message
        return "sentencepiece"
    raise UserError("no format that we know", value=str(path), hint="its first bytes are " + repr(head[:8]))


def _gguf(path: Path) -> Kind:
    from congling.interop.gguf.file import GGUFFile

    return "gguf-lora" if GGUFFile.open(path).text("general.type", "model") == "adapter" else "gguf"


def _is_llama2c(path: Path) -> bool:
    """Whether the seven sizes that version 0 begins with explain the length of the file."""
    from congling.interop.llama2c import layout

    try:
        header = layout.Header.unpacked(_head(path), path)
    except UserError:
        return False
    return layout.file_bytes(header) == path.stat().st_size


def _head(path: Path) -> bytes:
    try:
        with files.opened(path) as file:
            return file.read(256)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", value=str(path)) from None


def is_archive(path: Path) -> bool:
    """Whether a file is an archive that torch saved: a zip with a pickle in it, which is not opened."""
    try:
        with files.opened(path) as stream:
            if stream.read(4) != b"PK\x03\x04":
                return False
            with zipfile.ZipFile(stream) as archive:
                return any(name.endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
