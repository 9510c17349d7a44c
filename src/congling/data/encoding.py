"""Which encoding a text file has: marks first, then strict UTF-8, then the reading most like language.

GB18030 and Big5 accept nearly every byte pair, so that decoding without an error proves nothing: a text
of one read as the other becomes rare characters. The most frequent characters of written Chinese make up
a third of any text, and hardly ever appear by accident, which tells the two apart from a few dozen
characters on.
"""

import codecs
import locale
from collections.abc import Sequence
from dataclasses import dataclass

import charset_normalizer

from congling.core.errors import UserError
from congling.core.files import exists
from congling.core.text import valid

SAMPLE = 1 << 18  # bytes looked at

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FREQUENT = frozenset(
    "的一是不了在人有我他这上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学"
    "之都好看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因"
    "這們來時為說國著裡後會過對於學發當沒還樣種開總從無現經長兒愛與書見點東車馬門間問題體關個實義會請話給麼"
    "，。、！？：；「」“”《》（）『』…—　"
)
_PLAUSIBLE = 0.12  # share of frequent characters; a wrong reading has 0.01 to 0.04
_HINT = "save the file as UTF-8 text, or name its encoding, for example encoding=gb18030"


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec name, how many bytes of mark to skip, and on what grounds."""

    codec: str
    mark: int
    why: str
    guess: bool = False
    """Told by neither a mark, validity nor frequent characters."""

    @property
    def by_lines(self) -> bool:
        """Whether byte 0x0A is always a line feed, so that a damaged line cannot spoil the next."""
        return not self.codec.startswith(("utf-16", "utf-32"))


def from_outside(text: str) -> str:
    """Text typed, piped or given as an argument, whole: read again where it came in another encoding.

    Bytes that the locale's encoding does not know stand in it as halves of surrogate pairs (PEP 383); those
    of a Chinese terminal are mostly GBK or Big5. What cannot be told is read as GB18030, with U+FFFD for what
    is none.

    >>> from_outside(b"\\xc4\\xe3\\xba\\xc3".decode("utf-8", "surrogateescape"))
    '你好'
    """
    if not any("\udc80" <= character <= "\udcff" for character in text):
        return valid(text)
    try:
        raw = text.encode(locale.getencoding(), "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogateescape") if _escaped(text) else valid(text).encode()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        codec = detect(raw, where="text")
    except UserError:
        codec = None
    # A few characters are few to judge by: a guess by statistics of bytes is worth less than GB18030.
    return raw.decode("gb18030" if codec is None or codec.guess else codec.codec, "replace")


def arguments(words: Sequence[str]) -> list[str]:
    """The words of a command line, whole; the name of a file that is there stays as it is."""
    return [word if word.isascii() or exists(word) else from_outside(word) for word in words]


def _escaped(text: str) -> bool:
    """Whether all halves are bytes that were escaped."""
    return not any("\ud800" <= one < "\udc80" or "\udcff" < one <= "\udfff" for one in text)


def named(name: str) -> Encoding:
    """The encoding a person named.

    Raises:
        UserError: there is no such text encoding.
    """
    try:
        "".encode(name)
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        hint = "for example utf-8, gb18030, big5hkscs or utf-16-le"
        raise UserError("there is no such text encoding", value=name, hint=hint) from None
    return Encoding(codec, 0, "as configured")


def detect(sample: bytes, *, where: object) -> Encoding:
    """Tell the encoding of a file from its first bytes (up to ``SAMPLE``).

    Raises:
        UserError: the bytes are no text, or no reading of them is convincing.
    """
    for mark, codec in _MARKS:
        if sample.startswith(mark):
            return Encoding(codec, len(mark), "byte order mark")
    if _looks_binary(sample):
        return _wide(sample, where)
    if sample.isascii():
        return Encoding("utf-8", 0, "ASCII only")
    good, bad = _utf8_sequences(sample)
    if not bad:
        return Encoding("utf-8", 0, "valid UTF-8")
    if good > 10 * bad:  # any other encoding, read as UTF-8, has more errors than characters
        return Encoding("utf-8", 0, "UTF-8 with damaged places")
    return _most_plausible(sample, where)


def _looks_binary(sample: bytes) -> bool:
    """Whether there are more zero and control bytes than stray ones in a text."""
    control = sum(sample.count(byte) for byte in range(32) if byte not in b"\t\n\r\f\v\x1a\x1b\0")
    return max(sample.count(0), control) > max(8, len(sample) // 50)


def _wide(sample: bytes, where: object) -> Encoding:
    """UTF-16 without a mark: Latin text has a zero in every pair of bytes, Chinese its frequent characters.

    Raises:
        UserError: it is neither.
    """
    for codec, zeros, others in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        text, errors = _read(sample, codec)
        if errors > len(text) // 100 or sum(map(_ordinary, text)) < 0.9 * len(text):
            continue
        if sample[zeros::2].count(0) > 0.8 * len(text) and not sample[others::2].count(0):
            return Encoding(codec, 0, "every other byte is zero")
        share = _plausibility(sample, codec)
        if share >= _PLAUSIBLE:
            return Encoding(codec, 0, f"frequent characters are {share:.0%} of it")
    hint = "give a text, JSON, CSV or Parquet file; export other documents as UTF-8 text first"
    raise UserError("this file is not text", where=where, value=bytes(sample[:16]), hint=hint)


def _ordinary(character: str) -> bool:
    code = ord(character)
    latin_or_cjk = 0x20 <= code < 0x250 or 0x2000 <= code < 0x2070 or 0x3000 <= code < 0xA000
    return latin_or_cjk or code >= 0xFF00 or character in "\n\r\t"


def _utf8_sequences(sample: bytes) -> tuple[int, int]:
    """Numbers of whole multi-byte characters and of damaged places, the sample's cut end aside."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample, final=False)
    bad = text.count("\ufffd") - sample.count("\ufffd".encode())  # U+FFFD may stand in valid text too
    return sum(1 for character in text if ord(character) > 127) - bad, bad


def _most_plausible(sample: bytes, where: object) -> Encoding:
    """Choose between the encodings of Chinese by frequent characters; else ask charset-normalizer."""
    ranked = sorted(
        (_plausibility(sample, codec), codec) for codec in ("gb18030", "big5hkscs", "utf-16-le", "utf-16-be")
    )
    (second, _), (best, codec) = ranked[-2:]
    if best >= _PLAUSIBLE and best >= 2 * second:
        return Encoding(codec, 0, f"frequent characters are {best:.0%} of it")
    if sum(byte > 127 for byte in sample) < len(sample) // 10:
        return Encoding("cp1252", 0, "mostly ASCII; the rest guessed to be Western European", True)
    match = charset_normalizer.from_bytes(sample[: 1 << 16]).best()
    if match is not None:
        return Encoding(match.encoding, 0, "guess from character statistics", True)
    raise UserError(
        "cannot tell the encoding of this file", where=where, value=bytes(sample[:16]), hint=_HINT
    )


def _plausibility(sample: bytes, codec: str) -> float:
    """Share of frequent characters among the non-ASCII ones (0 when over 1 % of them cannot be decoded)."""
    text, errors = _read(sample, codec)
    beyond = [character for character in text if ord(character) > 127]
    if not beyond or errors > len(beyond) // 100:
        return 0.0
    return sum(character in _FREQUENT for character in beyond) / len(beyond)


def _read(sample: bytes, codec: str) -> tuple[str, int]:
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample, final=False)
    return text, text.count("\ufffd")
