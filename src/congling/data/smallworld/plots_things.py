# ruff: noqa: E501 - a Chinese character counts as two columns
"""Plots about a thing: who has it, finds it, loses it, gives it away."""

from congling.data.smallworld.plot import PLACE, TIME, Plot, ask

COLOUR = ask("{thing}是什么颜色的", "{colour}色", "colour thing ? colour")
HOLDER_WHO = ask("最后{thing}在谁手里", "在{who}手里", "holder thing ? who")
HOLDER_FRIEND = ask("最后{thing}在谁手里", "在{friend}手里", "holder thing ? friend")
OWNER_WHO = ask("{thing}是谁的", "是{who}的", "owner thing ? who")
OWNER_FRIEND = ask("{thing}是谁的", "是{friend}的", "owner thing ? friend")

FOUND = Plot(
    [
        (
            "{who.he}在{spot}看见一{thing.measure}{colour}色的{thing}，捡了起来。"
            " | finder thing = who ; spot thing = spot ; colour thing = colour ; holder thing = who",
            "走着走着，{who.he}在{spot}捡到一{thing.measure}{colour}色的{thing}。"
            " | finder thing = who ; spot thing = spot ; colour thing = colour ; holder thing = who",
        ),
        ("“这是谁的呢？”{who}自言自语。", "{who}左看右看，附近没有人。", "{who}坐下来，等失主回来。", ""),
        (
            "过了一会儿，{friend}急急忙忙地跑来，原来那是{friend.he}弄丢的。 | owner thing = friend",
            "{who}想起来了，那是{friend}的{thing}。 | owner thing = friend",
            "{who}一路打听，才知道东西是{friend}的。 | owner thing = friend",
        ),
        (
            "{who}把{thing}还给了{friend}。 | holder thing : who -> friend",
            "{who}笑着把{thing}交到{friend}手里。 | holder thing : who -> friend",
        ),
        ("{friend}连声说：“谢谢你，{who}！”", "{friend}高兴得跳了起来。", "{friend}红着脸道了谢。"),
    ],
    (
        COLOUR,
        HOLDER_FRIEND,
        OWNER_FRIEND,
        PLACE,
        ask("谁捡到了{thing}", "{who}", "finder thing ? who"),
        ask("{thing}是在哪里捡到的", "在{spot}", "spot thing ? spot"),
    ),
)

LOST = Plot(
    [
        (
            "{who}手里拿着一{thing.measure}{colour}色的{thing}。"
            " | owner thing = who ; holder thing = who ; colour thing = colour",
            "{who}带着自己最喜欢的{thing}，那是{colour}色的。"
            " | owner thing = who ; holder thing = who ; colour thing = colour",
        ),
        (
            "玩着玩着，{thing}不见了。 | holder thing : who -> nobody",
            "一转身，{thing}不知掉到哪里去了。 | holder thing : who -> nobody",
        ),
        ("{who}急得快要哭了。", "{who}找来找去，满头是汗。", "“别急，我来帮你。”有人说。"),
        (
            "{friend}走过来，和{who.he}一起找。",
            "这时候{friend}路过，也弯下腰帮忙。",
        ),
        (
            "最后，{friend}在{spot}找到了{thing}。 | finder thing = friend ; spot thing = spot ; holder thing : nobody -> friend",
            "没过多久，{friend}从{spot}拾起了{thing}。"
            " | finder thing = friend ; spot thing = spot ; holder thing : nobody -> friend",
        ),
        (
            "{friend}把{thing}还给{who}，两个人都笑了。 | holder thing : friend -> who",
            "{who}接过{thing}，紧紧抱在怀里。 | holder thing : friend -> who",
        ),
    ],
    (
        COLOUR,
        HOLDER_WHO,
        OWNER_WHO,
        TIME,
        ask("谁找到了{thing}", "{friend}", "finder thing ? friend"),
        ask("{thing}是在哪里找到的", "在{spot}", "spot thing ? spot"),
    ),
)

GIFT = Plot(
    [
        (
            "这一天是{friend}的生日。 | birthday = friend",
            "{who}没有忘记，这一天是{friend}的生日。 | birthday = friend",
        ),
        (
            "{who}准备了一{thing.measure}{colour}色的{thing}。"
            " | owner thing = who ; holder thing = who ; colour thing = colour",
            "{who}攒了{few.count}个月的零钱，买了一{thing.measure}{colour}色的{thing}。"
            " | owner thing = who ; holder thing = who ; colour thing = colour",
        ),
        (
            "{who.he}把{thing}送给了{friend}。 | giver thing = who ; holder thing : who -> friend ; owner thing : who -> friend",
            "见了面，{who.he}悄悄拿出{thing}，塞到{friend}手里。"
            " | giver thing = who ; holder thing : who -> friend ; owner thing : who -> friend",
        ),
        ("{friend}打开一看，眼睛都亮了。", "“真好看！”{friend}舍不得放下。", "{friend}愣了一下，马上笑了。"),
        (
            "{friend}请{who}吃了一{snack.measure}{snack}。 | treat who = snack",
            "{friend}分给{who}一{snack.measure}{snack}。 | treat who = snack",
        ),
    ],
    (
        COLOUR,
        HOLDER_FRIEND,
        ask("这一天是谁的生日", "是{friend}的生日", "birthday ? friend"),
        ask("{thing}是谁送的", "是{who}送的", "giver thing ? who"),
        ask("{friend}请{who}吃了什么", "吃了{snack}", "treat who ? snack"),
        TIME,
    ),
)

LEND = Plot(
    [
        (
            "{friend}跑来，想借{who}的{thing}用一用。 | owner thing = who ; holder thing = who",
            "“你的{thing}能借我用几天吗？”{friend}问{who}。 | owner thing = who ; holder thing = who",
        ),
        ("{who}想了想，点点头。", "“当然可以。”{who}说。", "{who}一口答应了。"),
        "{who}拿出那{thing.measure}{colour}色的{thing}，借给了{friend}。"
        " | colour thing = colour ; holder thing : who -> friend",
        ("{friend}用得很小心。", "{friend}走到哪里都带着它。", ""),
        (
            "{few.count}天以后，{friend}来还{thing}，还带来一{snack.measure}{snack}。"
            " | days thing = few ; holder thing : friend -> who ; brought friend = snack",
            "过了{few.count}天，{friend}把{thing}还给{who}，又送上一{snack.measure}{snack}。"
            " | days thing = few ; holder thing : friend -> who ; brought friend = snack",
        ),
    ],
    (
        COLOUR,
        HOLDER_WHO,
        OWNER_WHO,
        PLACE,
        ask("{friend}借{thing}借了几天", "借了{few.count}天", "days thing ? few"),
        ask("{friend}带来了什么", "带来了{snack}", "brought friend ? snack"),
    ),
)

SWAP = Plot(
    [
        (
            "{who}有一{thing.measure}{colour}色的{thing}，{friend}有一{thing2.measure}{colour2}色的{thing2}。"
            " | holder thing = who ; holder thing2 = friend ; colour thing = colour ; colour thing2 = colour2"
        ),
        (
            "{who}觉得{friend}的{thing2}好玩，{friend}也喜欢{who}的{thing}。",
            "他们互相看了很久，谁也没有说话。",
            "“我们换一换，好不好？”{who}说。",
        ),
        (
            "于是{who}拿{thing}换了{friend}的{thing2}。"
            " | holder thing : who -> friend ; holder thing2 : friend -> who",
            "最后，{friend}拿走了{thing}，{who}拿走了{thing2}。"
            " | holder thing : who -> friend ; holder thing2 : friend -> who",
        ),
        ("两个人都很满意。", "他们约好，过几天再换回来。", "{friend}说，这样谁都有新东西玩。"),
    ],
    (
        COLOUR,
        HOLDER_FRIEND,
        ask("{thing2}是什么颜色的", "{colour2}色", "colour thing2 ? colour2"),
        ask("最后{thing2}在谁手里", "在{who}手里", "holder thing2 ? who"),
        PLACE,
        TIME,
    ),
)

PLOTS = (FOUND, LOST, GIFT, LEND, SWAP)
