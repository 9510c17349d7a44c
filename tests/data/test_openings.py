"""Prompts of samples: clauses of paragraphs, whatever stands above them."""

import numpy as np
import pytest

from congling.data.openings import TOKENS, opening, openings
from congling.data.token_split import TokenSplit
from congling.tokenizer.character import CharacterTokenizer

TEXTS = {
    "a heading": ("正文 第七回 送宫花贾琏戏熙凤\n\n　　话说周瑞家的送了刘姥姥去后，便上来回话。",
                  "话说周瑞家的送了刘姥姥去后，"),
    "a title and an author": ("荷塘月色\n朱自清\n\n这几天心里颇不宁静。今晚在院子里坐着。",
                              "这几天心里颇不宁静。"),
    "chapters in numbers": ("第 12 章\n\n他站在门口。门外下着雨。", "他站在门口。"),
    "Markdown": ("# 从零开始\n\n先装好程序，再打开它。", "先装好程序，"),
    "speech": ("“你好！”小明说。后来呢？", "“你好！”"),
    "a short word first": ("却说，林黛玉自那日弃舟登岸时，便有轿子来了。", "却说，林黛玉自那日弃舟登岸时，"),
    "English": ("Chapter 3\n\nIt was 3.14 miles away, and nobody knew the way.",
                "It was 3.14 miles away,"),
    "verse": ("春晓\n春眠不觉晓，处处闻啼鸟。", "春眠不觉晓，"),
    "no marks": ("一二三四五六七八", "一二三四五六七"),
}  # fmt: skip
LETTERS = CharacterTokenizer("".join(sorted(set("".join(text for text, _ in TEXTS.values())))))


@pytest.mark.parametrize("name", TEXTS)
def test_a_prompt_is_a_clause_of_a_paragraph(name: str) -> None:
    text, expected = TEXTS[name]
    assert opening(text, LETTERS) == expected


@pytest.mark.parametrize(
    "text", ["3+4=7", "好", "好\n好\n", "字" * 500, "word " * 200, "，。！？" * 20, "第七回", "a"]
)
def test_a_prompt_is_short_and_leaves_something_to_write(text: str) -> None:
    found = opening(text, LETTERS)
    assert len(LETTERS.encode(found)) <= TOKENS
    assert len(found) < len(text.strip()) and found in text
    assert found or len(text.strip()) < 4
    assert not found.endswith(" ") and (" " not in text or text.startswith((found + " ", found + "w")))


@pytest.mark.parametrize("text", ["", "\n \n　"])
def test_no_text_no_prompt(text: str) -> None:
    assert opening(text, LETTERS) == ""


def split_of(*texts: str) -> TokenSplit:
    rows = [[*LETTERS.encode(text), LETTERS.eos_id] for text in texts]
    ends = np.cumsum([len(row) for row in rows])
    sizes = np.array([len(text) for text in texts])
    return TokenSplit(
        np.concatenate([np.array(row) for row in rows]), ends, sizes, sizes, LETTERS.eos_id, 9999
    )


def test_documents_without_a_paragraph_are_passed_over() -> None:
    texts = [text for text, _ in TEXTS.values()]
    found = openings(split_of("好", *texts[:2], texts[0], *texts[2:]), LETTERS, documents=3)
    assert found == tuple(prompt for _, prompt in list(TEXTS.values())[:3])
    assert openings(split_of("好", "你"), LETTERS, documents=3) == ("好", "你")
