"""An adapter on the disk: what ``congling sft`` writes, and every adapter format can be made from.

::

    runs/poet/adapter/
    ├── adapter.safetensors   blocks.0.attention.query.weight.a (r, inputs)  ….b (outputs, r), float32,
    │                         of DoRA ….magnitude (outputs,)
    ├── adapter.json          scales; the base: fingerprint, name, configuration; how it was trained
    └── MANIFEST.json         kind "adapter"

The base itself is never copied: it is named by the fingerprint of its directory, or the SHA-256 of its file.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from congling.core import artifact, files
from congling.core.config import build
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.model.checkpoint import open_safetensors
from congling.model.config import ModelConfig
from congling.transform.adapter import Adapter, Factors

KIND = "adapter"
WEIGHTS, DESCRIPTION = "adapter.safetensors", "adapter.json"
_LARGEST_DESCRIPTION = 2**24  # bytes of adapter.json; a thousand layers need a tenth of a megabyte
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Base:
    """The model an adapter was trained on."""

    fingerprint: str
    """Of a checkpoint directory; of a GGUF file its SHA-256."""
    name: str
    """File or directory name, for people."""
    model: ModelConfig
    """Its configuration: what names, shapes and the order of rows follow from."""

    def as_json(self) -> dict[str, Any]:
        """As ``adapter.json`` holds it."""
        return {
            "fingerprint": self.fingerprint,
            "name": self.name,
            "model": self.model.model_dump(mode="json"),
        }


def write(path: Path | str, adapter: Adapter, base: Base, *, overwrite: bool = False) -> Path:
    """Write an adapter directory, whole or not at all.

    Raises:
        UserError: ``path`` exists and is not to be replaced.
    """
    with artifact.writing(path, KIND, facts={"base": base.fingerprint}, overwrite=overwrite) as folder:
        write_files(adapter, base, folder)
    return Path(path)


def write_files(adapter: Adapter, base: Base, folder: Path) -> None:
    """Write the two files into an existing directory; ``adapter.facts`` must be JSON values."""
    tensors = {}
    for name, factors in adapter.factors.items():
        for part, value in factors.tensors().items():
            tensors[f"{name}.{part}"] = value.detach().to("cpu", torch.float32).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    scales = {name: factors.scale for name, factors in adapter.factors.items()}
    content = dict(adapter.facts) | {"base": base.as_json(), "scales": scales}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    write_text(folder / DESCRIPTION, text + "\n")


def locate(path: Path | str) -> Path | None:
    """The adapter directory that ``path`` is, or that the run at ``path`` holds; None where there is none."""
    places = (Path(path), Path(path) / "adapter")
    return next((place for place in places if (place / DESCRIPTION).is_file()), None)


def facts(path: Path | str) -> Mapping[str, Any]:
    """What ``adapter.json`` says of how the adapter was made, without reading the adapter itself.

    Raises:
        UserError: there is no adapter, or its description is damaged.
    """
    folder = locate(path)
    return {} if folder is None else _description(folder / DESCRIPTION)


def read(path: Path | str) -> Adapter:
    """Open an adapter directory (or the run that made one), checking its files.

    The facts of the adapter are those of ``adapter.json``; ``name`` is there in any case.

    Raises:
        UserError: there is none, or it is damaged: a factor alone, impossible shapes, values not finite.
    """
    folder = locate(path)
    if folder is None:
        raise UserError(
            "there is no adapter here", value=str(path), hint=f"its directory holds {DESCRIPTION}"
        )
    sealed = artifact.exists(folder)
    if sealed:
        kind = "checkpoint" if (folder / "state").is_dir() else KIND
        artifact.opened(folder, kind, verify=True)
    content = _description(folder / DESCRIPTION)
    scales = content.pop("scales")
    names = _names(folder / WEIGHTS, scales)
    factors = {name: _factors(folder / WEIGHTS, name, parts, scales[name]) for name, parts in names.items()}
    if not sealed:  # what is wrong with the files says more, so it comes first
        raise UserError(
            "this adapter has no manifest, so nobody can tell whether its files are whole",
            where=folder,
            value=artifact.MANIFEST,
            hint="copy the whole directory again, or make it again",
        )
    return Adapter(factors, {"name": folder.resolve().name} | content)


def base_of(adapter: Adapter) -> Base:
    """The base that the facts of an adapter directory name.

    Raises:
        UserError: they name none.
    """
    where = adapter.facts.get("name")
    found = adapter.facts.get("base")
    if not isinstance(found, Mapping) or not isinstance(found.get("model"), Mapping):
        raise UserError(
            "the adapter does not say what base it is for", where=where, hint="name it with --base"
        )
    model = build(ModelConfig, found["model"], where=f"{where}, base", recorded=True)
    return Base(str(found.get("fingerprint", "")), str(found.get("name", "")), model)


def _description(file: Path) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        if size > _LARGEST_DESCRIPTION:
            raise UserError("too large to be the description of an adapter", where=file, value=size)
        content = json.loads(files.text(file, _LARGEST_DESCRIPTION))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as JSON ({type(error).__name__})", where=file) from None
    scales = content.get("scales") if isinstance(content, dict) else None
    if not isinstance(scales, dict) or not scales:
        raise UserError("does not describe an adapter: scales are missing", where=file)
    for name, scale in scales.items():
        number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
        if not number or not math.isfinite(scale):
            raise UserError(
                "the scale of an adapter is a finite number", where=file, value=f"{name}: {scale}"
            )
    return content


def _names(file: Path, scales: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """The adapted parameters, checked to be the same in both files, and the tensors of each."""
    expected = {f"{name}.{part}" for name in scales for part in "ab"}
    magnitudes = {f"{name}.magnitude" for name in scales}
    with open_safetensors(file) as stored:
        found = set(stored.keys())
    odd = sorted(expected ^ (found - magnitudes))
    if odd:
        what = "a tensor is missing" if odd[0] in expected else "a tensor that no scale belongs to"
        raise UserError(what, where=file, value=odd[0], hint="the two files belong to different adapters")
    return {name: ("a", "b", "magnitude") if f"{name}.magnitude" in found else ("a", "b") for name in scales}


def _factors(file: Path, name: str, parts: tuple[str, ...], scale: float) -> Factors:
    with open_safetensors(file) as stored:
        shapes = [tuple(stored.get_slice(f"{name}.{part}").get_shape()) for part in parts]
        dimensions = [len(shape) for shape in shapes]
        paired = dimensions[:2] == [2, 2] and shapes[0][0] == shapes[1][1] and 0 not in shapes[0]
        if not paired or shapes[2:] not in ([], [shapes[1][:1]]):
            raise UserError("these are no factors of one matrix", where=file, value=f"{name}: {shapes}")
        tensors = {part: stored.get_tensor(f"{name}.{part}") for part in parts}
    types = [tensor.dtype for tensor in tensors.values()]
    if any(kind not in _PRECISIONS for kind in types):
        what, value = "factors are floating-point numbers", f"{name}: {', '.join(map(str, types))}"
        raise UserError(what, where=file, value=value)
    found = Factors(scale=float(scale), **{part: tensor.float() for part, tensor in tensors.items()})
    if not found.is_finite():
        raise UserError("the adapter holds values that are not finite", where=file, value=name)
    return found
