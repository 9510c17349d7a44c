import unicodedata

import pytest

from congling.data.clean import clean
from congling.data.config import DataConfig

CONFIG = DataConfig(sources=("x",))


@pytest.mark.parametrize(
    "dirty,text,removed",
    [
        ("一\r\n二\r三\u2028四\x85五\v六", "一\n二\n三\n四\n五\n六", 0),
        ("\ufeff零\u200b宽\u2060空", "零宽空", 3),
        ("空\x00字\x1b符", "空字符", 2),
        ("坏\ud83d代理", "坏代理", 1),
        ("从\u202eabc\u202c右", "从abc右", 2),
        ("e\u0301", "é", 0),
        ("全角ＡＢＣ，！？　中", "全角ＡＢＣ，！？　中", 0),
        ("<|im_end|> </s> [PAD]", "<|im_end|> </s> [PAD]", 0),
        ("👨\u200d👩\u200d👧 汉\u200d字", "👨\u200d👩\u200d👧 汉字", 1),
        ("行尾  \n行\t\n\n\n\n末", "行尾\n行\n\n末", 0),
        ("&&浮ㄈㄨˊ&&在ㄗㄞˋ&&水ㄕㄨㄟˇ&&。", "浮在水。", 0),
        ("if (a && b && c)", "if (a && b && c)", 0),
        ("𠀀𠮷□", "𠀀𠮷□", 0),
    ],
)
def test_what_goes_and_what_stays(dirty: str, text: str, removed: int) -> None:
    assert clean(dirty, CONFIG) == (unicodedata.normalize("NFC", text), removed)


def test_cleaning_is_idempotent_and_can_keep_more() -> None:
    dirty = "甲\r\n\n\n\n乙\u200b &&字ㄗˋ&&"
    once = clean(dirty, CONFIG)[0]
    assert clean(once, CONFIG) == (once, 0)
    kept = CONFIG.replace(ruby="keep", collapse_blank_lines=False)
    assert clean(dirty, kept)[0] == "甲\n\n\n\n乙 &&字ㄗˋ&&"
