"""Couplets 对子: two sides of equal length whose characters answer each other category by category.

The form is that of the classical primers: pairs of single words (云对雨) and of two characters, then lines
of three, five and seven. Whatever stands at one place above stands, as the same category, at the same place
below, never the same word; a place marked ``+`` or ``-`` also changes its tone (平 above and 仄 below, or
the reverse), and lines end 仄 above, 平 below.
"""

from congling.data.smallworld.grammar import Source, numbered
from congling.data.smallworld.package_data import table

ALIASES: dict[str, str] = {}

_TONED = [name.removesuffix("_level") for name in table("lexicon")["couplets"] if name.endswith("_level")]
"""Categories that exist twice: ``sky_level`` and ``sky_oblique``."""
_TONES = {"+": ("_level", "_oblique"), "-": ("_oblique", "_level"), "": ("", "")}


def _sides(frame: str) -> tuple[str, str]:
    """Upper and lower side of a frame: ``hue bird+`` → ``{hue0}{bird_level2}``, ``{hue1}{bird_oblique3}``."""
    sides = ["", ""]
    for place, word in enumerate(frame.split()):
        name = word.rstrip("+-")
        for side, tone in enumerate(_TONES[word[len(name) :]]):
            sides[side] += f"{{{name}{tone}{2 * place + side}}}"
    return sides[0], sides[1]


def _pairs(*frames: str) -> Source:
    return tuple("{}对{}".format(*_sides(frame)) for frame in frames)


def _lines(*frames: str) -> Source:
    return tuple("{}，{}。\n".format(*_sides(frame)) for frame in frames)


SINGLE = _pairs(*(name + tone for name in _TONED for tone in "+-"))
DOUBLE = _pairs(
    *("hue bird+", "hue bird-", "quality building+", "quality building-"),
    *("time_of sky+", "time_of sky-", "amount land+", "amount land-"),
)
THREE = _lines("plant+ plant_does sky-", "bird+ bird_does land-", "amount extent plant-")
FIVE = _lines(
    "hue bird+ bird_does hue land-",
    "time_of sky+ weather_does quality building-",
    "amount extent plant+ plant_does sky-",
)
SEVEN = _lines(
    "amount extent hue plant+ plant_does time_of sky-",
    "time_of sky+ weather_does hue amount extent plant-",
    "human human_act human_faces time_of land-",
)
STANZA: Source = [
    [numbered(SINGLE, 1), "，", numbered(SINGLE, 2), "，", numbered(DOUBLE, 3), "。\n"],
    numbered(THREE, 4),
    numbered(FIVE, 5),
    numbered(SEVEN, 6),
]
COUPLETS: Source = [numbered(STANZA, 1), (["\n", numbered(STANZA, 2)], "")]
