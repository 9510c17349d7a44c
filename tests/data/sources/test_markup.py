"""Pages become the text a reader sees, in any declared encoding; what is left out is counted."""

import gzip
import sys
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import ReadingLog
from congling.data.sources.reading import has_records, read

pytest.importorskip("lxml")


def found(path: Path, **settings: object) -> tuple[list[Document], ReadingLog]:
    findings = ReadingLog()
    config = DataConfig.model_validate({"sources": (str(path),), **settings})
    return list(read(config.sources, config, findings)), findings


def text_of(page: str | bytes, tmp_path: Path, name: str = "page.html", **settings: object) -> str:
    file = tmp_path / name
    file.write_bytes(page if isinstance(page, bytes) else page.encode())
    return "\n===\n".join(document.text for document in found(file, **settings)[0])


@pytest.mark.parametrize(("page", "expected"), [
    ("<p>一<p>二", "一\n二"),
    ("<p>一</p>\n\n<p>二 三\n四</p>", "一\n二 三四"),
    ("<p>one\ntwo  <b>three</b></p>", "one two three"),
    ("第一行<br>第二行<br/>第三行", "第一行\n第二行\n第三行"),
    ("<p>&nbsp;&nbsp;&nbsp;　　却说&lt;甄&gt;&#x58eb;&#38544;&hellip;</p>", "却说<甄>士隐…"),
    ("<p>漢<ruby>字<rp>(</rp><rt>ㄗˋ</rt><rp>)</rp></ruby>好</p>", "漢字好"),
    ("<p>前<script>if (a<b) alert('x')</script>后<style>p{}</style></p>", "前后"),
    ("<nav><a>首页</a></nav><article>正文</article><footer>版权</footer><aside>广告</aside>", "正文"),
    ("<div hidden>藏</div><p style='display: none'>藏</p><p>见</p>", "见"),
    ("<ul><li>甲<li>乙</ul><table><tr><td>一<td>二<tr><td>三</table>", "甲\n乙\n一 二\n三"),
    ("<pre>for i:\n    a\n\n  b</pre><p>完</p>", "for i:\n    a\n  b\n完"),
    ("<title>不是正文</title><h1>题</h1>文", "题\n文"),
    ("<!-- 注释 --><p>好<!-- 又 -->的</p><?php echo 1 ?>", "好的"),
    ("<p>未闭合 <a href='x>y'>链接</a> &unknown; & 后", "未闭合 链接 &unknown; & 后"),
    ("<html xmlns='x'><head><title/><script src='a'/></head><body><p>在</p></body></html>", "在"),
    ("<form><input value=x><p>论坛里的话</p><button>发</button></form>", "论坛里的话"),
])  # fmt: skip
def test_a_page_is_what_a_reader_sees(page: str, expected: str, tmp_path: Path):
    assert text_of(page, tmp_path) == expected


def test_readings_are_kept_where_so_wished(tmp_path: Path):
    page = "<ruby>字<rp>(</rp><rt>ㄗˋ</rt><rp>)</rp></ruby>"
    assert text_of(page, tmp_path, ruby="keep") == "字(ㄗˋ)"


STORY = "却说那日天气晴和，众人在园中闲坐说话，只见一个小丫头走来，说道：“老太太请姑娘们过去呢。”"
OLD = STORY.translate(str.maketrans("说气众园闲话见个头来请过们", "說氣眾園閒話見個頭來請過們"))


@pytest.mark.parametrize(("declared", "codec", "story"), [
    ("gb2312", "gb18030", STORY + "镕喆"),  # characters that gb2312 lacks, as pages have them
    ("gbk", "gbk", STORY), ("GB18030", "gb18030", STORY + "𠀀"), ("big5", "big5hkscs", OLD),
    ("utf-8", "utf-8", STORY), ("x-gbk", "gbk", STORY), ("euc-jp", "euc-jp", "私は本を読んでいます。"),
    ("gb2312", "utf-8", STORY),  # saved again by a browser
    ("iso-8859-1", "gb18030", STORY * 3),  # a server's default
    ("utf-8", "gb18030", STORY * 3), ("no-such-thing", "gb18030", STORY * 3),
    ("idna", "utf-8", STORY), ("unicode_escape", "gb18030", STORY * 3), ("rot13", "utf-8", STORY),
])  # fmt: skip
@pytest.mark.parametrize("form", [
    '<meta charset="{}">', "<META http-equiv=Content-Type content='text/html; charset={}'>",
    '<?xml version="1.0" encoding="{}"?>',
])  # fmt: skip
def test_declared_encodings_are_read_and_wrong_ones_found_out(
    declared: str, codec: str, story: str, form: str, tmp_path: Path
):
    page = f"{form.format(declared)}<html><p>{story}</p></html>"
    assert text_of(page.encode(codec), tmp_path) == story


def test_a_configured_encoding_wins(tmp_path: Path):
    page = "<meta charset=utf-8><p>中</p>".encode("big5")
    assert text_of(page, tmp_path, encoding="big5") == "中"


def test_what_is_left_out_is_counted_and_named(tmp_path: Path):
    (tmp_path / "a.html").write_text(
        "<script>1</script><script>2</script><img src=x><nav><p>菜单</p></nav><p>文</p>", encoding="utf-8"
    )
    _, findings = found(tmp_path / "a.html")
    assert findings.files[0].why.endswith("left out: 2 × script, 1 × img, 1 × nav")
    assert not findings.counts


def test_chapters_of_a_page_are_documents(tmp_path: Path):
    page = "<h1>书</h1>" + "".join(f"<h2>第{n}回 题</h2><p>{STORY * 3}</p><p>{STORY}</p>" for n in "一二三")
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    documents, _ = found(tmp_path / "a.html")
    assert [document.meta["title"] for document in documents] == [f"第{n}回 题" for n in "一二三"]
    assert len(found(tmp_path / "a.html", documents="file")[0]) == 1
    assert len(found(tmp_path / "a.html", documents="paragraph")[0]) == 10


def test_the_heading_of_a_page_is_its_title(tmp_path: Path):
    (tmp_path / "a.html").write_text(f"<title>站名</title><h1>文章</h1><p>{STORY}</p>", encoding="utf-8")
    (document,), _ = found(tmp_path / "a.html")
    assert document.meta == {"title": "文章"} and document.id == "a.html:1"


def test_pages_are_read_from_folders_packed_and_under_other_names(tmp_path: Path):
    page = f"<!DOCTYPE html>\n<html><body><p>{STORY}</p><script>x</script></body></html>"
    (tmp_path / "a.htm").write_text(page, encoding="utf-8")
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(page.encode()))
    (tmp_path / "c.txt").write_text(page, encoding="utf-8")
    (tmp_path / "d.txt").write_text("说 <html> 的事。", encoding="utf-8")
    documents, findings = found(tmp_path)
    assert [document.text for document in documents] == [STORY] * 3 + ["说 <html> 的事。"]
    assert [note.format for note in findings.files] == ["htm", "html", "html", "txt"]
    assert not any(has_records(str(file)) for file in tmp_path.iterdir())


def test_memory_and_depth_have_no_hold_on_it(tmp_path: Path):
    deep = "<div>" * 20_000 + "底" + "</div>" * 20_000
    long = "<p>" + "字" * 2_500_000
    assert text_of(deep, tmp_path) == "底"
    assert text_of(long, tmp_path, longest=10_000_000).replace("\n", "") == "字" * 2_500_000


@pytest.mark.parametrize("page", ["", "<html></html>", "<script>x</script>", "<!-- -->"])
def test_a_page_without_text_is_named(page: str, tmp_path: Path):
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    documents, findings = found(tmp_path / "a.html")
    assert not documents and findings.counts == {"empty file": 1}


@pytest.mark.parametrize("name", ["a.html", "a.epub"])
def test_without_the_extra_one_error_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / name).write_text("<p>x</p>")
    monkeypatch.setitem(sys.modules, "lxml", None)
    monkeypatch.setitem(sys.modules, "lxml.etree", None)
    with pytest.raises(UserError, match=r'pip install "congling\[web\]"'):
        found(tmp_path / name)


@pytest.mark.parametrize("source", ["https://example.org/book.html", "http:/example.org/a?b=c"])
def test_addresses_are_not_downloaded(source: str):
    config = DataConfig(sources=(source,))
    with pytest.raises(UserError, match=r"does not download: 'https?://example"):
        list(read(config.sources, config, ReadingLog()))
