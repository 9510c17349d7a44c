"""Books: their pages in the order of reading; what is broken, hostile or protected is named, not followed."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import ReadingLog
from congling.data.sources import package
from congling.data.sources.reading import read

pytest.importorskip("lxml")
LONG = (
    "却说那日天气晴和，众人在园中闲坐说话，只见一个小丫头笑嘻嘻地走来，"
    "说道：“老太太请姑娘们过去呢，快些儿。”众人听了都笑。"
)
PAGE = (
    '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
    "<head><title>x</title></head><body>{}</body></html>"
)
CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
  <rootfiles><rootfile full-path="{}" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""


def chapter(number: int) -> str:
    return PAGE.format(f"<h2>第{'一二三四五六七八九'[number]}章</h2><p>{number}{LONG}</p>")


class Book:
    """An EPUB that can be spoilt before it is written."""

    def __init__(self, *pages: str) -> None:
        self.files: dict[str, str | bytes] = {f"OEBPS/text/{i}.xhtml": page for i, page in enumerate(pages)}
        self.items = [(f"p{i}", f"text/{i}.xhtml", "application/xhtml+xml", "") for i in range(len(pages))]
        self.order = [(f"p{i}", "") for i in range(len(pages))]
        self.more = ""
        self.files["META-INF/container.xml"] = CONTAINER.format("OEBPS/content.opf")

    def opf(self) -> str:
        items = "".join(
            f'<item id="{i}" href="{href}" media-type="{kind}" properties="{properties}"/>'
            for i, href, kind, properties in self.items
        )
        order = "".join(f'<itemref idref="{i}" {more}/>' for i, more in self.order)
        return (
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<metadata><dc:title>石头记</dc:title></metadata><manifest>{items}</manifest>"
            f'<spine toc="ncx">{order}</spine>{self.more}</package>'
        )

    def write(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
            for name, content in ({"OEBPS/content.opf": self.opf()} | self.files).items():
                archive.writestr(name, content)
        return path


def found(path: Path, **settings: object) -> tuple[list[Document], ReadingLog]:
    findings = ReadingLog()
    config = DataConfig.model_validate({"sources": (str(path),), **settings})
    return list(read(config.sources, config, findings)), findings


def test_pages_come_in_the_order_of_reading(tmp_path: Path):
    book = Book(*map(chapter, range(4)))
    book.order = [("p2", ""), ("p0", ""), ("p3", ""), ("p1", "")]
    documents, findings = found(book.write(tmp_path / "a.epub"))
    assert [document.meta["title"] for document in documents] == ["第三章", "第一章", "第四章", "第二章"]
    assert documents[0].text == f"第三章\n2{LONG}" and documents[0].meta["source"] == "石头记"
    assert [document.id for document in documents] == [f"a.epub:{line}" for line in (1, 3, 5, 7)]
    assert findings.sound and findings.files[0].why == "4 pages in the order of reading"


@pytest.mark.parametrize(("documents", "count"), [
    ("auto", 3), ("chapter", 3), ("file", 1), ("paragraph", 6), ("line", 6),
])  # fmt: skip
def test_what_a_document_is_can_be_chosen(documents: str, count: int, tmp_path: Path):
    book = Book(*map(chapter, range(3))).write(tmp_path / "a.epub")
    assert len(found(book, documents=documents)[0]) == count


def test_a_page_of_several_chapters_is_several_documents(tmp_path: Path):
    body = "".join(f"<p>第{n}回 题目</p><p>{LONG}</p><p>{LONG * 2}</p>" for n in "一二三")
    documents, _ = found(Book(PAGE.format(body), chapter(8)).write(tmp_path / "a.epub"))
    assert [document.meta["title"] for document in documents] == [
        *(f"第{n}回 题目" for n in "一二三"),
        "第九章",
    ]


def test_what_is_no_text_is_left_out_and_named(tmp_path: Path):
    book = Book(PAGE.format("<h1>石头记</h1>"), chapter(0), chapter(1), chapter(2))
    book.files |= {"OEBPS/nav.xhtml": PAGE.format("<p>目录</p>"), "OEBPS/cover.svg": "<svg/>"}
    book.items += [
        ("nav", "nav.xhtml", "application/xhtml+xml", "nav"),
        ("svg", "cover.svg", "image/svg+xml", ""),
    ]
    book.items += [("gone", "gone.xhtml", "application/xhtml+xml", "")]
    book.order = [
        ("nav", ""),
        ("svg", ""),
        ("p0", ""),
        ("p1", ""),
        ("p2", 'linear="no"'),
        ("p3", ""),
        ("p3", ""),
        ("gone", ""),
        ("unknown", ""),
    ]
    documents, findings = found(book.write(tmp_path / "a.epub"))
    assert [document.text for document in documents] == [f"石头记\n第一章\n0{LONG}", f"第三章\n2{LONG}"]
    reasons = " ".join(problem.reason for problem in findings.examples)
    for part in (
        "nav.xhtml",
        "cover.svg: no page but image/svg+xml",
        "2.xhtml: beside",
        "gone.xhtml",
        "unknown",
    ):
        assert part in reasons
    assert findings.counts == {"part of a book": 5}
    assert "left out: " in findings.files[0].why


def test_pages_have_encodings_and_readings_of_their_own(tmp_path: Path):
    book = Book(*map(chapter, range(2)))
    book.files["OEBPS/text/0.xhtml"] = f'<?xml version="1.0" encoding="gb2312"?><p>{LONG}</p>'.encode("gbk")
    book.files["OEBPS/text/1.xhtml"] = PAGE.format(f"<p>{LONG}<ruby>字<rt>ㄗˋ</rt></ruby><script/>尾</p>")
    assert [document.text for document in found(book.write(tmp_path / "a.epub"))[0]] == [LONG, LONG + "字尾"]


@pytest.mark.parametrize("href", [
    "../../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://example.org/a.xhtml",
    "//example.org/x", "%2e%2e/%2e%2e/%2e%2e/etc/passwd", "..", "", "a%00b", "C:\\x",
])  # fmt: skip
def test_references_out_of_the_book_lead_nowhere(href: str, tmp_path: Path):
    book = Book(chapter(0))
    book.items.append(("out", href, "application/xhtml+xml", ""))
    book.order.append(("out", ""))
    documents, findings = found(book.write(tmp_path / "a.epub"))
    assert [document.text for document in documents] == [f"第一章\n0{LONG}"]
    assert findings.counts == {"part of a book": 1}


def test_a_path_may_be_escaped_and_go_up_within_the_book(tmp_path: Path):
    book = Book(chapter(0))
    book.files["第 一.xhtml"] = chapter(1)
    book.items.append(("up", "../%E7%AC%AC%20%E4%B8%80.xhtml#start", "application/xhtml+xml", ""))
    book.order.append(("up", ""))
    assert len(found(book.write(tmp_path / "a.epub"))[0]) == 2


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)


@pytest.mark.parametrize("entity", [BOMB, '<!DOCTYPE x [<!ENTITY j SYSTEM "file:///etc/passwd">]>'])
def test_entities_are_not_resolved(entity: str, tmp_path: Path):
    book = Book(chapter(0))
    opf = book.opf()
    book.files["OEBPS/content.opf"] = entity + opf.replace("石头记", "&j;")
    with pytest.raises(UserError, match="declares entities"):
        found(book.write(tmp_path / "a.epub"))
    book = Book(entity + PAGE.format(f"<p>&j;{LONG}</p>"), chapter(1))
    first, _ = found(book.write(tmp_path / "b.epub"))[0]
    assert "root:" not in first.text and len(first.text) < 2 * len(LONG)


def test_a_zip_bomb_is_a_part_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (package, __import__("congling.data.sources.epub", fromlist=["epub"])):
        monkeypatch.setattr(module, "LARGEST_PAGE", 2**20)
    book = Book(PAGE.format("<p>" + " " * 2**24), chapter(1))
    documents, findings = found(book.write(tmp_path / "a.epub"))
    assert len(documents) == 1 and "larger than" in findings.examples[0].reason
    book.files["META-INF/container.xml"] = " " * 2**24
    with pytest.raises(UserError, match="larger than"):
        found(book.write(tmp_path / "b.epub"))


def test_a_header_that_lies_about_a_size_is_not_believed(tmp_path: Path):
    file = Book(chapter(0), chapter(1)).write(tmp_path / "a.epub")
    content = bytearray(file.read_bytes())
    at = content.rfind(b"OEBPS/text/0.xhtml") - 46  # of the central directory
    struct.pack_into("<I", content, at + 24, 2**31)
    file.write_bytes(content)
    documents, findings = found(file)
    assert len(documents) + findings.counts["part of a book"] == 2


@pytest.mark.parametrize(
    "spoil", ["container", "no package", "no xml", "no spine", "cut", "text", "plain zip"]
)
def test_what_is_no_book_is_one_clear_error(spoil: str, tmp_path: Path):
    book, file = Book(chapter(0)), tmp_path / "a.epub"
    if spoil == "container":
        del book.files["META-INF/container.xml"]
    if spoil == "no package":
        book.files["META-INF/container.xml"] = CONTAINER.format("gone.opf")
    if spoil == "no xml":
        book.files["OEBPS/content.opf"] = "\x00\x01"
    if spoil == "no spine":
        book.order = []
    book.write(file)
    if spoil == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    if spoil == "text":
        file.write_text("no archive")
    if spoil == "plain zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "x")
    with pytest.raises(UserError, match="book|EPUB"):
        found(file)


def test_a_protected_book_says_so(tmp_path: Path):
    book = Book(chapter(0), chapter(1))
    book.files["META-INF/encryption.xml"] = (
        '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>'
        '<enc:CipherReference URI="{}"/></enc:CipherData></enc:EncryptedData></encryption>'
    ).format("OEBPS/text/1.xhtml")
    with pytest.raises(UserError, match="encrypted"):
        found(book.write(tmp_path / "a.epub"))
    book.files["META-INF/encryption.xml"] = book.files["META-INF/encryption.xml"].replace(
        "text/1.xhtml", "font.otf"
    )
    assert len(found(book.write(tmp_path / "b.epub"))[0]) == 2, "fonts may be obfuscated"


def test_a_damaged_page_costs_that_page(tmp_path: Path):
    file = Book(chapter(0), chapter(1), chapter(2)).write(tmp_path / "a.epub")
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("OEBPS/text/1.xhtml")
    content = bytearray(file.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    content[start : start + 20] = b"\xff" * 20
    file.write_bytes(content)
    documents, findings = found(file)
    assert [document.meta["title"] for document in documents] == ["第一章", "第三章"]
    assert findings.counts == {"part of a book": 1} and "damaged" in findings.examples[0].reason


def test_a_book_is_known_by_its_beginning(tmp_path: Path):
    Book(chapter(0)).write(tmp_path / "book.bin")
    assert len(found(tmp_path / "book.bin")[0]) == 1
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("a.txt", "x")
    (tmp_path / "b.zip").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match="ZIP archive"):
        found(tmp_path / "b.zip")
