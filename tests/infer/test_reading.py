"""What a checkpoint says of its lengths, and what a person hears of an extended one."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from congling.cli import application
from congling.infer.chat import Conversation
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.reading import extension_after, lengths_in_words, trained_length
from congling.infer.sampler import SamplingConfig
from congling.interop import adapter_directory
from congling.interop.adapters import base_positions
from congling.model.config import ModelConfig
from congling.transform import lora
from congling.transform.config import AdapterConfig
from infer.conftest import write_checkpoint

EXTENDED = {"method": "linear", "factor": 2.0, "from": 16, "to": 32}


@pytest.fixture
def extended(loaded: Loaded, tokenizer_path: Path, tmp_path: Path) -> Path:
    """The tiny model of 32 tokens as one that was trained on 16."""
    write_checkpoint(tmp_path / "long", tokenizer_path, stretched(loaded), extended=EXTENDED)
    return tmp_path / "long"


def stretched(loaded: Loaded):
    """The same weights under positions twice as dense."""
    from congling.model.transformer import Transformer

    model = Transformer(config_of(loaded))
    model.load_state_dict(loaded.model.state_dict())
    return model


def config_of(loaded: Loaded) -> ModelConfig:
    return loaded.model.config.replace(positions={"rope_scaling": {"rope_type": "linear", "factor": 2.0}})


def called(*words: str, typed: str = "") -> str:
    done = CliRunner().invoke(application(list(words)), list(words), input=typed)
    assert done.exit_code == 0, done.output
    return done.output


def test_both_lengths_are_known_of_a_checkpoint(loaded: Loaded):
    config = config_of(loaded)
    assert trained_length({}, config) == 32
    assert trained_length({"extended": EXTENDED}, config) == 16
    assert extension_after({}, 24) == {}
    since = extension_after({"extended": EXTENDED | {"measured": {"text": "…"}}}, 24)
    assert since == {"extension": EXTENDED | {"trained": 24}}  # "extended" are weights as they were
    assert trained_length({"extended": EXTENDED} | since, config) == 24
    assert trained_length(since, config) == 24
    assert trained_length(extension_after(since, 20), config) == 24  # what was learnt stays
    assert trained_length(extension_after(since, 999), config) == 32
    said = "32 tokens, extended from 16 (rotary, base 10000, linear × 2)"
    assert lengths_in_words({"extended": EXTENDED}, config) == f"{said}, not trained further since"
    assert lengths_in_words(since, config) == f"{said}, trained at up to 24 tokens since"
    assert lengths_in_words({}, config) == ""


@pytest.mark.parametrize("damaged", [7, {}, {"from": "16"}, {"from": True}, {"from": -3}, {"from": None}])
def test_a_damaged_fact_is_none(loaded: Loaded, damaged: object):
    facts: dict[str, Any] = {"extended": damaged, "extension": damaged}
    assert trained_length(facts, loaded.model.config) == 32
    assert lengths_in_words(facts, loaded.model.config) == "" and extension_after(facts, 9) == {}


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_generate_tells_once_of_texts_longer_than_trained_on(extended: Path, run: Path, stream: str):
    words = ["-p", "学而时习之" * 4, "-p", "从零" * 10, "-n", "3", stream]
    output = called("generate", str(extended), *words)
    said = "note: the text is longer than the 16 tokens that the model was trained on; it was extended to"
    assert output.count(said) == 1 and "warning" not in output
    written = called("generate", str(extended), "-p", "学", "-n", "20", "--temperature", "3", stream)
    short = called("generate", str(extended), "-p", "学", "-n", "3", stream)
    assert "note" in written or len(written.strip()) < 17
    assert "note" not in short and "note" not in called("generate", str(run), *words)


def test_chat_tells_both_lengths_and_once_of_more(extended: Path, run: Path):
    output = called(
        "chat", str(extended), "--max-new-tokens", "2", typed="学\n学而时习之学而时习之学而\n学\n/quit\n"
    )
    assert "It reads 32 tokens, extended from 16 (rotary, base 10000, linear × 2), not trained" in output
    assert output.count("longer than the 16 tokens that the model was trained on") == 1
    assert "It reads" not in called("chat", str(run), typed="/quit\n")


def test_an_adapter_that_was_trained_on_longer_rows_silences_the_note(extended: Path, tmp_path: Path):
    base = load_checkpoint(extended, "cpu")
    assert base.trained_length == 16
    for rows, known in ((32, 32), (12, 16)):
        lora.attach(base.model, AdapterConfig(r=2))
        facts = extension_after(base.checkpoint.facts, rows) | base_positions.facts_of(base.model.config)
        adapter = lora.adapter_of(base.model, facts=facts)
        lora.detach(base.model)
        identity = adapter_directory.Base("0" * 64, "base", base.model.config)
        path = adapter_directory.write(tmp_path / f"adapter-{rows}", adapter, identity)
        loaded = load_checkpoint(extended, "cpu", adapters=[(path, 1.0)])
        assert loaded.trained_length == known
    talk = Conversation(loaded, sampling=SamplingConfig(), max_new_tokens=1)
    list(talk.answer("学而时习之" * 4))
    assert any("16 tokens that the model was trained on" in notice for notice in talk.notices)
