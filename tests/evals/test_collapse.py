"""Each early sign is seen in a run that collapses, and in none that is healthy."""

import random

import pytest

from congling.data.repetition import repeated_share
from congling.data.smallworld import generate
from congling.data.smallworld.config import SmallWorldConfig
from congling.evals.collapse import correlation, repeats, warnings, watch

WORDS = ("青", "黄", "绿", "白", "黑", "红", "高", "大")


def codes(metrics=(), samples=()):
    return {finding.code: finding.what for finding in warnings(metrics, samples)}


def answers(*texts, **more):
    return [{"step": 9, "prompt": f"问{i}？", "text": text, **more} for i, text in enumerate(texts)]


def steps(count=40, **columns):
    return [{"step": i, **{name: value(i) for name, value in columns.items()}} for i in range(count)]


@pytest.fixture(scope="module")
def stories():
    return [document.text for document in generate(SmallWorldConfig(size=40_000, seed=3))]


def test_texts_of_the_world_show_nothing(stories):
    assert len(stories) > 50
    assert codes(samples=answers(*stories, ended=True)) == {}


def test_a_loop_is_seen_whatever_its_length(stories):
    sentence = "阿松在池塘边看见一只很大的白色的鹅。"
    assert "1 of 2 last samples" in codes(samples=answers("好。" * 12, stories[0]))["repeating-samples"]
    found = codes(samples=answers(sentence * 6, stories[0]))["repeating-samples"]
    assert "1 of 2" in found and f"{repeated_share(sentence * 6):.0%}" in found
    assert codes(samples=answers(stories[0] + sentence * 2)) == {}


def test_only_the_last_look_counts():
    early = [{**row, "step": 3} for row in answers("“" * 40)]
    assert codes(samples=early + answers("青色的天，白色的雪。")) == {}


def test_a_young_model_may_loop_and_an_older_one_may_not():
    def look(step, text):
        return {"step": step, "prompt": "天", "text": text}

    loop, fine = "“" * 40, "青色的天。"
    said = [
        [finding.code for finding in watch((), [look(i, text) for i, text in enumerate(texts)])]
        for texts in ([loop], [loop, loop], [loop, loop, loop], [fine, loop], [loop, fine], [fine + "</s>"])
    ]
    assert said == [[], [], ["repeating-samples"], ["repeating-samples"], [], ["template-leakage"]]


def test_one_answer_for_everything():
    same = answers("我不知道。", "我不知道。", "我不知道。\n", "我不知道。", "青色。")
    assert codes(samples=same)["one-answer"].startswith("4 of 5 different questions")
    assert codes(samples=answers("", "", "", "", "青")) == {}  # too few for answers this short
    assert "one-answer" in codes(samples=answers(*[""] * 12))


def test_different_answers_and_repeated_questions_are_fine():
    assert codes(samples=answers(*(f"{word}色。" for word in WORDS))) == {}
    assert codes(samples=answers("是", "是", "是", "是", "否")) == {}
    group = [
        {"step": 9, "prompt": "天是什么颜色？", "text": "青色的。"} for _ in range(16)
    ]  # of one question
    assert codes(samples=group) == {}


@pytest.mark.parametrize(
    "text",
    [
        "青色。<|im_end|>\n<|im_start|>user", "青色。\nassistant\n青色。", "[INST] 天 [/INST]", "<<SYS>>青",
        "青<｜end▁of▁sentence｜>", "青</s>", "[Round 2]\n\n问：", "青<end_of_turn>", "[gMASK]青",
    ],
)  # fmt: skip
def test_marks_of_templates_in_answers(text):
    assert "1 of 3 last answers" in codes(samples=answers("红色。", text, "白色。"))["template-leakage"]


@pytest.mark.parametrize(
    "text",
    ["The assistant wrote [1] a<b|c>d.", "user guide", "若 a < b | c > d。", "答：青色。问：雪呢？", "</p>"],
)
def test_ordinary_text_is_no_mark(text):
    assert codes(samples=answers("红色。", text)) == {}


def test_answers_that_never_end():
    cut = answers(*(f"{word}色的天" for word in WORDS), ended=False)
    assert codes(samples=cut)["no-end-of-turn"].startswith("0% of 8 last answers")
    assert codes(samples=[{**row, "ended": i % 2 == 0} for i, row in enumerate(cut)]) == {}
    assert codes(steps(ended=lambda i: max(0.02, 0.9 - 0.05 * i)))["no-end-of-turn"].startswith("2% of the")
    assert codes(steps(ended=lambda i: min(0.9, 0.1 + 0.05 * i))) == {}


def test_continuations_that_are_cut_by_design_say_nothing():
    assert codes(samples=answers(*(f"{word}色的天" for word in WORDS))) == {}


def test_reward_for_length():
    hacked = steps(reward=lambda i: 0.2 + i / 60, length=lambda i: 20 + 3 * i)
    assert "times as long while the reward rose" in codes(hacked)["reward-by-length"]
    draw = random.Random(0)
    longer = [draw.randrange(5, 60) for _ in range(20)]
    paid = [{"step": 1, "prompt": str(n), "text": chr(0x4E00 + n) * n, "reward": n / 60} for n in longer]
    unpaid = [{**row, "reward": draw.random()} for row in paid]
    assert "1.00 over 20 rollouts" in codes(hacked, paid)["reward-by-length"]
    assert "reward-by-length" not in codes(hacked, unpaid)


@pytest.mark.parametrize(
    ("reward", "length"),
    [
        (lambda i: 0.2 + i / 60, lambda i: 20 + i % 3),  # better at the same length
        (lambda i: 0.2 + i / 60, lambda i: 60 - i),  # better and shorter
        (lambda i: 0.5 + 0.1 * (i % 2), lambda i: 20 + 3 * i),  # longer, but not better paid
    ],
)
def test_reward_that_is_earned(reward, length):
    assert "reward-by-length" not in codes(steps(reward=reward, length=length))


def test_policy_that_runs_away():
    assert "nats per token away" in codes(steps(kl=lambda i: 0.01 * 1.2**i))["kl-explosion"]
    assert codes(steps(kl=lambda i: 0.3 * i / 40)) == {}
    assert codes(steps(kl=lambda i: 1.5)) == {}  # far, but it stays where it is
    assert codes(steps(5, kl=lambda i: 10.0**i)) == {}  # too early to say


def test_rows_that_are_damaged_are_passed_over():
    rows = steps(kl=lambda i: None if i % 2 else float("nan"), reward=lambda i: "x", length=lambda i: True)
    assert codes([*rows, {}], [{"step": 1}, {"prompt": "x"}]) == {}


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("“" * 20, True),
        ("说道，" * 8, True),
        ("却说宝玉听了，忙问道：这是谁说的？", False),
        ("", False),
        ("。。。", False),
    ],
)
def test_repeats(text, loops):
    assert repeats(text) is loops


def test_no_correlation_where_nothing_varies():
    assert correlation([1, 1, 1], [1, 2, 3]) == 0.0 and correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
