"""Which option an answer decides for: "故选B", "A错误，选B", "The answer is (c)".

::

    explicit    选B, 答案是B, answer is B, \\boxed{B}, B正确, B is correct;
                the last one counts, as people correct themselves
    beginning   B. 上海 / B，因为… / (B); unless the options are merely written down again
    bare        … B …; the first

A letter of a Latin word or a term (DNA, B超, 维生素C) is none, nor is an option that is denied (A错误, 不选A,
not A). Lower case, full-width forms and Traditional characters are read alike. An explicit statement of
several letters ("选AC") decides for no single option: none.
"""

import re
import unicodedata
from collections.abc import Iterator

LETTERS = "ABCDEFGH"
_LONGEST = 2000  # characters of an answer that are looked at, half of them at its end
_SIMPLIFIED = str.maketrans(
    "選擇應確錯誤對項為與還並題顯終該認個過無沒號會覺說敘錄則後綜這據難斷",
    "选择应确错误对项为与还并题显终该认个过无没号会觉说叙录则后综这据难断",
)
_OPEN = r"[\s:=\-—>\"'“”‘’「」『』【】〔〕\[\](){}<>《》~]*"
_UNIT = r"(?:\s*(?:选项|项))?"
_CLOSED = rf"{_UNIT}\s*[)\]]?\s*"
_ONE = r"(?<![A-Za-z0-9])[A-Ha-h](?![A-Za-z0-9+#])(?!超|股|型|语言|族|座|罩|大调|小调|调|[-‐]\d)"
_JOIN = rf"{_CLOSED}(?:[、,/&和与及或]|and\b|or\b|nor\b)\s*[(\[]?\s*"
_GROUP = rf"(?P<letters>(?<![A-Za-z0-9])[A-H]{{2,8}}(?![A-Za-z0-9])|{_ONE}(?:{_JOIN}{_ONE}){{0,7}})"
_JUDGED = "正确|错误|不正确|不对|有误|符合|不符合|符合题意|不符合题意|恰当|合适|合理|最佳"
_BE = r"(?:\s*(?:应该|应当|应|就|只|只能|必须|当然|显然|可能|大概|一定))*\s*(?:是|为|选择|选|得|有)?"
_KEYWORDS = (
    rf"(?:答案|答|结论|(?:{_JUDGED})的(?:选项|说法|一项|一个|答案)?"
    rf"|(?:正确|最佳|最终|错误)(?:选项|答案)|选项(?=\s*[是为:])){_BE}"
    r"|选择(?!题)|选(?![择项])|应该是|应是|应为|而是|改为|改成|就是|\#{3,4}|\\boxed"
    r"|\bans\.|\b(?:answers?|ans|choice|option|choose|chose|pick|picked|select|selected"
    r"|go(?:ing)? with|went with|settle on|it'?s|it is|it must be|must be|should be|but)\b"
    r"(?:\s*(?:is|was|are|would be|should be|must be|will be))?"
    r"(?:\s*(?:probably|clearly|definitely|thus|therefore))?(?:\s*the)?(?:\s*(?:correct|right|best))?"
    r"(?:\s*(?:letter|option|choice|answer)\b)?"
)
_STATED = re.compile(
    rf"(?P<keyword>{_KEYWORDS}){_OPEN}(?:(?:选项|项|option\s|choice\s){_OPEN})?{_GROUP}", re.I
)
_AFFIRMED = re.compile(
    rf"{_GROUP}{_CLOSED}(?:才|就|都|均|的说法|说法|是)*\s*(?:唯一)?"
    r"(?:(?<=项)[；:,][^A-H.\n;]{0,40}?(?<!不)正确|正确|对的|对(?=[,；.!;\s]|$)|没错|无误|符合题意|正解|答案"
    r"|(?:最|更)(?:恰当|合适|合理|佳|好)"
    r"|(?:is|are|was|must be|seems|looks)\s+(?:the\s+|clearly\s+|definitely\s+|most\s+)*"
    r"(?:correct|right|true|best|answer|appropriate)\b)",
    re.I,
)
_DENIED_BEFORE = re.compile(
    r"(?:不应该|不应|不能|不可|不会|不要|不该|不宜|别|勿|误|错|没有|没|未|不)(?:再)?(?:选择|选)"
    r"|(?:并不是|不是|并非|不可能是|不会是|排除(?:了|掉)?|除了?|而不是|而非|不为|不应是|不应为)"
    r"|\b(?:not|isn'?t|wasn'?t|cannot be|can'?t be|couldn'?t be|never|neither|nor|eliminated?|eliminating"
    r"|exclud(?:e|ed|ing)|rul(?:e|ed|ing) out|rather than|instead of|except|reject(?:ed)?"
    r"|don'?t (?:choose|pick|select))\b",
    re.I,
)
_BETWEEN = re.compile(
    rf"{_OPEN}(?:(?:选项|项|the|an?|option|choice|be|correct|that|it'?s|it|either|both){_OPEN})*", re.I
)
_DENIED_AFTER = re.compile(
    rf"{_CLOSED}(?:的?(?:说法|描述|表述|叙述|内容)|都|均|也|是|明显|显然|肯定|全|皆|可以|可|应|与题意|,|；)*\s*"
    r"(?:错误|错(?!过)|不对|不正确|有误|不符|不合|不行|不成立|不可能|不恰当|不准确|不全面"
    r"|(?:排除|不选|不是|并非|不能选|不应选)(?!\s*[(\[]?[A-Ha-h](?![A-Za-z])))"
    r"|\s*\?|\s*[)\]]?\s*(?:(?:is|are|was|were|seems?|looks?|sounds?|must be)\s+)?"
    r"(?:both\s+|all\s+|also\s+|clearly\s+|obviously\s+)*"
    r"(?:wrong|incorrect|false|eliminated|ruled out|excluded|impossible|out\b)"
    r"|\s*[)\]]?\s*(?:is|are|was|does|do|can|could|would|should)\s*(?:not|n'?t)\b(?!\s*wrong)"
    r"|\s*[)\]]?\s*(?:cannot|can'?t)\b",
    re.I,
)
_WRONG_CLAUSE = re.compile(r"(?:选项|项)[^A-H.\n;]{0,40}?(?:错误|不正确|不符|有误|不对)")
_BEGINNING = re.compile(
    rf"[\s(\[【「“\"']*{_GROUP}{_UNIT}\s*(?:[.)\]】」”\"':、,；;!]|$|\n|因为|since\b|because\b)"
)
_BARE = re.compile(_GROUP)
_LISTED = re.compile(r"^\s*[(\[]?A\s*[.):、]\s*\S.*?(?:^|[\s(\[])B\s*[.):、]", re.M | re.S)
_TERM_BEFORE = re.compile(r"(?:维生素|维他命|vitamin\s|元素|型号|血型|字母|点|线段|角|∠|△|班|图)\s*$", re.I)
_ARTICLE = re.compile(
    r"\s+(?!(?:is|are|was|because|since|as|and|or|but|for|looks?|seems?|must)\b)[A-Za-z]{2,}"
)


def first_letter(text: str, options: int) -> int | None:
    """Number of the option, from 0, that an answer decides for; None where it decides for no single one.

    >>> first_letter("根据DNA的结构，选Ｃ", 4), first_letter("A错误，应选b", 4), first_letter("不知道", 4)
    (2, 1, None)
    """
    text = _plain(text)
    stated = list(_mentions(_STATED, text, options))
    stated += [one for one in _mentions(_AFFIRMED, text, options) if len(one[1]) == 1]
    if stated:
        return _single(max(stated)[1])
    began = next(_mentions(_BEGINNING, text, options, at_start=True), None)
    if began and not _lists_options(text):
        return _single(began[1])
    bare = [letters for _, letters in _mentions(_BARE, text, options) if len(letters) == 1]
    return None if not bare or _lists_options(text) else _single(bare[0])


def _plain(text: str) -> str:
    """The answer behind any thoughts, in simple forms: half width, Simplified keywords, no mark-up."""
    text = text.rpartition("</think>")[2]
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}\n{text[-_LONGEST // 2 :]}"
    # A Chinese comma parts sentences (选B，A错误), an English one options as well: they stay apart.
    text = "；".join(unicodedata.normalize("NFKC", part) for part in text.split("，"))
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text.translate(_SIMPLIFIED)))
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*(?=\{)|[*`$]|(?<![A-Za-z])_|_(?![A-Za-z])", "", text)
    return re.sub(r",(?=[A-H](?:选?项)?[错不])", "；", text.replace("。", ".").replace("’", "'"))


def _mentions(
    pattern: re.Pattern[str], text: str, options: int, *, at_start: bool = False
) -> Iterator[tuple[int, str]]:
    """Where options are named, and their letters; without denied ones and letters of words."""
    found = [pattern.match(text)] if at_start else pattern.finditer(text)
    for one in found:
        if one is None:
            continue
        start, end = one.span("letters")
        letters = _known(one["letters"], options)
        keyword = one.groupdict().get("keyword")
        if not keyword and pattern is not _AFFIRMED and _WRONG_CLAUSE.match(text, end):
            continue
        alone = not text[:start].strip() and not text[end:].strip(" .)")
        if not letters or _TERM_BEFORE.search(text[:start]) or _denied(text, one.start(), start, end):
            continue
        lower = one["letters"][-1].islower()
        if lower and not (keyword or alone or pattern is not _BARE):
            continue
        if one["letters"][-1] in "aA" and (lower or not keyword) and _ARTICLE.match(text, end):
            continue
        yield start, letters


def _denied(text: str, statement: int, start: int, end: int) -> bool:
    before = text[max(0, statement - 24) : start]
    last = max((found.end() for found in _DENIED_BEFORE.finditer(before)), default=None)
    # What was denied further before says nothing of what comes behind other words.
    denied = last is not None and _BETWEEN.fullmatch(before[last:])
    return bool(denied) or bool(_DENIED_AFTER.match(text, end))


def _known(letters: str, options: int) -> str:
    """The distinct letters of a group, in order; none if one of them is no option."""
    found = re.findall(r"[A-H]{2,8}" if re.fullmatch(r"[A-H]{2,8}", letters) else rf"{_ONE}", letters)
    plain = "".join(dict.fromkeys("".join(found).upper()))
    return plain if all(letter in LETTERS[:options] for letter in plain) else ""


def _single(letters: str) -> int | None:
    return LETTERS.index(letters) if len(letters) == 1 else None


def _lists_options(text: str) -> bool:
    """Whether an answer only writes the options down again: A. … B. …"""
    return _LISTED.search(text) is not None
