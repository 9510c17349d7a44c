"""A tokenizer of bytes and a few characters, and a tiny model for it."""

from pathlib import Path

import pytest
import torch

from congling.core import artifact
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.interop import adapters as adapter_formats
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.model.checkpoint import save_model
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.config import TokenizerConfig
from congling.transform import lora
from congling.transform.config import AdapterConfig

TEXT = "从零开始学写字。学而时习之，不亦说乎？\n" * 20


def write_checkpoint(folder: Path, tokenizer: Path, model: Transformer, **facts: object) -> None:
    """A checkpoint directory as training writes it."""
    with artifact.writing(folder, "checkpoint", facts=facts) as path:
        save_model(model, path)
        (path / "tokenizer").mkdir()
        for file in tokenizer.iterdir():
            (path / "tokenizer" / file.name).write_bytes(file.read_bytes())


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("infer") / "tokenizer"
    training.train(TokenizerConfig(kind="character"), lambda: iter([TEXT]), path)
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizer_path: Path) -> Path:
    """A run with two checkpoints; the later one is the best."""
    path = tmp_path_factory.mktemp("infer") / "run"
    size = store.load(tokenizer_path).vocab_size
    for step in (1, 2):
        model = Transformer(
            FAMILIES["qwen3"](
                vocab_size=size, max_position_embeddings=32, num_hidden_layers=2, hidden_size=64
            )
        )
        model.initialise(step)
        for parameter in model.parameters():
            parameter.data.mul_(8)  # decided enough that greedy choices are no near ties
        write_checkpoint(path / f"checkpoints/step-{step:08d}", tokenizer_path, model, step=step)
    (path / "LATEST").write_text("step-00000001\n")
    (path / "BEST").write_text("step-00000002\n")
    return path


@pytest.fixture(scope="session")
def loaded(run: Path) -> Loaded:
    return load_checkpoint(run)


@pytest.fixture(scope="session")
def undecided(loaded: Loaded) -> Loaded:
    """A model to which all tokens are nearly alike, so that what is drawn shows the random numbers."""
    model = Transformer(loaded.model.config)
    model.initialise(5)
    return Loaded(model.eval(), loaded.tokenizer, loaded.checkpoint)


@pytest.fixture(scope="session")
def padded(loaded: Loaded) -> Loaded:
    """A model whose rows were padded, as they are nearly everywhere; those behind the tokens always win."""
    size = loaded.tokenizer.vocab_size
    config = loaded.model.config.replace(vocab_size=size + 40, tie_word_embeddings=False)
    model = Transformer(config)
    model.initialise(3)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
        model.output_layer().weight[size:] = 30 * torch.randn(40, config.hidden_size)  # type: ignore[index]
    return Loaded(model.eval(), loaded.tokenizer, loaded.checkpoint)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory, loaded: Loaded) -> Path:
    """The best checkpoint as a GGUF file in F32."""
    path = tmp_path_factory.mktemp("infer") / "model.gguf"
    gguf_model.write(ForeignModel(loaded.model.config, loaded.model.state_dict(), loaded.tokenizer), path)
    return path


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, loaded: Loaded) -> list[Path]:
    """Two adapters for the model as llama.cpp reads them."""
    paths = [tmp_path_factory.mktemp("infer") / f"{name}.gguf" for name in "ab"]
    for seed, path in enumerate(paths):
        model = Transformer(loaded.model.config)
        lora.attach(model, AdapterConfig(r=2), seed=seed)
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if ".b." in name:
                parameter.data.normal_(std=0.3)
        adapter_formats.write(lora.adapter_of(model), model.config, "gguf-lora", path)
    return paths
