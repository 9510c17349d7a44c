"""Rows shown before training: the mask as it is learnt, lengths against the context, faults by name."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.tuning import row_display, row_inspection
from congling.data.tuning.row_inspection import Lengths
from congling.data.tuning.row_kinds import Sort, by_sort, sorts_of
from congling.stages import data as stage
from congling.tokenizer import store, training
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import render
from congling.tokenizer.chat.templates import with_template
from congling.tokenizer.config import TokenizerConfig

ROWS = [{"instruction": f"学{i}", "output": "时习之" * (1 + i % 3), "kind": "诗"} for i in range(12)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("rows") / "tokenizer"
    training.train(TokenizerConfig(kind="character"), lambda: iter(["学而时习之012\n"] * 9), path)
    return store.load(path)


def config(path: Path, rows: list[dict]) -> DataConfig:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(sources=(str(path),))


def shown(found: row_inspection.RowInspection, **settings: object) -> str:
    console = Console(file=io.StringIO(), width=100, **settings)  # pyright: ignore[reportArgumentType]
    row_display.show(found, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_pieces_and_counts_are_those_of_training(tokenizer: Tokenizer, tmp_path: Path):
    found = row_inspection.inspect(config(tmp_path / "rows.jsonl", ROWS), tokenizer)
    turns = [{"role": "user", "content": "学0"}, {"role": "assistant", "content": "时习之"}]
    rendered = render(tokenizer, turns)
    first = found.first[0]
    assert "".join(piece.text for piece in first.pieces) == tokenizer.decode(rendered.input_ids)
    assert "".join(piece.text for piece in first.pieces if piece.in_loss) == "时习之<|im_end|>"
    assert [piece.text for piece in first.pieces if piece.special][:2] == ["<|endoftext|>", "<|im_start|>"]
    assert (first.targets, first.tokens) == (4, len(rendered.input_ids) - 1)
    assert found.targets == 4 * (4 + 7 + 10) and found.rows == 12 and found.whole
    assert found.domains == {"诗": 12} and found.template == "chatml" and not found.findings.counts


def test_rows_beyond_the_context_are_counted_and_named(tokenizer: Tokenizer, tmp_path: Path):
    rows = [*ROWS, {"instruction": "学", "output": None}]
    found = row_inspection.inspect(config(tmp_path / "rows.jsonl", rows), tokenizer, 28)
    # <|endoftext|> <|im_start|> user ⏎ question <|im_end|> ⏎ <|im_start|> assistant ⏎ answer <|im_end|>
    long = sum(
        len(
            render(
                tokenizer,
                [
                    {"role": "user", "content": row["instruction"]},
                    {"role": "assistant", "content": row["output"]},
                ],
            ).input_ids
        )
        - 1
        > 28
        for row in ROWS
    )
    assert 0 < long == found.lengths.beyond == found.findings.counts["answer truncated"]
    text = shown(found)
    assert f"{long} of 12 rows" in text and "1 × no answer" in text
    assert "rows.jsonl:13  the answer is null" in text or "rows.jsonl:13  the answer is missing" in text


def test_without_colour_brackets_show_what_is_learnt(tokenizer: Tokenizer, tmp_path: Path):
    found = row_inspection.inspect(config(tmp_path / "rows.jsonl", ROWS), tokenizer)
    text = shown(found)
    assert "\x1b" not in text and "⟦时习之<|im_end|>⟧" in text and "<|im_start|>user⏎" in text
    assert "every row is sound" in text
    coloured = shown(found, force_terminal=True, color_system="standard", no_color=False)
    assert "⟦" not in coloured and "\x1b[1;32m时习之" in coloured
    bold = shown(found, force_terminal=True, no_color=True)
    assert "⟦时习之" in re.sub(r"\x1b\[[0-9;]*m", "", bold)


def test_texts_of_rows_are_no_markup_and_move_no_cursor(tokenizer: Tokenizer, tmp_path: Path):
    row = {"instruction": "[red]学[/red]\x1b[2J\x07", "output": "时[/]"}
    text = shown(row_inspection.inspect(config(tmp_path / "rows.jsonl", [row, *ROWS]), tokenizer))
    assert "[red]学[/red]" in text and "时[/]" in text
    assert "\x1b" not in text and "\x07" not in text


def test_another_template_is_shown_with_its_notes(tokenizer: Tokenizer, tmp_path: Path):
    changed = with_template(tokenizer, "llama3")
    text = shown(row_inspection.inspect(config(tmp_path / "rows.jsonl", ROWS), changed))
    assert "as the template llama3 writes them" in text and "note: <|start_header_id|>" in text
    assert "ends with the end of text" in text


def test_lengths_are_binned_by_powers_of_two():
    found = Lengths.of([1, 16, 17, 32, 33, 100], 32)
    assert found.bins == [(16, 2), (32, 2), (64, 1), (128, 1)] and found.beyond == 2
    assert found.longest == 100 and found.percentiles[50] == 17
    assert Lengths.of([], None).longest == 0


def test_nothing_to_learn_is_an_error(tokenizer: Tokenizer, tmp_path: Path):
    rows = [{"instruction": " ", "output": "时"} for _ in range(3)]
    with pytest.raises(UserError, match="nothing to learn") as found:
        row_inspection.inspect(config(tmp_path / "rows.jsonl", rows), tokenizer)
    assert "3 × no question (rows.jsonl:1: the question is empty)" in str(found.value.hint)


def test_without_a_tokenizer_roles_are_shown(tmp_path: Path):
    found = row_inspection.look(config(tmp_path / "rows.jsonl", ROWS))
    assert found is not None
    console = Console(file=io.StringIO(), width=80)
    row_display.show_roles(found, console)
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert (
        len(found.first) == 3
        and "user      学0" in text
        and "assistant 时习之" in text
        and "--tokenizer DIR" in text
    )
    (tmp_path / "text.txt").write_text("学而时习之。\n" * 9, encoding="utf-8")
    assert row_inspection.look(DataConfig(sources=(str(tmp_path / "text.txt"),))) is None
    assert row_inspection.look(DataConfig(sources=("smallworld",))) is None


PAIRS = [{"prompt": f"学{i}", "chosen": "时习之", "rejected": "而时"} for i in range(12)]
RATED = [{"prompt": f"学{i}", "completion": "时习之", "label": i % 2 == 0} for i in range(12)]
PROMPTS = [{"prompt": f"学{i}"} for i in range(12)]


@pytest.mark.parametrize(("rows", "sort", "methods", "learnt"), [
    (PAIRS, Sort.PAIRS, "dpo, reward", 12 * (4 + 3)),
    (RATED, Sort.RATED, "dpo with preference.loss_type=kto", 12 * 4),
    (PROMPTS, Sort.PROMPTS, "grpo, ppo, pairs", 0), (ROWS, Sort.CONVERSATIONS, "sft", 84),
])  # fmt: skip
def test_every_sort_of_rows_is_shown_as_what_it_is(
    tokenizer: Tokenizer, tmp_path: Path, rows: list[dict], sort: Sort, methods: str, learnt: int
):
    found = row_inspection.inspect(config(tmp_path / "rows.jsonl", rows), tokenizer)
    assert found.sort is sort and found.rows == 12 and found.targets == learnt
    text = shown(found)
    assert f"for        {methods}" in text and f"12 {sort}s" in text
    assert (f"{sort}s" in text) and "nothing to learn" not in text
    roles = Console(file=io.StringIO(), width=200)
    look = row_inspection.look(config(tmp_path / "rows.jsonl", rows))
    assert look is not None and look.sort is sort and look.rows == 12
    row_display.show_roles(look, roles)
    assert f"12 {sort}s\nfor        {methods}" in roles.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_both_sides_of_a_pair_stand_below_each_other(tokenizer: Tokenizer, tmp_path: Path):
    found = row_inspection.inspect(config(tmp_path / "rows.jsonl", PAIRS), tokenizer)
    assert [(row.id, row.side) for row in found.first[:2]] == [
        ("rows.jsonl:1", "chosen"),
        ("rows.jsonl:1", "rejected"),
    ]
    text = shown(found)
    assert "1  rows.jsonl:1 · chosen" in text and "1  rows.jsonl:1 · rejected" in text
    assert "⟦而时<|im_end|>⟧" in text and "they can also be read by" in text


def test_a_field_that_was_not_read_is_named_and_not_every_row_is_sound(tokenizer: Tokenizer, tmp_path: Path):
    rows = [{**row, "note": "学而"} for row in ROWS]
    text = shown(row_inspection.inspect(config(tmp_path / "rows.jsonl", rows), tokenizer))
    assert "note: field 'note' (12 ×, first rows.jsonl:1): not read" in text and "sound" not in text


def test_files_of_different_sorts_are_told_apart(tokenizer: Tokenizer, tmp_path: Path, capsys):
    for name, rows in (("a.jsonl", ROWS), ("b.jsonl", PAIRS), ("c.jsonl", [*ROWS, {"prompt": "学"}])):
        config(tmp_path / name, rows)
    (tmp_path / "d.txt").write_text("学而时习之。\n" * 9, encoding="utf-8")
    groups = by_sort(DataConfig(sources=(str(tmp_path),)))
    assert [[Path(file).name for file in group.sources] for group in groups] == [
        ["a.jsonl", "c.jsonl", "d.txt"],
        ["b.jsonl"],
    ]
    assert [next(iter(sorts_of(group))) for group in groups] == [Sort.CONVERSATIONS, Sort.PAIRS]
    same = DataConfig(sources=(str(tmp_path / "a.jsonl"), str(tmp_path / "d.txt")))
    assert by_sort(same) == [same]
    stage.inspect([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    said = capsys.readouterr().out
    assert "as conversations" in said and "as preference pairs" in said and "different sorts" in said
    assert "12 preference pairs" in said and "no preference" not in said


def test_conversations_of_which_many_lack_an_answer_are_no_prompts(tmp_path: Path):
    rows = [*ROWS, *({"instruction": f"时{i}", "output": None} for i in range(20))]
    assert next(iter(sorts_of(config(tmp_path / "rows.jsonl", rows)))) is Sort.CONVERSATIONS
