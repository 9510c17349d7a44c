"""Ollama: the Modelfile's template says what the chat template says, and stop words end answers."""

import re

import pytest

from congling.interop import ollama
from congling.tokenizer.base import CHATML
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.chat.turns import CHATGLM2

INSTRUCTION = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### 问：' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% else %}{{ '### 答：' + message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### 答：' }}{% endif %}"
)
TALK = [("system", "短些"), ("user", "你好"), ("assistant", "您好"), ("user", "再见")]


def tokenizer(template=CHATML):
    return CharacterTokenizer("你好您再见短些问答：", chat_template=template)


def template_of(text):
    found = re.search(r'TEMPLATE """(.*)"""', text, re.S)
    assert found is not None
    return found[1]


def go(template, messages):
    """What Go makes of the templates written here: a range over messages, and branches by role."""
    parts = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*?)", template, re.S)
    assert parts is not None
    loop, opening = parts.groups()
    out = ""
    for role, content in messages:
        text = loop
        if branches := re.findall(r'if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else|\{\{ end)', loop, re.S):
            text = dict(branches)[role]
        out += text.replace("{{ .Role }}", role).replace("{{ .Content }}", content)
    return out + opening


def test_chatml_is_one_line_for_all_roles():
    text, notes = ollama.modelfile(tokenizer(), context=512, chat=True)
    assert template_of(text) == (
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n"
    )
    assert text.startswith("FROM ./model.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert 'PARAMETER stop "<|endoftext|>"' in text
    assert "PARAMETER num_ctx 512" in text
    assert notes == []


@pytest.mark.parametrize("source", [CHATML, INSTRUCTION])
def test_the_go_template_renders_what_the_chat_template_renders(source):
    found = go(ollama.chat_template(tokenizer(source)), TALK)
    if source == CHATML:
        assert found.count("<|im_start|>") == 5
        assert found.endswith("<|im_start|>user\n再见<|im_end|>\n<|im_start|>assistant\n")
    else:
        assert found == "短些\n\n### 问：你好\n### 答：您好<|im_end|>\n### 问：再见\n### 答："


@pytest.mark.parametrize(
    "template",
    [CHATGLM2.replace("[gMASK]sop", ""), "{{ raise_exception('no') }}", "{{ '{{ .System }}' }}" + CHATML],
)
def test_a_template_that_counts_or_refuses_or_imitates_go_is_left_out_and_told(template):
    text, notes = ollama.modelfile(tokenizer(template), context=64, chat=True)
    assert "TEMPLATE" not in text
    assert len(notes) == 1


def test_a_base_model_continues_the_prompt_as_it_is():
    text, _ = ollama.modelfile(tokenizer(), context=64, chat=False)
    assert template_of(text) == "{{ .Prompt }}"


def test_a_system_turn_only_at_the_start_is_no_template_of_ollama():
    source = (
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}{% for m in messages %}"
        "{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + m.content + '<|im_end|>' }}{% endif %}"
        "{% endfor %}"
    )
    assert ollama.chat_template(tokenizer(source)) is None
