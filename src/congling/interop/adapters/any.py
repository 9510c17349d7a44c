"""An adapter in whatever format it is, told by its content and never by its name; written in a named one."""

from pathlib import Path
from typing import Literal

from congling.core.errors import UserError
from congling.interop import adapter_directory
from congling.interop.adapters import ggla, gguf, peft
from congling.interop.adapters.fitting import checked
from congling.interop.detect import ADAPTERS
from congling.interop.gguf.architectures import READABLE
from congling.interop.source import Source, source_of
from congling.model.config import ModelConfig
from congling.transform.adapter import Adapter

Format = Literal["gguf-lora", "peft", "ggla"]


def read_any(source: Path | str | Source, config: ModelConfig, architecture: str | None = None) -> Adapter:
    """Open an adapter for a model of ``config``.

    Args:
        source: an adapter directory or the run that made one, a GGUF or ggla file, or a PEFT folder.
        config: of the base.
        architecture: the base's architecture in its GGUF file, where it is one, for names and order of rows;
            a class of transformers, as a folder's facts have it, says nothing here.

    Raises:
        UserError: it is no adapter, damaged, or made for another base.
    """
    found = source_of(source)
    architecture = architecture if architecture in READABLE else None
    path = found.path
    match found.kind:
        case "adapter":
            return checked(adapter_directory.read(path), config, path)
        case "gguf-lora":
            return gguf.read(path, config, architecture)
        case "ggla":
            return ggla.read(path, config, architecture)
        case "peft":
            return peft.read(path, config)
        case other:
            hint = f"one of: {', '.join(ADAPTERS)}"
            raise UserError(f"an adapter is needed, and this is: {other}", value=str(path), hint=hint)


def write(
    adapter: Adapter,
    config: ModelConfig,
    to: Format,
    path: Path | str,
    architecture: str | None = None,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Write an adapter for a model of ``config``; returns notes on what the format cannot hold.

    Raises:
        UserError: the format can hold nothing of it, does not exist, or something is at ``path``.
    """
    architecture = architecture if architecture in READABLE else None
    match to:
        case "gguf-lora":
            return gguf.write(adapter, config, path, architecture, overwrite=overwrite)
        case "ggla":
            return ggla.write(adapter, config, path, architecture, overwrite=overwrite)
        case "peft":
            return peft.write(adapter, config, path, overwrite=overwrite)
        case _:
            raise UserError("no format of adapters", value=to, hint="gguf-lora, peft or ggla")
