"""One whole, small file or folder of each format, for mutants to be made of."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from congling.core import artifact
from congling.model.checkpoint import save_model
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.config import TokenizerConfig

TEXT = "从零开始学写字。学而时习之，不亦说乎？云对雨，雪对风，晚照对晴空。hello world 123\n" * 12


def tokenizer(folder: Path, kind: str = "bpe") -> Tokenizer:
    """A vocabulary of a few pieces."""
    training.train(TokenizerConfig(kind=kind, vocab_size=None if kind == "character" else 320),  # type: ignore[arg-type]
                   lambda: iter([TEXT]), folder)  # fmt: skip
    return store.load(folder)


def model(vocab_size: int, family: str = "llama", **sizes: object) -> Transformer:
    """A model of a few thousand weights."""
    shape = {"vocab_size": vocab_size, "context": 32, "layers": 2, "width": 32, "hidden": 32, "heads": 2} | sizes
    built = Transformer(FAMILIES[family](**shape))  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return built.eval()


def checkpoint(folder: Path, kind: str = "bpe") -> Path:
    """A checkpoint directory."""
    words = tokenizer(folder / "tokenizer", kind)
    with artifact.writing(folder / "checkpoint", "checkpoint", facts={"chat": False}) as path:
        save_model(model(words.vocab_size), path)
        (path / "tokenizer").mkdir()
        for file in (folder / "tokenizer").iterdir():
            if file.name != "report.json":
                (path / "tokenizer" / file.name).write_bytes(file.read_bytes())
    reseal(folder / "checkpoint")
    return folder / "checkpoint"


def reseal(folder: Path) -> None:
    """Write the checksums of the files as they are, as whoever alters them on purpose would."""
    for manifest in sorted(folder.rglob(artifact.MANIFEST), key=lambda path: -len(path.parts)):
        files = sorted(file for file in manifest.parent.rglob("*") if file.is_file() and file != manifest)
        content = json.loads(manifest.read_text())
        content["files"] = {
            file.relative_to(manifest.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
        }
        manifest.write_text(json.dumps(content))


FORMATS: dict[str, Callable[[Path], Path]] = {"checkpoint": checkpoint}
"""What writes the whole file of a format into an empty folder."""
