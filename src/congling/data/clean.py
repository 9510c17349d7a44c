"""Cleaning one text: what can be seen stays, what only disturbs goes.

Normalisation is NFC, not NFKC: full-width punctuation and compatibility forms are ordinary Chinese text.
Text that looks like a special token (``<|im_end|>``) is text, and stays: tokenizers here never parse special
tokens in a corpus.
"""

import re
import unicodedata

from congling.data.config import DataConfig

_BREAKS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f"  # control characters but tab and breaks
    "\xad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"  # zero-width, direction
    "\ud800-\udfff\ufdd0-\ufdef\ufffd\ufffe\uffff]"  # surrogates, noncharacters, traces of bad bytes
    # Joiners mean something inside emoji and in Arabic and Indic scripts, elsewhere nothing.
    "|(?<![\u0600-\u0fff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])[\u200c\u200d]"
)
_TRAILING = re.compile(r"[ \t\u3000\xa0]+$", re.MULTILINE)
_BLANK = re.compile(r"\n{3,}")
# Neighbouring readings share their marks: &&浮ㄈㄨˊ&&在ㄗㄞˋ&&
_READING = "\u3105-\u312f\u02c7\u02ca\u02cb\u02d9\u31a0-\u31bf"
_RUBY = re.compile(f"&&([^&\n]{{1,4}}?)[{_READING}][{_READING} ]*(?=&&)")


def clean(text: str, config: DataConfig) -> tuple[str, int]:
    """Clean a text; also return how many invisible or invalid characters were removed.

    >>> clean("云对雨\\r\\n\\u200b雪对风\\n\\n\\n\\n", DataConfig(sources=("x",)))
    ('云对雨\\n雪对风', 1)
    """
    text = _BREAKS.sub("\n", text)
    text, removed = _INVISIBLE.subn("", text)
    if config.ruby == "remove" and "&&" in text:
        text, readings = _RUBY.subn(r"\1", text)
        if readings:
            text = text.replace("&&", "")
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    text = _TRAILING.sub("", text)
    if config.collapse_blank_lines:
        text = _BLANK.sub("\n\n", text)
    return text.strip("\n"), removed


def blank(text: str) -> bool:
    """Whether a text holds nothing that can be seen."""
    return not text.strip() or not _INVISIBLE.sub("", text).strip()
