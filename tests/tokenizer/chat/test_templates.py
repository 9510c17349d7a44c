"""Named templates write what their formats say, and a vocabulary under another one knows what ends a turn."""

from dataclasses import replace
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.tokenizer import store, training
from congling.tokenizer.base import IM_END, Roles, Tokenizer
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.chat.encode import chat_ids, own_words, render, written
from congling.tokenizer.chat.templates import TEMPLATES, checked, name_of, source_of, with_template
from congling.tokenizer.config import TokenizerConfig

SYSTEM, ASK = {"role": "system", "content": "你是"}, {"role": "user", "content": "一"}
SAID, AGAIN = {"role": "assistant", "content": "二"}, {"role": "user", "content": "三"}
TALK = [SYSTEM, ASK, SAID, AGAIN]
# As the formats are published: Qwen2 and Llama 3 model cards, Llama 2's generation.py, ChatGLM2's and
# ChatGLM3's tokenization; {bos} and {eos} are the vocabulary's own.
IM = (
    "<|im_start|>system\n你是<|im_end|>\n<|im_start|>user\n一<|im_end|>\n"
    "<|im_start|>assistant\n二<|im_end|>\n<|im_start|>user\n三<|im_end|>\n<|im_start|>assistant\n"
)
PUBLISHED = {
    "chatml": IM,
    "qwen": IM,
    "llama2": "{bos}[INST] <<SYS>>\n你是\n<</SYS>>\n\n一 [/INST] 二 {eos}{bos}[INST] 三 [/INST]",
    "llama3": "{bos}<|start_header_id|>system<|end_header_id|>\n\n你是<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n一<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n二<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n三<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "chatglm": "[gMASK]sop你是\n\n[Round 1]\n\n问：一\n\n答：二\n\n[Round 2]\n\n问：三\n\n答：",
    "chatglm3": "[gMASK]sop<|system|>\n 你是<|user|>\n 一<|assistant|>\n 二<|user|>\n 三<|assistant|>\n ",
    "none": "你是\n一\n二{eos}三\n",
}
MARKS = {  # special tokens the vocabularies of these families have
    "llama2": ("<s>", "</s>"),
    "llama3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "chatglm3": ("[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "</s>"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("templates") / "tokenizer"
    training.train(
        TokenizerConfig(kind="character"),
        lambda: iter(["从零开始一二三\n你是"] * 9 + ["甲乙丙丁戊己庚辛"]),
        path,
    )
    return store.load(path)


def with_marks(own: Tokenizer, *marks: str) -> Tokenizer:
    """The same vocabulary whose last pieces are these special tokens."""
    made = CharacterTokenizer.__new__(CharacterTokenizer)
    made.__dict__.update(own.__dict__)
    special = dict(own.special) | {mark: own.vocab_size - 1 - place for place, mark in enumerate(marks)}
    made.special = special
    made._special_bytes = {index: text.encode() for text, index in special.items()}
    return made


def text(tokenizer: Tokenizer, messages: list[dict[str, str]], *, answer_next: bool = True) -> str:
    parts = written(tokenizer, messages, answer_next=answer_next)
    return "".join(part if message is None else message["content"] for part, message in parts)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_writes_what_its_format_says(own: Tokenizer, name: str):
    tokenizer = with_template(own, name)
    named = tokenizer.template_texts
    expected = PUBLISHED[name].replace("{bos}", named["bos_token"]).replace("{eos}", named["eos_token"])
    assert text(tokenizer, TALK) == expected
    assert name_of(tokenizer.chat_template) == name


def test_qwen_says_a_system_turn_where_nobody_does(own: Tokenizer):
    found = text(with_template(own, "qwen"), [ASK])
    assert found.startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n一"
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_trained_begins_with_what_is_asked(own: Tokenizer, name: str):
    tokenizer = with_template(with_marks(own, *MARKS.get(name, ())), name)
    prompt = chat_ids(tokenizer, [ASK])
    found = render(tokenizer, [ASK, SAID])
    learnt = [index for index, taken in zip(found.input_ids, found.answer_mask, strict=True) if taken]
    assert found.input_ids[: len(prompt)] == prompt and found.answer_mask.index(True) == len(prompt)
    assert tokenizer.decode(learnt).strip().startswith("二") and learnt[-1] in tokenizer.stop_ids


@pytest.mark.parametrize(
    "answer", [" 雨", "雨 ", "\n雨", "  ", "二\n\n二", "</s>", "[INST] 一 [/INST]", "<|im_end|>"]
)
@pytest.mark.parametrize("name", TEMPLATES)
def test_odd_answers_are_asked_for_as_they_are_learnt(own: Tokenizer, name: str, answer: str):
    tokenizer = with_template(with_marks(own, *MARKS.get(name, ())), name)
    talk = [ASK, {"role": "assistant", "content": answer}, AGAIN, SAID]
    found = render(tokenizer, talk)
    begins = [i for i, flag in enumerate(found.answer_mask) if flag and not found.answer_mask[i - 1]]
    assert [found.input_ids[:begin] for begin in begins] == [
        chat_ids(tokenizer, talk[:end]) for end in (1, 3)
    ]


def test_a_generated_answer_goes_into_the_history_as_it_was_learnt(own: Tokenizer):
    tokenizer = with_template(own, "llama2")
    found = render(tokenizer, [ASK, SAID, AGAIN, SAID])
    assert own_words(tokenizer, " 二 ") == "二" and own_words(own, " 二 ") == " 二 "
    begin = [i for i, flag in enumerate(found.answer_mask) if flag and not found.answer_mask[i - 1]][1]
    said = {"role": "assistant", "content": own_words(tokenizer, " 二 ")}
    assert chat_ids(tokenizer, [ASK, said, AGAIN]) == found.input_ids[:begin]


def test_marks_the_vocabulary_has_are_single_tokens_and_end_generation(own: Tokenizer):
    tokenizer = with_template(with_marks(own, *MARKS["llama3"]), "llama3")
    fit = checked(tokenizer)
    assert fit.foreign == () and fit.notes == () and fit.end == "<|eot_id|>"
    end = tokenizer.special["<|eot_id|>"]
    assert end in tokenizer.stop_ids and end not in own.stop_ids
    assert render(tokenizer, [ASK, SAID]).input_ids[-1] == end


def test_marks_the_vocabulary_lacks_are_named(own: Tokenizer):
    fit = checked(with_template(own, "llama3"))
    assert fit.foreign == ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>") and fit.end is None
    (note,) = fit.notes
    assert "<|eot_id|> are no special tokens of this vocabulary" in note and "the end of text ends" in note
    assert checked(with_template(own, "llama2")).notes == ()  # [INST] is ordinary text in Llama 2 itself


def test_nothing_that_could_end_an_answer_is_an_error(own: Tokenizer):
    endless = with_marks(own)
    endless.roles = replace(own.roles, stops=frozenset())
    with pytest.raises(UserError, match="without end-of-turn") as found:
        with_template(endless, "llama3")
    assert found.value.value == "llama3" and found.value.hint
    assert with_template(endless, "chatml").stop_ids == frozenset() | endless.stop_ids


def test_the_vocabulary_stays_and_the_fingerprint_tells_templates_apart(own: Tokenizer):
    changed = with_template(own, "llama2")
    assert changed.encode("从零") == own.encode("从零") and changed.vocab_size == own.vocab_size
    assert own.chat_template == TEMPLATES["chatml"] and with_template(own, "chatml") is own
    prints = {with_template(own, name).fingerprint for name in TEMPLATES}
    assert len(prints) == len(TEMPLATES) and changed.fingerprint == with_template(own, "llama2").fingerprint


def test_a_directory_keeps_the_template_and_what_ends_an_answer(own: Tokenizer, tmp_path: Path):
    written_again = store.write(with_template(own, "llama2"), tmp_path / "tokenizer")
    assert name_of(written_again.chat_template) == "llama2"
    assert written_again.fingerprint not in ("", own.fingerprint)
    assert text(written_again, TALK) == text(with_template(own, "llama2"), TALK)
    assert IM_END in written_again.special and isinstance(written_again.roles, Roles)


@pytest.mark.parametrize(("name", "reason"), [
    ("lama3", "no such chat template"),
    ("{{ messages[0]['content'] }}", "leaves out the answers"),
    ("{% for m in %}", "does not work"),
])  # fmt: skip
def test_no_template_is_an_error(own: Tokenizer, name: str, reason: str):
    with pytest.raises(UserError, match=reason):
        with_template(own, name)


def test_a_source_is_its_own_template(own: Tokenizer):
    source = "{% for m in messages %}{{ m['role'] + '：' + m['content'] + '\n' }}{% endfor %}"
    assert source_of(source) == source and name_of(source) == "its own"
    assert text(with_template(own, source), [ASK]) == "user：一\n"
