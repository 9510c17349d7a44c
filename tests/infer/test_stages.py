"""The verbs `generate` and `chat` as a person calls them."""

from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from congling.infer.checkpoints import Loaded
from congling.infer.generate import generate
from congling.infer.sampler import SamplingConfig
from congling.stages import chat as chat_stage
from congling.stages import generate as generate_stage


def called(command: object, *arguments: str, typed: str = "") -> str:
    app = Typer()
    app.command()(command)  # pyright: ignore[reportArgumentType]
    result = CliRunner().invoke(app, arguments, input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_generate_writes_the_same_text_streamed_or_whole(run: Path, loaded: Loaded):
    options = ("--prompt", "从零", "--max-new-tokens", "20", "--seed", "3", "--top-k", "30")
    (text,) = generate(
        loaded.model, loaded.tokenizer, ["从零"], max_new_tokens=20, sampling=SamplingConfig(seed=3, top_k=30)
    )
    streamed = called(generate_stage.command, str(run), *options)
    assert streamed == called(generate_stage.command, str(run), *options, "--no-stream")
    assert streamed == f"从零{text}\n\n"


def test_generate_continues_several_prompts(run: Path):
    found = generate_stage.run(run, ["从", "学而"], max_new_tokens=5, sampling=SamplingConfig(temperature=0))
    assert len(found) == 2 and all(found)


def test_chat_says_that_the_model_is_not_tuned_and_obeys(run: Path):
    typed = "学\n/reset\n学\n/what\n\n/quit\nnever read\n"
    output = called(chat_stage.command, str(run), "--max-new-tokens", "8", "--temperature", "0", typed=typed)
    assert "has not been tuned" in output and "(forgotten)" in output and "unknown command" in output
    first, second = output.split("\n> ")[1], output.split("\n> ")[3]
    assert first.strip() and first.rstrip() == second.rstrip()


def test_chat_ends_with_its_input(run: Path):
    assert called(chat_stage.command, str(run)).endswith("> \n")


def test_ctrl_c_stops_an_answer_and_then_the_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Stubborn:
        def answer(self, line: str):
            yield "开头"
            raise KeyboardInterrupt

    lines = ["学"]

    def typed(prompt: str) -> str:
        if not lines:
            raise KeyboardInterrupt
        return lines.pop()

    monkeypatch.setattr("builtins.input", typed)
    chat_stage.run(Stubborn())  # pyright: ignore[reportArgumentType]
    assert capsys.readouterr().out == "开头 … (stopped)\n\n"
