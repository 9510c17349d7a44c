"""Opening what is trained further: a checkpoint, a run, or a GGUF file whose weights stay packed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from congling.core.artifact import Artifact, file_hash
from congling.infer.checkpoints import load_checkpoint, open_gguf
from congling.infer.reading import EXTENDED, Reading, extension_of, reading_of, trained_length
from congling.interop.adapter_directory import Base
from congling.interop.gguf.packed import load_packed
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer
from congling.quant.frozen import FrozenLinear
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.templates import with_template


@dataclass(frozen=True)
class OpenedBase:
    """A model to train further, with all that is known of it."""

    path: Path
    """As it was named."""
    artifact: Artifact
    """What a run is compared with when it goes on; of a file, one that names its SHA-256."""
    model: ModelConfig
    tokenizer: Tokenizer
    packed: bool
    """Whether the weights stay in few bits (a GGUF file, a quantised checkpoint), and can only take an
    adapter."""
    chat: bool
    """Whether it was tuned for its chat template."""
    size: int
    """Bytes its weights take in memory."""
    build: Callable[[int], Transformer]
    """The model, given the longest row it will be trained on."""
    template: str | None = None
    """Chat template that was put in place of the base's own."""

    @property
    def reading(self) -> Reading:
        """How it was trained to read rows of text."""
        return reading_of(self.artifact, self.model)

    @property
    def trained_length(self) -> int:
        """Tokens of the longest texts it was trained on, where its context was extended; else its context."""
        return trained_length(self.artifact.facts, self.model)

    def described(self) -> dict[str, Any]:
        """What a run keeps of it in its plan: where it is, and how its context was extended."""
        extended = dict(extension_of(self.artifact.facts))
        return {"path": str(self.path)} | ({EXTENDED: extended} if extended else {})

    @property
    def identity(self) -> Base:
        """What an adapter remembers of it."""
        return Base(self.artifact.fingerprint, self.path.resolve().name, self.model)

    @property
    def tokenizer_directory(self) -> Path | None:
        """To be copied into checkpoints of the whole model; of a packed one there are none."""
        return None if self.packed else self.artifact.path / "tokenizer"

    def under_template(self, name: str) -> "OpenedBase":
        """The same base with another chat template, by name or as Jinja source.

        Raises:
            UserError: no such template, or nothing in the vocabulary can end an answer under it.
        """
        changed = with_template(self.tokenizer, name)
        return replace(self, tokenizer=changed, template=changed.chat_template)


def open_base(path: Path | str) -> OpenedBase:
    """Open a checkpoint, a run, or a GGUF file.

    Raises:
        UserError: there is none, it is damaged, or it has no tokenizer.
    """
    path = Path(path)
    if path.is_file():
        return _gguf(path)
    loaded = load_checkpoint(path, "cpu")
    size = sum(part.numel() * part.element_size() for part in tensors_of(loaded.model))
    return OpenedBase(
        path,
        loaded.checkpoint,
        loaded.model.config,
        loaded.tokenizer,
        packed=any(isinstance(module, FrozenLinear) for module in loaded.model.modules()),
        chat=loaded.tuned_for_chat,
        size=size,
        build=lambda longest: loaded.model,
    )


def tensors_of(model: Transformer) -> Iterator[Tensor]:
    """All that a model's weights consist of, in floats or in few bits."""
    yield from model.parameters()
    for module in model.modules():
        if isinstance(module, FrozenLinear):
            yield from module.buffers()


def _gguf(path: Path) -> OpenedBase:
    opened = open_gguf(path)
    return OpenedBase(
        path,
        Artifact(path, "gguf", file_hash(path), {}, {}),
        opened.model,
        opened.tokenizer,
        packed=True,
        chat=opened.facts["chat"],
        size=path.stat().st_size,
        build=lambda longest: load_packed(opened.file, context=longest),
    )
