"""Public forms of chat templates: ids that are learnt, ids that are asked with, and transformers' ids."""

import json
import random
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from congling.data.config import DataConfig
from congling.data.problems import Place, ReadingLog
from congling.data.tuning import conversations
from congling.data.tuning.chat_rows import Conversation
from congling.data.tuning.conversations import ConversationEncoder
from congling.data.tuning.examples import answers_of
from congling.tokenizer.base import Tokenizer as Ours
from congling.tokenizer.chat.encode import chat_ids, render
from congling.tokenizer.chat.templates import checked
from congling.tokenizer.imported import read
from support.public_templates import FORMS, Form

transformers = pytest.importorskip("transformers")
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = [
    "天", "地", "玄", "黄", "白鹭", "飞", "hello", "world", "the", "cat", "sat", "12", "assistant", "user",
    "system", "think", "Response", "ASSISTANT", "：", "。", ",", "?",
]  # fmt: skip
AWKWARD = [
    "你好。", " leading space", "trailing space ", "\n\nline feeds\n", "a\nb", "  ", "问：1+1=?", "{{ 7 }}",
    "Is it <b>bold</b>? [INST] yes [/INST]", "<0x0A>",
]  # fmt: skip


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of transformers for each form, with a vocabulary learnt from invented text."""
    draw = random.Random(3)
    texts = ["".join(draw.choice(["", " ", "\n"]) + draw.choice(WORDS) for _ in range(60)) for _ in range(60)]
    root = tmp_path_factory.mktemp("forms")
    return {name: _saved(form, texts, root / name) for name, form in FORMS.items()}


def _saved(form: Form, texts: list[str], folder: Path) -> Path:
    made = _byte_level(texts) if form.kind == "bytes" else _pieces(texts, form.kind)
    tokens = [(text, True) for text in form.special] + [(text, False) for text in form.open]
    added = [
        AddedToken(text, special=flag, normalized=False, rstrip=text in form.rstrip) for text, flag in tokens
    ]
    made.add_tokens(added)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=form.special[0], bos_token=form.bos, chat_template=form.template
    )
    theirs.save_pretrained(folder)
    return folder


def _byte_level(texts: list[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def _pieces(texts: list[str], kind: str) -> Tokenizer:
    """A BPE that falls back to bytes and writes a space as ▁, as the vocabularies of Llama 2."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    spaces = normalizers.Replace(" ", "▁")
    made.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if kind == "prepend" else spaces
    )
    if kind == "first":
        made.normalizer = None
        made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    made.train_from_iterator([word for text in texts for word in text.split()], trainer)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    content = json.loads(made.to_str())  # bytes are pieces there, not added tokens
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in bytes_]
    return Tokenizer.from_str(json.dumps(content))


def talks(form: Form) -> list[list[dict[str, str]]]:
    """Conversations of one to three rounds with awkward texts."""
    draw = random.Random(5)
    found = []
    for rounds in (1, 1, 1, 2, 2, 3):
        system = [{"role": "system", "content": draw.choice(["你是诗人", ""])}] if form.system else []
        turns = [
            {"role": role, "content": draw.choice(AWKWARD)}
            for _ in range(rounds)
            for role in ("user", "assistant")
        ]
        found += [turns, [*system, *turns]]
    return found


def theirs_of(folder: Path):
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def starts(ours: Ours, talk: list[dict[str, str]]) -> list[int]:
    """Where learnt stretches begin."""
    answered = render(ours, talk).answer_mask
    return [i for i, flag in enumerate(answered) if flag and not (i and answered[i - 1])]


@pytest.mark.parametrize("name", FORMS)
def test_what_is_asked_stood_before_the_learnt_answer(name: str, folders: dict[str, Path]):
    ours = read.read(folders[name])
    for talk in talks(FORMS[name]):
        found = render(ours, talk)
        begins = starts(ours, talk)
        answers = [i for i, turn in enumerate(talk) if turn["role"] == "assistant"]
        assert len(begins) + len(found.apart) == len(answers)
        for place, begin in zip([i for i in answers if i not in found.apart], begins, strict=True):
            assert found.input_ids[:begin] == chat_ids(ours, talk[:place])
        assert found.input_ids[-1] in ours.stop_ids or not found.ended


THOUGHT = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "world one", "reasoning_content": "天地"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "world two", "reasoning_content": "玄黄"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "world three"},
]


@pytest.mark.parametrize("name", FORMS)
def test_every_answer_of_a_row_is_learnt_once_with_its_thoughts_behind_what_asks_for_it(
    name: str, folders: dict[str, Path]
):
    ours, findings = read.read(folders[name]), ReadingLog()
    system = [{"role": "system", "content": "hello"}] if FORMS[name].system else []
    for talk in (THOUGHT, [*system, *THOUGHT], [*THOUGHT[:5], THOUGHT[5] | {"loss": False}]):
        before = [chat_ids(ours, talk[:i]) for i, turn in enumerate(talk) if turn["role"] == "assistant"]
        answers = [turn for turn in talk if turn["role"] == "assistant"]
        said: dict[int, str] = {}
        for example in ConversationEncoder(ours, 4000, findings)(Conversation(tuple(talk), Place("a", 1))):
            learnt = [*example.loss_mask.tolist(), False]
            for start in (i for i, flag in enumerate(learnt) if flag and not learnt[i - 1]):
                answer = before.index(example.input_ids[:start].tolist())
                assert answer not in said  # once
                said[answer] = ours.decode(example.input_ids[start : learnt.index(False, start)].tolist())
        assert sorted(said) == [i for i, turn in enumerate(answers) if turn.get("loss") is not False]
        for i, text in said.items():
            assert answers[i].get("reasoning_content", "") in text and answers[i]["content"] in text
    assert not findings.counts


@pytest.mark.parametrize(("name", "apart"), [("deepseek-r1", 2), ("qwen3", 2), ("chatml", 0)])
def test_answers_of_their_own_are_said_and_stay_on_one_side_of_the_split(
    name: str, apart: int, folders: dict[str, Path], tmp_path: Path
):
    ours, path = read.read(folders[name]), tmp_path / "rows.jsonl"
    rows = [
        {"messages": [turn | {"content": f"{turn['content']} {i}"} for turn in THOUGHT]} for i in range(20)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = conversations.read(DataConfig(sources=(str(path),)), ours, 4000)
    sides = [{one.id for one in side} for side in (found.train, found.validation)]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == found.rows == 20
    assert len(found.train) + len(found.validation) == 20 * (1 + apart)
    assert answers_of([*found.train, *found.validation]) == 60
    assert any(f"{20 * apart} earlier answers of 20 conv" in note for note in found.findings.notes) == (
        apart > 0
    )


@pytest.mark.parametrize("name", FORMS)
def test_the_ids_asked_with_are_those_of_transformers(name: str, folders: dict[str, Path]):
    ours, theirs, form = read.read(folders[name]), theirs_of(folders[name]), FORMS[name]
    for talk in talks(form):
        asked = talk[:-1]
        if any(turn["content"][:1].isspace() for turn in asked if turn["role"] == "assistant"):
            asked = [turn for turn in asked[:2] if turn["role"] != "assistant"]
        ids = theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        found = chat_ids(ours, asked)
        prefix = list(ours.prefix_ids)
        assert found == ids or found == [*prefix, *ids], (asked, theirs.decode(ids), ours.decode(found))


@pytest.mark.parametrize("name", FORMS)
def test_no_text_makes_a_mark(name: str, folders: dict[str, Path]):
    ours, form = read.read(folders[name]), FORMS[name]
    marks = {**ours.special, **ours.inner_marks}
    text = " ".join([*form.special, *form.open, "＜｜User｜＞"]) + "".join(marks)
    assert not set(marks.values()) & set(ours.encode(text))
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    answer = text.replace("</think>", "")  # which some templates look for in answers
    forged = [{"role": "user", "content": text}, {"role": "assistant", "content": f"b{answer}"}]
    written = [
        [index for index in render(ours, talk).input_ids if index in marks.values()]
        for talk in (plain, forged)
    ]
    assert written[0] == written[1]


def test_every_mark_that_files_forget_is_guarded(folders: dict[str, Path]):
    for name in ("chatml-open-marks", "yi", "hermes"):
        assert {"<|im_start|>", "<|im_end|>"} <= read.read(folders[name]).special.keys()
    qwen3 = read.read(folders["qwen3"])
    assert (
        "<think>" not in qwen3.special and {"<think>", "</think>", "<tool_call>"} >= qwen3.inner_marks.keys()
    )
    assert {"<reserved_106>", "<reserved_107>"} <= read.read(folders["baichuan2"]).special.keys()


ASK, SAY = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "t"}


@pytest.mark.parametrize(("name", "learnt"), [
    ("chatml", "<think>\nt\n</think>\n\nb<|im_end|>"),
    ("qwen3", "<think>\nt\n</think>\n\nb<|im_end|>"),
    ("deepseek-r1", "t\n</think>\n\nb<｜end▁of▁sentence｜>"),
    ("mistral3", " <think>\nt\n</think>\n\nb</s>"),
])  # fmt: skip
def test_thoughts_are_learnt_where_the_template_asks_for_them(
    name: str, learnt: str, folders: dict[str, Path]
):
    ours = read.read(folders[name])
    said = {"role": "assistant", "content": "<think>\nt\n</think>\n\nb"}
    for answer in (SAY, said):
        found = render(ours, [ASK, answer])
        begin = found.answer_mask.index(True)
        assert ours.decode(found.input_ids[begin:]).strip() == learnt.strip()
        assert found.input_ids[:begin] == chat_ids(ours, [ASK])


def test_earlier_thoughts_go_where_the_template_lets_them_go(folders: dict[str, Path]):
    theirs = theirs_of(folders["qwen3"])
    ours = read.read(folders["qwen3"])
    talk = [ASK, {"role": "assistant", "content": "<think>\nt\n</think>\n\nb"}, ASK]
    ids = theirs.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert chat_ids(ours, talk) == ids and "<think>" not in ours.decode(ids)


def test_what_differs_is_said(folders: dict[str, Path]):
    said = {name: " ".join(checked(read.read(folder)).notes) for name, folder in folders.items()}
    assert "asks for an answer with '<think>\\n'" in said["deepseek-r1"]
    assert all("in an example of its own" in said[name] for name in ("deepseek-r1", "mistral3"))
    assert "an earlier answer of a conversation as '!'" in said["qwen3"]
    assert not said["chatml"] and not said["llama2"] and not said["phi3"]
