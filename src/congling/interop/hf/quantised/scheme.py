"""How a folder stores its linear layers, whichever program wrote it. Without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from congling.core.errors import UserError

Format = Literal["gptq", "awq", "pack-quantized", "int-quantized", "bitsandbytes"]
"""The layout of the tensors."""


@dataclass(frozen=True)
class Scheme:
    """How linear layers are stored."""

    format: Format
    bits: int = 8
    group_size: int = -1
    """-1: the whole row."""
    sym: bool = True
    zero_offset: int = 0
    """What is added to stored zeros: 1 in GPTQ's first version."""
    half_scales: bool = True
    """Whether scales written are float16; else, of compressed-tensors alone, float32."""
    threshold: float = 0.0
    """Of bitsandbytes: inputs of this size leave the product in int8."""

    def group_of(self, inputs: int) -> int:
        """Columns of a group in rows of this length."""
        return inputs if self.group_size == -1 else self.group_size

    @property
    def highest(self) -> int:
        """The largest code."""
        return 2**self.bits - 1

    @property
    def method(self) -> str:
        """``quant_method`` of ``quantization_config``."""
        return self.format if self.format in ("gptq", "awq", "bitsandbytes") else "compressed-tensors"

    def facts(self) -> dict[str, Any]:
        """What a checkpoint made of the folder says of how its layers came to be in few bits."""
        said = {"method": self.method, "bits": self.bits, "group_size": self.group_size, "sym": self.sym}
        return said | ({"llm_int8_threshold": self.threshold} if self.format == "bitsandbytes" else {})


class Claims:
    """The values of ``quantization_config``, read with a person's message for each that cannot be."""

    def __init__(self, values: object, where: object) -> None:
        """Raises UserError: it is no object."""
        if not isinstance(values, Mapping):
            raise UserError("quantization_config: an object is needed", where=where, value=values)
        self.values: Mapping[str, Any] = values
        self.where = where

    def within(self, key: str) -> "Claims":
        """The object under a key."""
        return Claims(self.values.get(key), f"{self.where}: {key}")

    def refuse(self, key: str, hint: str | None = None) -> UserError:
        """That the value of a key is one which cannot be read."""
        return UserError(
            f"quantization_config: {key} of this kind cannot be read",
            where=self.where,
            value=self.values.get(key),
            hint=hint or "take the original model, or its GGUF file",
        )

    def one_of(self, key: str, *allowed: object, default: object = None) -> Any:
        """A value that must be among ``allowed``, of the very type."""
        found = self.values.get(key)
        found = default if found is None else found
        if not any(found == value and type(found) is type(value) for value in allowed):
            raise self.refuse(key)
        return found

    def group_size(self, key: str = "group_size") -> int:
        """-1, or columns from 8 on."""
        found = self.values.get(key)
        if type(found) is not int or not (found == -1 or 8 <= found < 2**31):
            raise self.refuse(key)
        return found

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return self.one_of(key, True, False, default=default)

    def without(self, *keys: str) -> None:
        """That these are off, missing or empty."""
        for key in keys:
            if self.values.get(key):
                raise self.refuse(key)
