# ruff: noqa: E501 - a Chinese character counts as two columns
"""Plots about people: sharing, helping, playing, learning."""

from congling.data.smallworld.plot import PLACE, TIME, Plot, ask

SHARE = Plot(
    [
        (
            "{who}的篮子里有{many.count}{snack.measure}{snack}。"
            " | first who snack = many ; count who snack = many",
            "{who}带了{many.count}{snack.measure}{snack}当点心。"
            " | first who snack = many ; count who snack = many",
        ),
        (
            "这时{friend}来了，肚子饿得咕咕叫。",
            "{friend}看见了，馋得直咽口水。",
            "{friend}忘了带吃的，坐在一旁不说话。",
        ),
        (
            "{who}分给{friend}{few.count}{snack.measure}。 | count who snack -= few ; count friend snack += few",
            "{who}数出{few.count}{snack.measure}，放到{friend}手里。"
            " | count who snack -= few ; count friend snack += few",
        ),
        (
            "{friend}一边吃一边说：“真香！”",
            "{friend}舍不得一下子吃完。",
            "“朋友就是要分着吃。”{who}说。",
        ),
    ],
    (
        ask("{who}原来有几{snack.measure}{snack}", "有{many.count}{snack.measure}", "first who snack ? many"),
        ask(
            "{who}还剩几{snack.measure}{snack}",
            "还剩{many-few.count}{snack.measure}",
            "count who snack ? many-few",
        ),
        ask(
            "{friend}得到几{snack.measure}{snack}",
            "得到{few.count}{snack.measure}",
            "count friend snack ? few",
        ),
        PLACE,
        TIME,
    ),
)

PICK = Plot(
    [
        (
            "{who}和{friend}约好去后山摘{fruit}。 | partner who = friend",
            "{who}要去后山摘{fruit}，{friend}也提着篮子来了。 | partner who = friend",
        ),
        ("树上的{fruit}又大又圆。", "今年的{fruit}结得真多。", "{fruit}压弯了枝头。"),
        (
            "{who}摘了{many.count}{fruit.measure}，{friend}摘了{few.count}{fruit.measure}。"
            " | count who fruit = many ; count friend fruit = few",
            "{friend}光顾着玩，摘了{few.count}{fruit.measure}；{who}摘了{many.count}{fruit.measure}。"
            " | count who fruit = many ; count friend fruit = few",
        ),
        (
            "两个人把{fruit}放在一起，一共{many+few.count}{fruit.measure}。 | sum fruit ? many+few",
            "他们数了数，一共有{many+few.count}{fruit.measure}。 | sum fruit ? many+few",
        ),
    ],
    (
        ask("{who}摘了几{fruit.measure}{fruit}", "摘了{many.count}{fruit.measure}", "count who fruit ? many"),
        ask(
            "{friend}摘了几{fruit.measure}{fruit}",
            "摘了{few.count}{fruit.measure}",
            "count friend fruit ? few",
        ),
        ask(
            "一共摘了几{fruit.measure}{fruit}", "一共{many+few.count}{fruit.measure}", "sum fruit ? many+few"
        ),
        ask("谁和{who}一起摘{fruit}", "{friend}", "partner who ? friend"),
        PLACE,
    ),
)

PET = Plot(
    [
        (
            "{who}是来找{pet}的，它昨天跑丢了。 | keeps pet = who",
            "{who}养的{pet}从家里跑了出来，到现在还没有回去。 | keeps pet = who",
        ),
        (
            "{who.he}找遍了附近，还是没有找到。",
            "{who.he}一边走一边喊，嗓子都哑了。",
            "{who.he}问了好几个人，都说没看见。",
        ),
        (
            "后来，{friend}在{spot}看见了那{pet.measure}{pet}。 | finder pet = friend ; spot pet = spot",
            "还是{friend}眼睛尖，发现{pet}躲在{spot}。 | finder pet = friend ; spot pet = spot",
        ),
        (
            "{friend}轻轻抱起{pet}，送回{who}身边。",
            "{friend}叫来{who}，{pet}马上跑了过去。",
        ),
        ("{who}再也不敢大意了。", "“下次别乱跑。”{who}摸摸{pet}的头。", "{pet}好像什么事也没有发生。"),
    ],
    (
        ask("{pet}是谁养的", "是{who}养的", "keeps pet ? who"),
        ask("谁看见了{pet}", "{friend}", "finder pet ? friend"),
        ask("{pet}躲在哪里", "躲在{spot}", "spot pet ? spot"),
        PLACE,
        TIME,
    ),
)

ERRAND = Plot(
    [
        (
            "{who.he}要替{elder}买{few.count}{snack.measure}{snack}。 | errand who = elder ; count who snack = few",
            "原来是{elder}让{who.he}去买{few.count}{snack.measure}{snack}。"
            " | errand who = elder ; count who snack = few",
        ),
        (
            "路上遇见{friend}，两个人一起走。 | partner who = friend",
            "{friend}听说了，也要跟着去。 | partner who = friend",
        ),
        (
            "卖{snack}的{seller}夸{who}懂事，多送了{few2.count}{snack.measure}。"
            " | seller snack = seller ; count who snack += few2",
            "卖{snack}的{seller}心情好，多给了{who}{few2.count}{snack.measure}。"
            " | seller snack = seller ; count who snack += few2",
        ),
        (
            "{who}一路小跑，把{snack}交给{elder}。",
            "{who}提着{snack}回家，{elder}夸{who.he}真棒。",
            "{elder}接过{snack}，笑得合不拢嘴。",
        ),
    ],
    (
        ask("{who}替谁买{snack}", "替{elder}买", "errand who ? elder"),
        ask("谁和{who}一起走", "{friend}", "partner who ? friend"),
        ask("{snack}是谁卖的", "是{seller}卖的", "seller snack ? seller"),
        ask(
            "{who}一共拿到几{snack.measure}{snack}",
            "{few+few2.count}{snack.measure}",
            "count who snack ? few+few2",
        ),
        PLACE,
    ),
)

CONTEST = Plot(
    [
        (
            "{who}要和{friend}、{third}比赛{game}。 | game = game",
            "{friend}和{third}也在，三个人比赛{game}。 | game = game",
        ),
        ("大家都来看。", "“预备，开始！”有人喊。", "谁也不肯认输。"),
        (
            "{who}得了第一，{friend}第二，{third}第三。 | first_in game = who ; last_in game = third",
            "{friend}得了第一，{third}第二，{who}第三。 | first_in game = friend ; last_in game = who",
            "{third}得了第一，{who}第二，{friend}第三。 | first_in game = third ; last_in game = friend",
        ),
        ("他们说好明天再比一次。", "输的人请大家吃了{snack}。", "赢了的人高兴，输了的人也不生气。"),
    ],
    (
        ask("他们比赛什么", "比赛{game}", "game ? game"),
        PLACE,
        TIME,
    ),
)

HIDE = Plot(
    [
        (
            "{who}和{friend}玩捉迷藏。 | partner who = friend",
            "{friend}找{who}玩捉迷藏。 | partner who = friend",
        ),
        ("{who}数到{many}，开始找人。", "{who}闭上眼睛，数到{many}。"),
        (
            "{spot}没有人，{who}又走了几步。 | empty = spot",
            "{who}先看了看{spot}，没有人。 | empty = spot",
        ),
        (
            "原来，{friend}躲在{spot2}，忍不住笑出了声。 | hides friend = spot2",
            "最后，{who}发现{friend}躲在{spot2}。 | hides friend = spot2",
        ),
        ("接着轮到{friend}来找。", "“再来一次！”{friend}不服气。", "他们玩得满头大汗。"),
    ],
    (
        ask("{friend}躲在哪里", "躲在{spot2}", "hides friend ? spot2"),
        ask("谁和{who}一起玩", "{friend}", "partner who ? friend"),
        ask("哪里没有人", "{spot}没有人", "empty ? spot"),
        PLACE,
        TIME,
    ),
)

LEARN = Plot(
    [
        (
            "{who}想学{skill}，{friend}愿意教{who.he}。 | teacher skill = friend ; skill_of who = skill",
            "{friend}会{skill}，{who}很羡慕，就跟着学。 | teacher skill = friend ; skill_of who = skill",
        ),
        ("开始的时候，{who}总是出错。", "“慢慢来。”{friend}说。", "{who}学得很认真，一句话也不说。"),
        (
            "学了{many}天，{who}终于学会了。 | days who = many",
            "{many}天过去，{who}做得和{friend}一样好。 | days who = many",
        ),
        (
            "为了道谢，{who}送给{friend}一{thing.measure}{colour}色的{thing}。"
            " | giver thing = who ; holder thing = friend ; colour thing = colour",
            "{friend}送给{who}一{thing.measure}{colour}色的{thing}作奖品。"
            " | giver thing = friend ; holder thing = who ; colour thing = colour",
        ),
    ],
    (
        ask("谁教{who}{skill}", "{friend}", "teacher skill ? friend"),
        ask("{who}学了几天", "学了{many}天", "days who ? many"),
        ask("{who}学会了什么", "学会了{skill}", "skill_of who ? skill"),
        ask("{thing}是什么颜色的", "{colour}色", "colour thing ? colour"),
        PLACE,
    ),
)

TREE = Plot(
    [
        (
            "{who}和{friend}在{place}旁边种下一棵{tree}。 | tree = tree",
            "{who}扛来一棵{tree}苗，{friend}在{place}旁边挖好了坑。 | tree = tree",
        ),
        ("他们每天来浇水。", "下雨的日子，他们也来看一看。", "{friend}给它围上了篱笆。"),
        (
            "{few.count}年以后，{tree}长得比屋顶还高。 | years tree = few",
            "过了{few.count}年，{tree}已经能遮阴了。 | years tree = few",
        ),
        (
            "{who}在树下给大家讲故事。",
            "夏天，{friend}常在树下睡午觉。",
            "鸟儿在上面做了窝。",
        ),
    ],
    (
        ask("他们种了什么树", "种了{tree}", "tree ? tree"),
        ask("过了几年{tree}长高了", "过了{few.count}年", "years tree ? few"),
        PLACE,
        TIME,
    ),
)

PLOTS = (SHARE, PICK, PET, ERRAND, CONTEST, HIDE, LEARN, TREE)
