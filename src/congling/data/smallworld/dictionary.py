"""A mini dictionary: headword, explanation and example, all taken from the ontology."""

from congling.data.smallworld.grammar import Source, numbered, some_of

ALIASES = {"who": "person"}

_EXAMPLE_SEEN = (
    "例：{who}在{creature.home}看见了一{creature.measure}{creature}。\n",
    "例：一{creature.measure}{creature}从{who}身边经过。\n",
    "例：{who}画的{creature}像真的一样。\n",
    "例：{who}最喜欢看{creature}。\n",
    "",
)
_CREATURE: Source = [
    "【{creature}】",
    (
        "{creature.class}的一种，{creature.look}，常在{creature.home}活动，爱吃{creature.food}。\n",
        "一种{creature.class}。{creature.look}，住在{creature.home}，吃{creature.food}。\n",
        "生活在{creature.home}的{creature.class}，以{creature.food}为食，{creature.look}。\n",
    ),
    _EXAMPLE_SEEN,
]
_PLANT: Source = [
    "【{plant}】",
    (
        "{plant.class}的一种，长在{plant.home}，{plant.season}最好看，{plant.look}。\n",
        "一种{plant.class}。{plant.look}，多见于{plant.home}，{plant.season}最盛。\n",
        "长在{plant.home}的{plant.class}，{plant.look}，{plant.season}正当时。\n",
    ),
    (
        "例：{plant.season}到了，{who}去看{plant}。\n",
        "例：{who}带回来一{plant.measure}{plant}。\n",
        "例：{plant.home}的{plant}，{who}天天去看。\n",
        "",
    ),
]
_TOOL: Source = [
    "【{tool}】",
    (
        "用{tool.material}做成的东西，用来{tool.use}。\n",
        "{tool.use}用的器具，多用{tool.material}做成。\n",
        "一种器具，材料是{tool.material}，能用来{tool.use}。\n",
    ),
    (
        "例：{who}用{tool}{tool.use}。\n",
        "例：{who}家里有一{tool.measure}旧{tool}。\n",
        "例：这{tool.measure}{tool}是{who}亲手做的。\n",
        "",
    ),
]
_SCENE: Source = [
    "【{scene}】",
    ("{scene.sense}，多见于{scene.when}。\n", "指{scene.sense}。{scene.when}可以见到。\n"),
    ("例：{who}指着{scene}给大家看。\n", "例：{who}第一次见到{scene}，高兴极了。\n", ""),
]
DICTIONARY: Source = some_of(
    tuple(numbered(entry, k) for k, entry in enumerate((_CREATURE, _PLANT, _TOOL, _SCENE), start=1)), 3
)
