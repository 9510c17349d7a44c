"""Behind a conversion: how far the model reads, and commands that can be pasted as they are."""

import ast
import shlex
from pathlib import Path

import pytest

from congling.interop import afterwards
from congling.interop.afterwards import adapter_commands, commands, limit
from congling.interop.foreign import ForeignModel
from congling.model.families import FAMILIES
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.character import CharacterTokenizer

CHINESE = CharacterTokenizer("".join(sorted(set(afterwards.CHINESE))))
ENGLISH = CharacterTokenizer("".join(sorted(set(afterwards.ENGLISH))))
TARGETS = ("gguf", "ollama", "hf", "llama2c")


def model(tokenizer: Tokenizer | None = CHINESE, context: int = 64, chat: bool = False) -> ForeignModel:
    size = 400 if tokenizer is None else tokenizer.vocab_size
    config = FAMILIES["llama"](
        vocab_size=size, max_position_embeddings=context, num_hidden_layers=1, hidden_size=64
    )
    return ForeignModel(config, {}, tokenizer, {"chat": chat})


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def test_a_folder_with_dynamic_positions_reads_its_trained_length():
    scaling = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 64}
    plain = model(context=256)
    stretched = ForeignModel(plain.config.replace(positions={"rope_scaling": scaling}), {}, CHINESE, {})
    assert limit(plain, "hf").startswith("reads 256 tokens")
    assert limit(stretched, "hf").startswith("reads 64 tokens")


@pytest.mark.parametrize("to", TARGETS)
def test_the_limit_is_told_in_tokens_and_characters(to: str):
    assert limit(model(), to).startswith("reads 64 tokens, about 64 characters, prompt and answer together; ")
    assert limit(model(context=2048), to).startswith("reads 2,048 tokens, about 2,000 characters")
    assert limit(model(ENGLISH), to).startswith("reads 64 tokens, about 64 characters")
    assert limit(model(None), to).startswith("reads 64 tokens, prompt and answer together; ")


@pytest.mark.parametrize("name", ["book", "a folder/it's", "小说 v1", "Book$HOME"])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("to", TARGETS)
def test_commands_name_the_files_that_were_made(name: str, chat: bool, to: str):
    out = Path(name)
    for command in commands(model(chat=chat), to, out):
        parts = words(command)
        if to == "gguf":
            assert parts[1:5] == ["-m", name, "--ctx-size", "64"]
            assert ("-p" in parts) != chat and ("-no-cnv" in parts) == (parts[0] == "llama-cli" and not chat)
        elif to == "ollama":
            assert parts[:2] == ["ollama", "create"] and parts[3:6] == ["-f", f"{name}/Modelfile", "&&"]
            assert parts[6:] == ["ollama", "run", parts[2]]
            assert parts[2].isascii() and parts[2] == parts[2].lower() and " " not in parts[2]
        elif to == "hf":
            assert parts[:2] == ["python", "-c"]
            tree = ast.parse(parts[2])
            assert name in [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        else:
            assert parts[:4] == ["./run", f"{name}/model.bin", "-z", f"{name}/tokenizer.bin"]


def test_eight_bits_are_for_another_program_of_llama2c():
    assert commands(model(), "llama2c", Path("a"), version=2)[0].startswith("./runq a/model.bin")


def test_a_model_is_begun_in_a_language_it_knows():
    assert words(commands(model(), "gguf", Path("a"))[0])[-1] == "从前"
    assert words(commands(model(ENGLISH), "gguf", Path("a"))[0])[-1] == "Once"


@pytest.mark.parametrize("name", ["style.gguf", "it's mine"])
@pytest.mark.parametrize("to", ["gguf-lora", "ggla", "peft"])
def test_adapters_are_named_beside_their_base(name: str, to: str):
    for base in (None, "base q8.gguf", "runs/book"):
        command = adapter_commands(to, Path(name), base)[-1]
        parts = words(command)
        assert name in (parts[-1] if to != "peft" else ast.literal_eval(parts[2].rpartition(", ")[2][:-1]))
        if to == "gguf-lora":
            assert parts[:3] == ["llama-cli", "-m", base if base == "base q8.gguf" else "BASE.gguf"]
