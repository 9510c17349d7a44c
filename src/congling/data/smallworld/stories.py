"""Short stories, and the same stories followed by questions and answers."""

from congling.data.smallworld import plots_people, plots_things
from congling.data.smallworld.grammar import Source, some_of
from congling.data.smallworld.plot import Plot

ALIASES = {"who": "person", "friend": "person", "third": "person"}

PLOTS = plots_things.PLOTS + plots_people.PLOTS

OPENING: Source = [
    (
        "{time}，{who}{manner}来到{place}。 | when who = time ; goes who = place",
        "那天{time}{weather}，{who}一个人去了{place}。 | when who = time ; goes who = place",
        "{season}的一个{time}，{who}到{place}去玩。 | when who = time ; goes who = place",
    ),
    (
        "四周很安静。",
        "风轻轻地吹着。",
        "空气里有{smell}的香味。",
        "一只{bird}飞了过去。",
        "远处传来{bird}的叫声。",
        "不远处有人在{work}。",
        "“{saying}。”{who}一边走一边想。",
        "",
    ),
]

TALK: Source = (
    "“{saying2}。”{who}说。",
    "“{saying2}。”{friend}说。",
    "{who}心里{feeling}。",
    "{friend}看上去{feeling}。",
    "",
)

ENDING: Source = (
    "回家的路上，{who}一直在笑。",
    "{who}和{friend}成了更好的朋友。",
    "{who}和{friend}约好，下次去{place0}。",
    "晚上，{who}把这件事讲给{elder0}听，{elder0}点点头。",
    "晚上，{who}梦见自己变成了一只{bird2}。",
    "这件事，{friend}记了很久。",
    "天快黑了，他们一起回家。",
    "",
)


def _story(plot: Plot) -> list[Source]:
    return [plot.body, TALK, ENDING]


STORIES: Source = [OPENING, tuple(_story(plot) for plot in PLOTS)]
QUESTIONS: Source = [OPENING, tuple([*_story(plot), some_of(plot.questions, 2)] for plot in PLOTS)]
