"""Which encoding a page has: what it declares, unless its bytes say otherwise.

Pages declare gb2312 and hold characters that only GB18030 has; pages that were saved again declare what they
were before. So a declaration is a name for a family, and bytes that are valid UTF-8 are UTF-8.
"""

import codecs
import re

from congling.core.errors import UserError
from congling.data import encoding
from congling.data.encoding import Encoding

_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)""",
    re.I,
)
_WITHIN = 8192  # bytes at the beginning in which a declaration is looked for
_FAMILIES = {
    **dict.fromkeys(
        ("gb2312", "gb_2312-80", "gbk", "x-gbk", "cp936", "chinese", "csgb2312", "iso-ir-58"), "gb18030"
    ),
    **dict.fromkeys(("big5", "big5-hkscs", "cn-big5", "x-x-big5", "csbig5"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii", "windows-1252"), "cp1252"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "korean"), "cp949"),
    **dict.fromkeys(("utf8", "unicode-1-1-utf-8", "utf-16", "utf-16le", "utf-16be"), "utf-8"),
}
"""Declared names, and what browsers read for them; who can read UTF-16 within ASCII has proved it wrong."""
_NO_PAGE = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"))
"""Codecs of Python that no page is written in, some of which do not read past what is wrong."""


def of_page(beginning: bytes, sample: bytes, where: object) -> Encoding:
    """The encoding of a page.

    Args:
        beginning: its first bytes, where a declaration stands.
        sample: bytes that are not all ASCII, if it has such; often the same.
        where: for messages.

    Raises:
        UserError: nothing is declared, and the bytes are no text.
    """
    declared = _declared(beginning)
    marked = beginning.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if declared is None or marked:
        return encoding.detect(beginning if marked else sample, where=where)
    name, codec = declared
    if codec != "utf-8" and not sample.isascii() and _errors(sample, "utf-8") == 0:
        return Encoding("utf-8", 0, f"valid UTF-8, though it declares {name}")
    if codec == "cp1252" and not (found := _told(sample, where)).guess:
        return Encoding(found.codec, 0, f"{found.why}, though it declares {name}")  # what servers say unasked
    wrong = _errors(sample, codec)
    if wrong > max(2, len(sample) // 2000):
        found = _told(sample, where)
        if _errors(sample, found.codec) < wrong:
            return Encoding(found.codec, 0, f"{found.why}, though it declares {name}")
    return Encoding(codec, 0, f"declared as {name}")


def _told(sample: bytes, where: object) -> Encoding:
    """What the bytes themselves tell; a mere guess where they tell nothing."""
    try:
        return encoding.detect(sample, where=where)
    except UserError:
        return Encoding("cp1252", 0, "", guess=True)


def _declared(beginning: bytes) -> tuple[str, str] | None:
    """The name that a page declares, and the codec for it."""
    found = _DECLARED.search(beginning[:_WITHIN])
    if found is None:
        return None
    name = (found[1] or found[2]).decode("ascii", "replace")
    try:
        codec = _FAMILIES.get(name.lower()) or encoding.named(name).codec
    except UserError:  # no encoding that there is
        return None
    return None if codec.replace("_", "-") in _NO_PAGE else (name, codec)


def _errors(sample: bytes, codec: str) -> int:
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample, final=False)
    return text.count("\ufffd")
