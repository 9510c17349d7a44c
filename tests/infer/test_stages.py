"""The verbs `generate` and `chat` as a person calls them."""

import io
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from congling.cli import application, main
from congling.core.errors import UserError
from congling.infer.chat import Conversation
from congling.infer.checkpoints import Loaded
from congling.infer.generate import generate
from congling.infer.mixing import mix
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


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_generate_warns_of_what_it_does_not_read(run: Path, stream: str):
    long = called(generate_stage.command, str(run), "--prompt", "学而时习之" * 9, "-n", "1", stream)
    assert "warning: the prompt is longer than the model's context of 32 tokens: its first 15 are not" in long
    text = called(
        generate_stage.command, str(run), "--prompt", "学" * 20, "-n", "40", "--temperature", "3", stream
    )
    fits = called(generate_stage.command, str(run), "--prompt", "学" * 20, "-n", "2", stream)
    assert "prompt is longer" not in text and "warning" not in fits


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


def test_adapters_are_named_as_llama_cpp_names_them(gguf: Path, adapters: list[Path]):
    """Two words after --lora-scaled, or one with a colon, and the model as an argument or an option."""

    def written(*words: object) -> str:
        options = ["-p", "从零", "-n", "12", "--temperature", "0"]
        arguments = ["generate", *map(str, words), *options]
        result = CliRunner().invoke(application(arguments), arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    first, second = adapters
    words = written(gguf, "--lora-scaled", first, "0.9", "--lora", second)
    assert words == written("--model", gguf, "--lora-scaled", f"{first}:0.9", "--lora", second)
    assert words == written("-m", gguf, "--lora-scaled", f"{first}:0.9,{second}:1")
    assert words == written("--lora-scaled", first, 0.9, gguf, "--lora-scaled", second, 1e0)
    assert words != written(gguf)
    assert written(gguf, "--lora", f"{first},{second}") == written(gguf, "--lora", first, "--lora", second)
    assert written(gguf, "--lora-scaled", first, "0") == written(gguf)


@pytest.mark.parametrize("scaled", ["a.gguf", "a.gguf:much", ":0.4"])
def test_an_adapter_without_a_strength_is_refused(scaled: str):
    with pytest.raises(UserError, match="--lora-scaled FILE"):
        mix(None, [scaled])


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf", "1e999"])
def test_a_strength_is_a_finite_number(strength: str):
    words = ["generate", "base.gguf", "--lora-scaled", "a.gguf", strength]
    with pytest.raises(UserError, match="strength must be a finite number"):
        application(words)(words, standalone_mode=False)


def test_one_model_is_needed(gguf: Path):
    for words in (["generate"], ["chat"], ["generate", str(gguf), "--model", str(gguf)]):
        with pytest.raises((UserError, SystemExit)):
            application(words)([*words, "--temperature", "0"], standalone_mode=False)


@pytest.mark.parametrize("output", ["utf-8", "gbk", "big5", "ascii"])
@pytest.mark.parametrize("codec", ["gbk", "gb18030", "utf-8"])
def test_a_terminal_of_another_encoding_is_answered(
    run: Path, monkeypatch: pytest.MonkeyPatch, codec: str, output: str
):
    """What is typed and given as an argument is read, and what is written never raises."""
    heard: list[str] = []
    monkeypatch.setattr(Conversation, "answer", lambda self, line: heard.append(line) or iter(["学😀"]))
    argument = "从零开始".encode(codec).decode("utf-8", "surrogateescape")
    for words in (["chat", str(run)], ["generate", str(run), "-p", argument, "-n", "3"]):
        typed = io.TextIOWrapper(io.BytesIO("学而时习之\n/quit\n".encode(codec)), encoding="utf-8")
        written = io.BytesIO()
        monkeypatch.setattr(sys, "argv", ["congling", *words])
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=output))
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        assert not ended.value.code
        assert ("学" if words[0] == "chat" else "从零开始").encode(output, "replace") in written.getvalue()
    assert heard == ["学而时习之"]
