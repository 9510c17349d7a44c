"""Commands of a chat: what each does to the conversation, and what it says where it cannot."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.infer.chat import Conversation
from congling.infer.checkpoints import Loaded
from congling.infer.commands import COMMANDS, help_text
from congling.infer.sampler import SamplingConfig


@pytest.fixture
def conversation(undecided: Loaded) -> Conversation:
    plain = replace(undecided, checkpoint=replace(undecided.checkpoint, facts={"chat": False}))
    return Conversation(plain, sampling=SamplingConfig(temperature=1.5), max_new_tokens=8)


def said(conversation: Conversation, text: str) -> str:
    return "".join(conversation.answer(text))


def test_retry_answers_the_same_question_in_other_words(conversation: Conversation):
    first = said(conversation, "学")
    tries = ["".join(conversation.retry()) for _ in range(3)]
    assert len({first, *tries}) == 4
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[-1]["content"] == tries[-1]
    conversation.reset()
    assert said(conversation, "学") == first
    assert ["".join(conversation.retry()) for _ in range(3)] == tries


def test_nothing_asked_is_nothing_to_retry(conversation: Conversation):
    with pytest.raises(UserError, match="no question"):
        conversation.retry()


def test_temperature(conversation: Conversation):
    assert COMMANDS["/temp"].run(conversation, "") == "temperature 1.5"
    assert COMMANDS["/temp"].run(conversation, "0") == "temperature 0"
    assert said(conversation, "学") == "".join(conversation.retry()), "the likeliest does not change"
    for wrong in ("-1", "nan", "inf", "warm", "1e999"):
        with pytest.raises(UserError, match="a temperature is"):
            COMMANDS["/temp"].run(conversation, wrong)
    assert conversation.sampling.temperature == 0


def test_the_system_message_can_be_changed_while_one_talks(conversation: Conversation):
    said(conversation, "学")
    assert "从零" in COMMANDS["/system"].run(conversation, "从零")
    assert [message["role"] for message in conversation.messages] == ["system", "user", "assistant"]
    COMMANDS["/system"].run(conversation, "开始")
    assert conversation.messages[0]["content"] == "开始" and len(conversation.messages) == 3
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "开始"}]
    COMMANDS["/system"].run(conversation, "-")
    assert conversation.system is None and not conversation.messages
    assert "nothing" in COMMANDS["/system"].run(conversation, "")


def test_a_conversation_is_saved_to_tune_with_or_to_read(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="nothing to save"):
        COMMANDS["/save"].run(conversation, "a.jsonl")
    answer = said(conversation, "学")
    assert "2 messages in a.jsonl" in COMMANDS["/save"].run(conversation, "a.jsonl")
    (row,) = (json.loads(line) for line in Path("a.jsonl").read_text(encoding="utf-8").splitlines())
    assert row == {"messages": conversation.messages} and row["messages"][1]["content"] == answer
    COMMANDS["/save"].run(conversation, "a.md")
    assert Path("a.md").read_text(encoding="utf-8") == f"user: 学\n\nassistant: {answer}\n"
    COMMANDS["/save"].run(conversation, "")
    assert len(list(tmp_path.glob("chat-*.jsonl"))) == 1
    for name in ("a.jsonl", ".", "~nobody-of-this-name/x", "a.md/below"):
        with pytest.raises(UserError):
            COMMANDS["/save"].run(conversation, name)
    assert not list(tmp_path.glob(".*"))


def test_help_names_every_command():
    assert all(name in help_text() for name in COMMANDS)
