"""Rows and texts as examples: what is learnt, what is left out and said, and how rows are shared."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import Place, ReadingLog
from congling.data.sources.fields import Unfit
from congling.data.tuning import conversations
from congling.data.tuning.chat_rows import Conversation, messages_of, meta_of
from congling.data.tuning.conversations import ConversationEncoder
from congling.data.tuning.examples import Example, ExampleBatches, evaluation_batches, packed, targets_of
from congling.tokenizer import store, training
from congling.tokenizer.base import IM_END, Tokenizer
from congling.tokenizer.chat.templates import with_template
from congling.tokenizer.config import TokenizerConfig

TEXT = "从零开始学写字。学而时习之，不亦说乎？\n" * 20
BAD = {
    "no answer": [
        {"instruction": "问", "input": ""},
        {"instruction": "问", "output": None},
        {"instruction": "问", "output": " \n"},
        {"instruction": "问", "output": True},
        {"messages": [{"role": "system", "content": "你是"}]},
        {"messages": [{"role": "user", "content": "问"}]},
        {"conversations": []},
        {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "\u200b"}]},
    ],
    "no question": [
        {"instruction": "", "output": "答"},
        {"instruction": ["问"], "output": "答"},
        {"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "答"}]},
        {"messages": [{"role": "assistant", "content": "答"}]},
    ],
    "unknown role": [
        {"messages": [{"role": "narrator", "content": "问"}, {"role": "assistant", "content": "答"}]},
        {"conversations": [{"value": "问"}, {"from": "gpt", "value": "答"}]},
    ],
    "no conversation": [{"messages": ["问", "答"]}, ["问", "答"]],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("chats") / "tokenizer"
    training.train(TokenizerConfig(kind="character"), lambda: iter([TEXT]), path)
    return store.load(path)


def write(path: Path, rows: list[object]) -> DataConfig:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(sources=(str(path),))


def good(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"学{i}", "input": "", "output": f"答{i}。"} for i in range(count)]


def roles(record: object) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in messages_of(record)]


@pytest.mark.parametrize("record", [
    {"instruction": "写诗", "input": "春", "output": "云"},
    {"prompt": "写诗\n春", "response": "云"},
    {"question": "写诗", "answer": "云", "input": "春", "department": "诗"},
    {"messages": [{"role": "user", "content": "写诗\n春"}, {"role": "assistant", "content": "云"}]},
    {"conversations": [{"from": "human", "value": "写诗\n春"}, {"from": "gpt", "value": "云"}]},
    {"messages": [{"role": "user", "content": "写诗\n春"}, {"role": "assistant", "content": "云"},
                  {"role": "user", "content": "谢谢"}]},
])  # fmt: skip
def test_all_shapes_of_rows_become_turns_up_to_the_last_answer(record: object):
    assert roles(record) == [("user", "写诗\n春"), ("assistant", "云")]


def test_history_system_tools_and_options_stand_where_they_belong():
    record = {"system": "你是", "history": [["你好", "好"]], "instruction": "几何", "output": "三"}
    assert roles(record) == [
        ("system", "你是"),
        ("user", "你好"),
        ("assistant", "好"),
        ("user", "几何"),
        ("assistant", "三"),
    ]
    turns = [("human", "查"), ("function_call", "{}"), ("observation", "晴"), ("gpt", "晴天")]
    said = [{"from": one, "value": text} for one, text in turns]
    record = {"tools": '[{"name": "天气"}]', "conversations": said}
    assert [role for role, _ in roles(record)] == ["system", "user", "assistant", "tool", "assistant"]
    assert roles(record | {"tools": "[]"})[0] == ("user", "查")
    choice = {"question": "几何？", "A": "一", "B": "二", "answer": "B"}
    assert roles(choice) == [("user", "几何？\nA. 一\nB. 二"), ("assistant", "B")]


CALL = '{"name": "weather", "arguments": {"city": "北京"}}'


@pytest.mark.parametrize("call", [
    {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {
        "name": "weather", "arguments": '{"city": "北京"}'}}]},
    {"content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "北京"}}}]},
    {"function_call": {"name": "weather", "arguments": {"city": "北京"}}},
])  # fmt: skip
def test_calls_of_tools_are_what_the_assistant_writes(call: dict[str, object]):
    record = {
        "tools": [{"name": "weather"}, {"name": "time"}],
        "messages": [
            {"role": "user", "content": "北京？"},
            {"role": "assistant", **call},
            {"role": "tool", "content": "晴"},
            {"role": "assistant", "content": "晴天"},
        ],
    }
    assert roles(record) == [
        ("system", '{"name": "weather"}\n{"name": "time"}'),
        ("user", "北京？"),
        ("assistant", CALL),
        ("tool", "晴"),
        ("assistant", "晴天"),
    ]


def test_what_an_assistant_says_stands_before_its_calls():
    call = {"role": "assistant", "content": "我查一下。", "tool_calls": [{"function": {"name": "time"}}, 3]}
    record = {"messages": [{"role": "user", "content": "几点？"}, call]}
    assert roles(record)[1] == ("assistant", '我查一下。\n{"name": "time", "arguments": {}}')


def test_parts_of_a_message_are_put_together_and_a_picture_is_named():
    def row(*parts: object) -> dict[str, object]:
        return {
            "messages": [
                {"role": "system", "content": list(parts)},
                {"role": "user", "content": "问"},
                {"role": "assistant", "content": [{"type": "text", "text": "答"}]},
            ]
        }

    text = [{"type": "text", "text": "你是"}, {"type": "text", "text": "诗人"}]
    assert roles(row(*text)) == [("system", "你是\n诗人"), ("user", "问"), ("assistant", "答")]
    with pytest.raises(Unfit, match="'image_url'") as found:
        messages_of(row(*text, {"type": "image_url", "image_url": {"url": "x"}}))
    assert found.value.kind == "part that is no text"


@pytest.mark.parametrize(("record", "asked", "answered"), [
    ({"department": "肝病科", "title": "严重吗？", "question": "小三阳。", "answer": "注意休息。"},
     "严重吗？\n小三阳。", "注意休息。"),
    ({"title": "小三阳", "question": "小三阳严重吗？", "answer": "不。"}, "小三阳严重吗？", "不。"),
    ({"title": "推官", "context": "唐代设推官。", "question": "何时？", "answers": ["唐代", "唐"]},
     "唐代设推官。\n何时？", "唐代"),
    ({"title": "推官", "context": "唐代设推官。", "question": "何时？", "answers": {"text": ["唐代"],
      "answer_start": [0]}}, "唐代设推官。\n何时？", "唐代"),
    ({"title": "漂", "bopomofo": "ㄆㄧㄠ", "definition": "浮在水上。"}, "解释：漂（ㄆㄧㄠ）", "浮在水上。"),
    ({"title": "操觚", "bopomofo": ["ㄘㄠ　ㄍㄨ"], "text": "操觚\nㄘㄠ　ㄍㄨ　cāo gū\n指執筆作文。"},
     "解释：操觚（ㄘㄠ　ㄍㄨ）", "指執筆作文。"),
    ({"word": "云", "释义": ["水气。", "说。"]}, "解释：云", "水气。\n说。"),
])  # fmt: skip
def test_titles_passages_and_headwords(record: object, asked: str, answered: str):
    assert roles(record) == [("user", asked), ("assistant", answered)]


def test_what_a_conversation_is_about_goes_with_it(tokenizer: Tokenizer, tmp_path: Path):
    rows = [
        {**row, "category": "诗" if i % 2 else "词", "n": 3, "source": "长" * 99}
        for i, row in enumerate(good(40))
    ]
    found = conversations.read(write(tmp_path / "rows.jsonl", rows), tokenizer, 64)
    assert {str(row.place) for row in found.held_out} == {example.id for example in found.validation}
    assert {row.domain for row in found.held_out} <= {"诗", "词"}
    assert meta_of(rows[0]) == {"category": "词"}
    assert Conversation((), Place("a", 1), {"kind": "couplets", "category": "诗"}).domain == "couplets"
    assert Conversation((), Place("a", 1)).domain == ""


def test_dictionaries_become_questions_and_articles_stay_texts(tokenizer: Tokenizer, tmp_path: Path):
    entries = [{"title": f"词{i}", "definition": f"解{i}。"} for i in range(20)]
    assert conversations.read(write(tmp_path / "a.jsonl", entries), tokenizer, 64).rows == 20
    articles = [{"title": f"题{i}", "text": f"文{i}。" * 5} for i in range(20)]
    found = conversations.read(write(tmp_path / "b.jsonl", articles), tokenizer, 64)
    assert (found.rows, found.texts) == (0, 20)


def test_marks_of_the_template_that_are_no_tokens_are_noted(tokenizer: Tokenizer, tmp_path: Path):
    config = write(tmp_path / "rows.jsonl", good(20))
    assert not any(
        "special token" in note for note in conversations.read(config, tokenizer, 64).findings.notes
    )
    notes = conversations.read(config, with_template(tokenizer, "llama3"), 128).findings.notes
    assert any("<|eot_id|> are no special tokens of this vocabulary" in note for note in notes)


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "no answer"])
def test_what_is_no_conversation_says_why(kind: str):
    for record in BAD[kind]:
        with pytest.raises(Unfit) as found:
            messages_of(record)
        assert found.value.kind == kind and str(found.value)


def test_faulty_rows_are_counted_and_named(tokenizer: Tokenizer, tmp_path: Path):
    rows = [*good(20), *(row for bad in BAD.values() for row in bad), good(1)[0]]
    found = conversations.read(write(tmp_path / "rows.jsonl", rows), tokenizer, 64)
    expected = {kind: len(bad) for kind, bad in BAD.items()}
    expected["no conversation"] -= 1  # a list is no record, which the reader says
    assert found.findings.counts == expected | {"broken record": 1, "copy": 1}
    assert found.rows == 20 and len(found.held_out) == 2 == len(found.validation)
    problem = next(one for one in found.findings.examples if one.kind == "no answer")
    assert (problem.file, problem.line, problem.reason) == ("rows.jsonl", 21, "the answer is missing")


FAULTS = {
    **dict.fromkeys(("no_output", "output_null", "output_empty", "output_spaces"), "no answer"),
    **dict.fromkeys(("instruction_empty", "instruction_list"), "no question"),
    **dict.fromkeys(
        ("ok", "input_null", "extra_key", "messages_form", "output_longest", "output_number"), None
    ),
}


def test_every_published_fault_is_counted_under_its_name(corpora: Path):
    counts: Counter[tuple[str, str | None]] = Counter()
    for line in (corpora / "messy/sft_faulty.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            record = json.loads(line)
            try:
                messages_of(record)
                kind = None
            except Unfit as unfit:
                kind = unfit.kind
            counts[record["_case"], kind] += 1
    assert counts == {(case, kind): 8 for case, kind in FAULTS.items()}


def test_the_published_faulty_rows(tokenizer: Tokenizer, corpora: Path):
    source = corpora / "messy/sft_faulty.jsonl"
    found = conversations.read(DataConfig(sources=(str(source),)), tokenizer, 1024)
    cases = [json.loads(line).get("_case") for line in source.read_text(encoding="utf-8").split("\n") if line]
    without = {"no_output", "output_null", "output_empty", "output_spaces"}
    assert found.findings.counts["no answer"] == sum(case in without for case in cases)
    unasked = ("instruction_empty", "instruction_list")
    assert found.findings.counts["no question"] == sum(case in unasked for case in cases)


def test_rows_without_any_answer_are_an_error(tokenizer: Tokenizer, tmp_path: Path):
    rows = [{"instruction": f"问{i}", "category": "诗"} for i in range(5)]
    with pytest.raises(UserError, match=r"nothing to learn.*\n.*5 × no answer"):
        conversations.read(write(tmp_path / "rows.jsonl", rows), tokenizer, 64)


def test_only_answers_are_learnt_and_each_side_of_the_split_has_its_own(tokenizer: Tokenizer, tmp_path: Path):
    found = conversations.read(write(tmp_path / "rows.jsonl", good(40)), tokenizer, 64)
    for example in (*found.train, *found.validation):
        text = tokenizer.decode(example.input_ids[example.loss_mask].tolist())
        assert text.startswith("答") and text.endswith(f"。{IM_END}")
        assert example.characters == len(text) - len(IM_END)
    names = {one.id for one in found.train}, {one.id for one in found.validation}
    assert not names[0] & names[1] and len(names[0] | names[1]) == 40
    assert len(found.held_out) == 4


def test_long_conversations_are_shortened_at_turns_and_a_long_answer_is_cut(tokenizer: Tokenizer):
    findings = ReadingLog()
    encode = ConversationEncoder(tokenizer, 60, findings)

    def encoded(*texts: str) -> Example | None:
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        return next(iter(encode(Conversation(tuple(turns), Place("a", 1)))), None)

    whole, shortened = encoded("学", "答"), encoded("学", "答", "时" * 9, "说" * 60)
    assert whole and shortened and shortened.input_ids.tolist() == whole.input_ids.tolist()
    cut = encoded("学", "说" * 90)
    assert cut and len(cut.input_ids) == 61 and cut.loss_mask[-1]
    assert encoded("学" * 90, "答") is None
    assert findings.counts == {"conversation shortened": 1, "answer truncated": 1, "question too long": 1}


def test_texts_are_learnt_whole_in_windows(tokenizer: Tokenizer, tmp_path: Path):
    (tmp_path / "text.txt").write_text("学而时习之，不亦说乎？" * 40, encoding="utf-8")
    found = conversations.read(DataConfig(sources=(str(tmp_path / "text.txt"),)), tokenizer, 32)
    assert found.texts and not found.rows and found.validation
    ids = [tokenizer.bos_id]
    for example in found.train:
        assert example.loss_mask.all() and example.length <= 32 and example.input_ids[0] == ids[-1]
        ids += example.input_ids[1:].tolist()
    characters = sum(example.characters for example in found.train)
    assert characters == len(tokenizer.decode(ids, skip_special=True))


def examples(lengths: list[int], seed: int = 0) -> list[Example]:
    """Examples whose ids are all different, and of which about half is learnt."""
    random, start, found = np.random.default_rng(seed), 0, []
    for i, length in enumerate(lengths):
        ids = np.arange(start, start + length + 1, dtype=np.int32)
        learnt = random.random(length + 1) < 0.5
        learnt[-1] = True
        found.append(Example(ids, learnt, length, str(i)))
        start += length + 1
    return found


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_rows_hold_every_example_once_and_are_nearly_full(lengths: list[int]):
    rows = packed(lengths, 50)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sizes = [sum(lengths[index] for index in row) for row in rows]
    assert max(sizes) <= 50 and sum(2 * size <= 50 for size in sizes) <= 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 3))
def test_a_pass_learns_every_target_once_whoever_takes_it(lengths: list[int], rows: int, world: int):
    given_examples = examples(lengths)
    wanted = sorted(int(i) for one in given_examples for i in one.input_ids[1:][one.loss_mask[1:]])
    batches = ExampleBatches(given_examples, context=50, rows=rows, accumulation=world)
    count = len(batches.packed)
    taken: list[int] = []
    for place in range(count):  # the rows of a pass, one by one
        step, rest = divmod(place, rows * world)
        parts = [batch for rank in range(world) for batch in batches(step, rank, world)]
        alone = batches(step)
        for name in ("tokens", "targets", "weights"):
            ours = [row for batch in parts for row in getattr(batch, name)]
            theirs = [row for batch in alone for row in getattr(batch, name)]
            assert [row[row > 0].tolist() for row in ours] == [row[row > 0].tolist() for row in theirs]
        batch_rows = [(t, w) for batch in alone for t, w in zip(batch.targets, batch.weights, strict=True)]
        targets, weights = batch_rows[rest]
        taken += targets[weights > 0].tolist()
    assert sorted(taken) == wanted
    batches = evaluation_batches(given_examples, context=50, rows=rows)
    assert sum(batch.count for batch in batches) == len(wanted)


def test_examples_of_a_row_are_apart():
    (batch,) = ExampleBatches(examples([5, 4, 3]), context=16, rows=1)(0)
    assert batch.documents is not None and batch.positions is not None and batch.weights is not None
    assert batch.documents.tolist() == [[0] * 5 + [1] * 4 + [2] * 3 + [3] * 4]
    assert batch.positions.tolist() == [[*range(5), *range(4), *range(3), *range(4)]]
    assert batch.weights[0, 12:].sum() == 0 and batch.count == targets_of(examples([5, 4, 3]))
    (alone,) = ExampleBatches(examples([5]), context=16, rows=1)(0)
    assert alone.documents is None and alone.positions is None
