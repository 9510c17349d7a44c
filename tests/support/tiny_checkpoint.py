"""A checkpoint small enough to convert in a blink."""

from pathlib import Path

import torch

from congling.core import artifact
from congling.interop import checkpoint_directory
from congling.interop.foreign import ForeignModel
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer("从零开始学而时习之不亦说乎云对雨雪风晚照晴空")


def write(
    folder: Path, family: str = "llama", positions: dict[str, object] | None = None, **sizes: object
) -> Path:
    """A checkpoint with random weights."""
    shape = {
        "vocab_size": TOKENIZER.vocab_size,
        "max_position_embeddings": 64,
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
    } | sizes
    config = FAMILIES[family](**shape).replace(norm={"eps": 1e-5}, positions=positions or {})  # type: ignore[arg-type]
    model = Transformer(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.randn(tensor.shape) * 0.15 + ("norm.weight" in name))
    with artifact.writing(folder, "checkpoint", facts={"chat": True}) as inner:
        checkpoint_directory.write(ForeignModel(model.config, model.state_dict(), TOKENIZER), inner)
    return folder
