import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from congling.core.errors import UserError
from congling.data.document import Document
from congling.data.repetition import sentences
from congling.data.smallworld import Problem, check, problems
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.data.smallworld.judge import grammatical, prompt_of, reward, right
from congling.data.smallworld.rows import RowsConfig, row, rows, write
from congling.data.smallworld.tasks import draw, number
from congling.data.smallworld.wordings import TASKS, WORDINGS, TaskKind, unwrap


def made(**values: object) -> list[dict]:
    return list(rows(RowsConfig.model_validate({"count": 40, "paraphrases": "all", **values})))


@pytest.mark.parametrize("script", ["hans", "hant"])
@pytest.mark.parametrize("kind", TASKS)
def test_chosen_is_right_and_rejected_is_wrong_by_rule(kind: str, script: str) -> None:
    for found in made(kind="pairs", mix={kind: 1}, script=script, seed=5):
        prompt = prompt_of(found)
        assert right(kind, prompt, found["chosen"], found["chosen"])
        assert right(kind, prompt, f" {found['chosen']}\n", found["chosen"])
        assert not right(kind, prompt, found["rejected"], found["chosen"])
        asked = {"messages": found["messages"], "kind": kind, "answer": found["chosen"]}
        assert reward(asked, found["chosen"]) == 1 > reward(asked, found["rejected"]) >= 0
        assert reward(asked, "") == 0 == reward(asked, "云" * 100_000)


def test_a_row_depends_on_seed_and_number_alone_and_all_layouts_hold_the_same_tasks() -> None:
    instructions, pairs, prompts = (made(kind=kind) for kind in ("instructions", "pairs", "prompts"))
    for index, (told, pair, asked) in enumerate(zip(instructions, pairs, prompts, strict=True)):
        assert told == row(RowsConfig(paraphrases="all"), index)
        assert told["messages"][0] == pair["messages"][0] == asked["messages"][0]
        assert told["messages"][1] == {"role": "assistant", "content": pair["chosen"]}
        assert asked["answer"] == pair["chosen"] and len(asked["messages"]) == 1
    other = {prompt_of(found) for found in made(seed=1)}
    assert not other & {prompt_of(found) for found in instructions}


def test_rows_ask_of_no_document_of_the_corpus() -> None:
    generator = Generator(SmallWorldConfig(mix={"story": 1}))
    stories = {generator.document(index).text for index in range(40)}
    asked = " ".join(prompt_of(found) for found in made(mix={"questions": 1}))
    assert not any(story in asked for story in stories)


def test_the_unseen_wording_is_in_no_seen_row() -> None:
    seen = {(found["kind"], found["wording"]) for found in made(paraphrases="seen", count=200)}
    unseen = {(found["kind"], found["wording"]) for found in made(paraphrases="unseen", count=200)}
    assert {kind for kind, _ in seen} == {kind for kind, _ in unseen} == set(TASKS)
    assert not seen & unseen
    assert len(seen) == sum(len(WORDINGS["hans"][kind]) - 1 for kind in TASKS)


def test_unseen_contents_are_in_no_seen_row_of_any_seed() -> None:
    for kind in ("arithmetic", "couplets"):
        seen = {
            prompt_of(found)
            for seed in range(3)
            for found in made(mix={kind: 1}, seed=seed, count=300, split="seen")
        }
        unseen = {prompt_of(found) for found in made(mix={kind: 1}, seed=9, count=60, split="unseen")}
        assert not seen & unseen and len(unseen) > 20


def test_a_sum_in_digits_and_in_words_is_one_content() -> None:
    found: dict[str, set[str]] = {}
    for index in range(1500):
        task = draw("arithmetic", "hant", Random(index))
        found.setdefault(task.content, set()).add(task.fields["said"])
    both = [said for said in found.values() if len(said) == 2]
    assert len(both) > 20 and all(len(said) <= 2 for said in found.values())
    assert all(
        any(text[0].isascii() for text in said) != all(text[0].isascii() for text in said) for said in both
    )


@pytest.mark.parametrize("script", ["hans", "hant"])
@pytest.mark.parametrize("kind", ["couplets", "story"])
def test_a_prompt_gives_back_what_its_wording_was_put_around(kind: str, script: str) -> None:
    for found in made(mix={kind: 1}, script=script, count=60):
        name = "upper" if kind == "couplets" else "opening"
        fields = unwrap(kind, prompt_of(found))  # pyright: ignore[reportArgumentType]
        assert fields is not None
        assert WORDINGS[script][kind][found["wording"]].format_map(fields) == prompt_of(found)  # pyright: ignore
        assert len(fields[name]) < 40


def test_answers_are_as_the_corpus_writes_them() -> None:
    for found in made(mix={"arithmetic": 1}):
        prompt = prompt_of(found)
        if found["wording"] == 0:
            assert check(prompt + found["answer"] + "\n").score == 1
    told = [found for found in made(mix={"questions": 1}) if found["wording"] == 0]
    for found in told:
        story, question = prompt_of(found).split("\n")
        listed = {problem.prompt: problem.answer for problem in problems_of(story)}
        assert listed[f"{story}\n问：{question}\n答："] == found["answer"]
    assert len(told) > 3


def problems_of(story: str) -> list[Problem]:
    return problems(Document(story, "", {"kind": "story"}))


def test_a_rejected_story_is_grammatical_and_contradicts_itself() -> None:
    for found in made(kind="pairs", mix={"story": 1}):
        fields = unwrap("story", prompt_of(found))
        assert fields is not None
        verdict = check(fields["opening"] + found["rejected"])
        assert verdict.grammar == 1 and verdict.score < 1 and verdict.reasons


def test_stories_earn_nothing_by_silence_repetition_or_more_lines() -> None:
    (found,) = made(kind="prompts", mix={"story": 1}, count=1)
    answer = found["answer"]
    first = sentences(answer)[0]
    assert reward(found, answer) == 1 and grammatical(answer) == 1
    assert reward(found, first) <= 0.25
    assert reward(found, first * 8) < 0.1
    assert reward(found, answer + "\n胡言乱语胡言乱语") < 0.95
    assert reward(found, answer[:-4]) < 1
    assert reward(found, answer + first) < 0.95  # told once more
    assert reward(found, first.join([*sentences(answer), ""])) < 0.3  # and between all others
    assert reward(found, " ".join([first] * 8)) < 0.1  # white space makes no other sentence


@pytest.mark.parametrize("times", [2, 3, 8])
def test_a_story_told_again_earns_less_than_once(times: int) -> None:
    for found in made(kind="prompts", mix={"story": 1}, count=20):
        again = found["answer"] * times
        assert reward(found, again) <= 1 / times + 0.1
        assert check(prompt_of(found) + again).score < check(prompt_of(found) + found["answer"]).score


def test_one_pattern_with_other_names_is_no_story() -> None:
    (found,) = made(kind="prompts", mix={"story": 1}, count=1)
    names = ("阿梅", "小强", "大牛", "小满", "长生", "阿秀", "青青", "大川")
    assert grammatical("阿梅心里很满足。") == 1
    assert reward(found, "".join(f"{name}心里很满足。" for name in names)) < 0.4


def test_a_story_without_end_earns_less_the_longer_it_is() -> None:
    rests = [found["answer"] for found in made(kind="prompts", mix={"story": 1}, count=12)]
    (found,) = made(kind="prompts", mix={"story": 1}, count=1)
    earned = [reward(found, "".join(rests[:count])) for count in (1, 3, 6, 12)]
    assert earned == sorted(earned, reverse=True)
    assert earned[0] == 1 and earned[1] < 0.6 and earned[3] < 0.15


@pytest.mark.parametrize("kind", TASKS)
def test_nothing_is_earned_without_an_answer(kind: TaskKind) -> None:
    for found in made(kind="prompts", mix={kind: 1}, count=10):
        asked = prompt_of(found)
        for said in ("", " \n\t", "。", "，，，，", "……", "？！", "\u3000", "好"):
            assert reward(found, said) <= 0.25, said
        assert reward(found, asked) <= 0.25
        fields = unwrap(kind, asked)
        copied = next(iter(fields.values())) if fields else asked
        assert reward(found, copied) <= 0.25, copied
        assert reward(found, found["answer"] * 1000) <= 0.1
    assert grammatical("胡言乱语") == 0


def test_sums_are_judged_by_value() -> None:
    asked = {"messages": [{"role": "user", "content": "37+4="}], "kind": "arithmetic", "answer": "41"}
    assert [reward(asked, text) for text in ("41", "41。", "=41", "四十一。", "42", "甲")] == [
        1,
        1,
        1,
        1,
        0.1,
        0,
    ]
    assert number("两") == 2 and number("一百零五。") == 105 and number("十十") is None
    assert reward({**asked, "prompt": "37+4=", "answer": "四十一。"}, "41") == 1


def test_a_couplet_is_graded_place_by_place() -> None:
    asked = {"prompt": "对下联：白鹭飞青岭", "kind": "couplets", "answer": "黄莺入翠溪。"}
    assert reward(asked, "黄莺入翠溪") == reward(asked, "红燕归碧湖。") == 1
    assert reward(asked, "白莺入翠溪。") == pytest.approx(0.8 * 4 / 5)
    assert reward(asked, "黄莺入翠。") == 0


def test_rows_without_kind_answer_or_question_are_errors() -> None:
    for faulty in (
        {"kind": "story"},
        {"kind": "riddle", "answer": "1", "prompt": "?"},
        {"kind": "story", "answer": ""},
    ):
        with pytest.raises(UserError):
            reward(faulty, "甲")


def test_the_mix_gives_the_shares() -> None:
    counts = Counter(found["kind"] for found in made(count=400, mix={"arithmetic": 3, "couplets": 1}))
    assert counts.keys() == {"arithmetic", "couplets"} and 250 < counts["arithmetic"] < 350


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    config = RowsConfig(count=12)
    write(config, out)
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == list(rows(config))
    with pytest.raises(UserError, match="exists already"):
        write(config, out)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_turns_ask_the_rest_of_a_storys_questions():
    one, many = (
        RowsConfig(count=30, seed=3, mix={"questions": 1}, questions_per_story=most) for most in (1, 16)
    )
    for short, long in zip(rows(one), rows(many), strict=True):
        assert long["messages"][:2] == short["messages"]  # the same rows, with more behind them
        story = short["messages"][0]["content"]
        asked = [turn["content"] for turn in long["messages"][2::2]]
        assert len(asked) >= 2
        assert len({*asked, story.splitlines()[-1]}) == len(asked) + 1
        for question, answer in zip(long["messages"][2::2], long["messages"][3::2], strict=True):
            assert (question["role"], answer["role"]) == ("user", "assistant")
            text = f"{_story_of(story)}\n问：{question['content']}\n答：{answer['content']}"
            assert check(text).facts == 1, text
    assert len(next(rows(many.replace(questions_per_story=2)))["messages"]) == 4


def _story_of(asked: str) -> str:
    """The story in a question, without the words around it."""
    return asked.removeprefix("读一读这个故事：").partition("\n")[0]
