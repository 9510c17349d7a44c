"""A tiny model with random weights, and documents it may have been trained on."""

from pathlib import Path

import pytest

from congling.core.artifact import Artifact
from congling.data import corpus
from congling.data.config import DataConfig
from congling.evals.bench import Bench
from congling.infer.checkpoints import Loaded
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer

LETTERS = "从零开始学写字而时习之不亦说乎天地玄黄宇宙洪荒日月盈昃辰宿列张，。？\n"


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    tokenizer = CharacterTokenizer(LETTERS)
    model = Transformer(
        FAMILIES["qwen3"](
            vocab_size=tokenizer.vocab_size,
            max_position_embeddings=64,
            num_hidden_layers=1,
            hidden_size=32,
            num_attention_heads=2,
        )
    )
    model.initialise(1)
    for parameter in model.parameters():
        parameter.data.mul_(6)  # decided enough that greedy choices are no near ties
    return Loaded(model, tokenizer, Artifact(tmp_path_factory.mktemp("model"), "checkpoint", "", {}, {}))


@pytest.fixture(scope="session")
def undecided(loaded: Loaded) -> Loaded:
    """A model to which all tokens are nearly alike, so that what is drawn shows the random numbers."""
    model = Transformer(loaded.model.config)
    model.initialise(2)
    return Loaded(model.eval(), loaded.tokenizer, loaded.checkpoint)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished documents, some held out: lines of 60 to 119 characters, all different."""
    folder = tmp_path_factory.mktemp("documents")
    letters = LETTERS.replace("\n", "")
    lines = [
        "".join(letters[(i * i + i * k + k * k * k) % len(letters)] for i in range(60 + k)) for k in range(60)
    ]
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig(sources=(str(folder / "lines.txt"),), documents="line", overlap=1.0)
    return corpus.make(config, folder / "documents").path


@pytest.fixture
def bench(loaded: Loaded, documents: Path) -> Bench:
    return Bench(loaded, documents=documents, limit=8, prefixes=(10,))
