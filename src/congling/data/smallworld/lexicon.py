# ruff: noqa: E501 - a Chinese character counts as two columns
"""Words of the small world: categories of entries, each with its forms, and the numbers.

An entry is written ``name/attribute/attribute``. Within a category no form is the beginning of another, so
that a text can be read back in one way only (``entropy.ambiguities`` proves it).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from congling.data.smallworld.couplet_words import COUPLET_WORDS
from congling.data.smallworld.ontology import ONTOLOGY
from congling.data.smallworld.script import to_traditional

LARGEST = 400
"""Numbers from 0 to this one have a name."""


@dataclass(frozen=True, eq=False)
class Category:
    """Words that can stand in the same place."""

    name: str
    attributes: tuple[str, ...]
    entries: tuple[tuple[Any, ...], ...]
    """The forms in the order of ``attributes``; a number carries its value as one more."""
    numeric: bool = False
    forms: tuple[Mapping[str, tuple[Any, ...]], ...] = field(init=False, repr=False)
    """For each attribute: from form to the (first) entry that has it."""
    lengths: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """For each attribute: the lengths of its forms in characters."""

    def __post_init__(self) -> None:
        forms = tuple(
            {entry[k]: entry for entry in reversed(self.entries)} for k in range(len(self.attributes))
        )
        object.__setattr__(self, "forms", forms)
        object.__setattr__(
            self, "lengths", tuple(tuple(sorted({len(form) for form in table})) for table in forms)
        )

    def identifies(self, attribute: int) -> bool:
        """Whether the form of this attribute tells the entry."""
        return len({entry[attribute] for entry in self.entries}) == len(self.entries)

    def translated(self, translate: Callable[[str], str]) -> "Category":
        """The same category with every form passed through ``translate``."""
        entries = tuple(
            tuple(translate(form) if isinstance(form, str) else form for form in entry)
            for entry in self.entries
        )
        return Category(self.name, self.attributes, entries, self.numeric)


def number_word(value: int) -> str:
    """A number from 0 to 999 in Chinese: 8 → 八, 12 → 十二, 35 → 三十五, 208 → 二百零八.

    Raises:
        ValueError: the number is outside this range.
    """
    digits = "零一二三四五六七八九"
    if not 0 <= value < 1000:
        raise ValueError(f"no word for {value}")
    hundreds, rest = divmod(value, 100)
    tens, ones = divmod(rest, 10)
    if hundreds:
        middle = digits[tens] + "十" if tens else "零" if ones else ""
        return digits[hundreds] + "百" + middle + (digits[ones] if ones else "")
    if tens:
        return ("" if tens == 1 else digits[tens]) + "十" + (digits[ones] if ones else "")
    return digits[ones]


def _number(value: int) -> tuple[str, str, str, int]:
    word = number_word(value)
    return (word, "两" if value == 2 else word, str(value), value)


NUMBERS: tuple[tuple[str, str, str, int], ...] = tuple(_number(value) for value in range(LARGEST + 1))
"""(name, form before a measure word, digits, value): (二, 两, 2, 2)."""


def _numbers(name: str, low: int, high: int) -> Category:
    return Category(name, ("word", "count", "digits"), NUMBERS[low : high + 1], numeric=True)


def _words(name: str, attributes: str, text: str) -> Category:
    entries = tuple(tuple(word.split("/")) for word in text.split())
    return Category(name, tuple(attributes.split()), entries)


PEOPLE = """
小满/她 小荷/她 阿梅/她 春杏/她 小棠/她 阿兰/她 小月/她 秋燕/她 小蝶/她 阿秀/她 巧云/她 小禾/她 小薇/她 明珠/她 小芸/她 冬青/她 阿桃/她 小珍/她 玉兰/她 小莲/她 阿菊/她 青青/她
小虎/他 阿松/他 大牛/他 阿福/他 小龙/他 阿强/他 铁柱/他 小舟/他 阿山/他 大川/他 长生/他 阿明/他 小武/他 家宝/他 小海/他 木生/他 阿贵/他 小峰/他 大勇/他 阿林/他 小磊/他 春生/他
"""
ELDERS = "爷爷/他 奶奶/她 爸爸/他 妈妈/她 外公/他 外婆/她 叔叔/他 姑姑/她"
SELLERS = "老伯/他 大婶/她 大叔/他 老奶奶/她 掌柜/他 姑娘/她"

PLACES = """
河边/河边 湖边/湖边 海边/海边 山坡/山坡上 竹林/竹林里 果园/果园里 菜园/菜园里 学校/学校里 集市/集市上 公园/公园里 茶馆/茶馆里
书店/书店里 码头/码头上 桥头/桥头 村口/村口 花园/花园里 草地/草地上 田野/田野里 树林/树林里 广场/广场上 操场/操场上 戏台/戏台前 渡口/渡口边 磨坊/磨坊里 水库/水库边 庙会/庙会上 驿站/驿站里 池塘/池塘边
"""
SPOTS = "大树下 石桌旁 草丛里 长椅上 台阶上 小路边 墙角 水井边 大门口 屋檐下 石桥下 花坛边 窗台上 柴堆后 篱笆旁 石缝里 竹筐后 木桶边 磨盘旁 草垛上 门槛边 石狮子旁 旧车下 花架下"

THINGS = """
风筝/只 书包/个 帽子/顶 雨伞/把 铅笔/支 灯笼/个 皮球/个 围巾/条 木船/只 盒子/个 布娃娃/个 折扇/把 手帕/块 铃铛/个 镜子/面 剪刀/把
哨子/个 陀螺/个 毽子/个 钥匙/把 梳子/把 茶杯/个 花瓶/个 笛子/支 画册/本 日记本/个 斗笠/顶 水壶/个 香囊/个 小鼓/面 木梳/把 竹马/个 泥人/个 弹弓/把 棋盘/个 面具/个 腰带/条 布鞋/双 口琴/支 地图/张
"""
FRUITS = "苹果/个 桃子/个 橘子/个 李子/个 杏子/个 柿子/个 草莓/颗 栗子/颗 核桃/个 红枣/颗 石榴/个 枇杷/颗"
SNACKS = "月饼/块 饼干/块 糖果/颗 鸡蛋/个 包子/个 豆糕/块 烧饼/个 粽子/个 汤圆/个 麻花/根"
PETS = "小猫/只 小狗/只 白鹅/只 小羊/只 兔子/只 鸽子/只 鹦鹉/只 鸭子/只 母鸡/只 小牛/头 乌龟/只 松鼠/只"
TREES = "桃树 柳树 枣树 桂树 松树 梅树 梨树 石榴树 槐树 樱桃树"

GAMES = "跑步 爬坡 踢球 跳绳 背诗 钓鱼 写字 画画 游泳 划船 唱歌 射箭"
BIRDS = "麻雀 喜鹊 斑鸠 白鸽 乌鸦 灰雁 画眉 黄鹂 百灵 翠鸟 白头翁 山雀"
WORKS = "唱歌 敲锣 劈柴 吹笛子 打铁 背书 拉二胡 磨刀 洗衣服 弹棉花 晒粮食 喊号子"
SMELLS = "泥土 青草 饭菜 松针 木柴 烤红薯 茶叶 草药 炊烟 米酒 新书 雨水"
MANNERS = (
    "慢慢地 一路小跑 哼着小曲 背着布包 打着哈欠 踢着石子 蹦蹦跳跳地 提着竹篮 戴着草帽 独自 悄悄地 高高兴兴地"
)
FEELINGS = "很高兴 很得意 美滋滋的 很快活 十分满意 很踏实 很感激 格外平静 十分佩服 很满足 又惊又喜 有点害羞"
SAYINGS = """
今天真热闹 路上小心 天气真好 我们快走吧 明天还来玩 这里真漂亮 有朋友真好 不用着急 时间过得真快 谁也没想到 你真有办法 大家都别吵
这主意不错 我从来没见过 说话要算数 回家别太晚 先喝口水吧 让我想一想 听我的没错 可不能大意 这下放心了 一定要记住 好事要一起做 慢一点没关系
"""
SKILLS = "下棋 剪纸 包饺子 弹琴 织布 编竹篮 吹口琴 做木马 骑马 刻印章 养蚕 酿蜜"

_CATEGORIES = (
    _numbers("number", 0, LARGEST),
    _numbers("few", 2, 5),
    _numbers("many", 6, 15),
    _numbers("digit", 1, 9),
    _numbers("ten", 1, 20),
    _numbers("hundred", 1, 100),
    _words("person", "name he", PEOPLE),
    _words("elder", "name he", ELDERS),
    _words("seller", "name he", SELLERS),
    _words("place", "name at", PLACES),
    _words("spot", "name", SPOTS),
    _words("time", "name", "清晨 早上 上午 中午 午后 下午 傍晚 黄昏"),
    _words("season", "name", "春天 夏天 秋天 冬天"),
    _words(
        "weather",
        "name",
        "阳光很好 下着小雨 刮着大风 起了大雾 天气很凉快 天上没有一朵云 云压得很低 空气很清新",
    ),
    _words("thing", "name measure", THINGS),
    _words("colour", "name", "红 蓝 黄 绿 白 紫 粉 黑 金 银 橙 灰"),
    _words("fruit", "name measure", FRUITS),
    _words("snack", "name measure", SNACKS),
    _words("pet", "name measure", PETS),
    _words("tree", "name", TREES),
    _words("game", "name", GAMES),
    _words("bird", "name", BIRDS),
    _words("work", "name", WORKS),
    _words("smell", "name", SMELLS),
    _words("manner", "name", MANNERS),
    _words("feeling", "name", FEELINGS),
    _words("saying", "name", SAYINGS),
    _words("skill", "name", SKILLS),
    *(_words(name, "name", text) for name, text in COUPLET_WORDS.items()),
    *(_words(name, attributes, text) for name, (attributes, text) in ONTOLOGY.items()),
)


@cache
def categories(script: str) -> Mapping[str, Category]:
    """All categories by name, in Simplified (``hans``) or Traditional (``hant``) characters."""
    if script == "hans":
        return {category.name: category for category in _CATEGORIES}
    return {category.name: category.translated(to_traditional) for category in _CATEGORIES}
