"""A model and others that differ from it by a little noise, and tokens to read."""

from pathlib import Path

import numpy as np
import torch

from congling.core.artifact import Artifact
from congling.data.token_split import TokenSplit
from congling.infer.checkpoints import Loaded
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer

EOS, VOCABULARY = 0, 32


def split(tokens: int = 400, documents: int = 4) -> TokenSplit:
    ids = np.random.default_rng(0).integers(1, VOCABULARY, tokens).astype(np.uint16)
    ends = np.linspace(tokens / documents, tokens, documents).astype(np.int64)
    ids[ends - 1] = EOS
    sizes = np.diff(ends, prepend=0)
    return TokenSplit(ids, ends, sizes, 3 * sizes, EOS, VOCABULARY)


def loaded(noise: float = 0.0) -> Loaded:
    """A model, its weights moved a little."""
    model = Transformer(
        FAMILIES["qwen3"](
            vocab_size=VOCABULARY, max_position_embeddings=16, num_hidden_layers=2, hidden_size=32
        )
    )
    for size, seed in ((0.15, 5), (noise, 9)):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return Loaded(model.eval(), CharacterTokenizer("天地"), Artifact(Path("m"), "checkpoint", "", {}, {}))
