from pathlib import Path

import pytest

from congling.data.config import DataConfig
from congling.data.segmenter import choose, cut, segments, survey


def documents(text: str, **settings: object) -> tuple[str, list[str]]:
    """The choice made for a text, and the documents it is cut into."""
    config = DataConfig.model_validate({"sources": ("x",), **settings})
    lines = list(enumerate(text.split("\n"), 1))
    choice = choose(survey(lines), config)
    return choice.kind, [segment.text for segment in segments(lines, choice, config)]


BODY = "却说那日天气晴和，众人在园中闲坐说话，" * 6 + "。"


def test_chapters_keep_the_title_page_with_the_first() -> None:
    text = f"《书》\n某人 著\n\n第一回 开头\n{BODY}\n第二回 中间\n{BODY}\n尾声\n{BODY}"
    kind, found = documents(text)
    assert kind == "chapter"
    assert [part.split("\n")[0] for part in found] == ["《书》", "第二回 中间", "尾声"]


def test_a_table_of_contents_makes_no_documents() -> None:
    contents = "\n".join(f"第{n}章 名字" for n in "一二三")
    body = "\n".join(f"第{n}章 名字" + f"\n{BODY}" * 6 for n in "一二三")
    kind, found = documents(f"{contents}\n{body}")
    assert kind == "chapter"
    assert len(found) == 3


@pytest.mark.parametrize(
    "line", ["第一回中已经说过此事，此回不提。", "第二天早晨，他走了。", "第四个看了看，没有办法"]
)
def test_sentences_are_no_headings(line: str) -> None:
    assert documents(f"{line}\n{BODY}\n{line}\n{BODY}")[0] != "chapter"


@pytest.mark.parametrize(
    "heading", ["Chapter {}", "ACT {}", "第 {} 章", "第{}卷　名", "呼兰河传（{}）", "正文 第{}回 名 目"]
)
def test_sorts_of_headings(heading: str) -> None:
    numbers = ["I", "II", "III"] if heading.isascii() else ["一", "二", "三"]
    kind, found = documents("\n".join(f"{heading.format(number)}\n{BODY}\n{BODY}" for number in numbers))
    assert (kind, len(found)) == ("chapter", 3)


def test_long_lines_are_documents() -> None:
    assert documents("\n".join([BODY * 3] * 4)) == ("line", [BODY * 3] * 4)


def test_blocks_of_lines_are_documents() -> None:
    block = "\n".join(["one line of verse"] * 6)
    assert documents(f"{block}\n\n{block}\n\n\n{block}") == ("paragraph", [block] * 3)


def test_a_short_text_is_one_document() -> None:
    assert documents("天地玄黄\n宇宙洪荒\n日月盈昃") == ("file", ["天地玄黄\n宇宙洪荒\n日月盈昃"])


def test_pieces_lose_nothing_and_stay_near_their_size() -> None:
    text = "\n\n".join(["他说：", BODY] * 80)
    kind, found = documents(text, piece=1000)
    assert kind == "pieces"
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(len(part) <= 1700 for part in found)


def test_one_endless_line_is_cut_at_sentences() -> None:
    text = BODY * 100
    kind, found = documents(text, piece=500)
    assert kind == "pieces"
    assert "".join(found) == text
    assert all(part.endswith("。") for part in found)
    assert max(map(len, found)) <= 750


def test_cut_without_any_border() -> None:
    assert list(cut("云" * 25, 10)) == ["云" * 10, "云" * 10, "云" * 5]


def test_the_configured_choice_wins() -> None:
    text = f"第一回 开头\n{BODY}\n第二回 中间\n{BODY}"
    assert documents(text, documents="file")[1] == [text]
    assert len(documents(text, documents="line")[1]) == 4


@pytest.mark.parametrize(
    "name,kind,count",
    [
        ("hlm/hlm_001-080.txt", "chapter", 80),
        ("slqm/slqm.txt", "chapter", 15),
        ("slqm/slqm_full.txt", "chapter", 30),
        ("modern_prose/hulanhezhuan.txt", "chapter", 8),
        ("messy/shuihu_raw.txt", "chapter", 3),
        ("shakespeare/shakespeare.txt", "paragraph", 157),
        ("slqm/qianziwen_hant.txt", "file", 1),
    ],
)
def test_real_texts(corpora: Path, name: str, kind: str, count: int) -> None:
    found = documents((corpora / name).read_text(encoding="utf-8"))
    assert (found[0], len([text for text in found[1] if text.strip()])) == (kind, count)
    assert min(map(len, found[1])) > 50 or kind == "paragraph"


def test_plays_are_cut_between_speeches(corpora: Path) -> None:
    kind, found = documents((corpora / "shakespeare" / "tinyshakespeare.txt").read_text(encoding="utf-8"))
    assert kind == "pieces"
    assert all(3000 <= len(text) < 7000 for text in found[:-1])
    assert sum(text.split("\n")[0].endswith(":") for text in found) > 0.95 * len(found)
