from dataclasses import replace
from itertools import islice

import pytest

from congling.data.smallworld.questions import Problem
from congling.evals import world
from congling.evals.bench import Bench
from congling.evals.world import said, unseen_problems, well_formed
from congling.infer.checkpoints import Loaded

KINDS = ("questions", "arithmetic", "couplets")


@pytest.mark.parametrize("kind", KINDS)
def test_right_answers_are_right_and_well_formed(loaded: Loaded, kind: str, monkeypatch: pytest.MonkeyPatch):
    bench = Bench(loaded, limit=20)
    monkeypatch.setattr(world, "ask", lambda _, asked: [problem.answer for problem in asked])
    found = {score.name: score for score in world.run(bench, kind)}  # type: ignore[arg-type]
    assert found[f"{kind}/right"].value == found[f"{kind}/well-formed"].value == 1.0
    assert found[f"{kind}/right"].n == 20
    chance = found[f"{kind}/right"].chance
    assert chance is not None and chance < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_nothing_is_wrong(loaded: Loaded, kind: str):
    found = {score.name: score for score in world.run(Bench(loaded, limit=4), kind)}  # type: ignore[arg-type]
    assert found[f"{kind}/right"].value == found[f"{kind}/well-formed"].value == 0.0


def test_wrong_answers_can_be_well_formed():
    for problem, wrong, broken in (
        (Problem("arithmetic", "8÷4=", "2", ()), "31", "天"),
        (Problem("couplets", "半园草，", "百湾桃。", ()), "草草草。", "百湾。"),
    ):
        assert well_formed(problem, wrong) and not problem.right(wrong)
        assert not well_formed(problem, broken)


def test_problems_are_of_another_seed_and_one_a_document(loaded: Loaded):
    first = list(islice(unseen_problems(Bench(loaded), "questions"), 30))
    assert first == list(islice(unseen_problems(Bench(loaded), "questions"), 30))
    assert first != list(islice(unseen_problems(Bench(loaded, seed=1), "questions"), 30))
    assert len({problem.prompt.partition("\n")[0] for problem in first}) == 30


def test_a_chat_is_asked_as_a_person_asks(loaded: Loaded, monkeypatch: pytest.MonkeyPatch):
    problem = Problem("questions", "天地玄黄。\n问：什么？\n答：", "天。", ())
    assert said(problem) == "天地玄黄。\n什么？"
    assert said(Problem("arithmetic", "8÷4=", "2", ())) == "8÷4="
    asked = []

    def written(_: object, prompts: list[object], **options: object) -> list[str]:
        asked.append((prompts[0], options.get("stop")))
        return [" 天。 "]

    monkeypatch.setattr(world, "written", written)
    assert world.ask(Bench(loaded, chat=True), [problem]) == ["天。"]
    assert world.ask(Bench(loaded), [problem]) == ["天。"]
    (chat, _), (plain, stop) = asked
    assert loaded.tokenizer.special["<|im_start|>"] in chat and plain == problem.prompt and stop == ("\n",)


def test_sums_of_the_training_text_are_told_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    asked = list(islice(unseen_problems(bench, "arithmetic"), 10))
    known = asked[0]
    monkeypatch.setattr(Bench, "training", lambda _: iter([f"{known.prompt}{known.answer}\n"]))
    monkeypatch.setattr(world, "ask", lambda _, asked: [problem.answer for problem in asked])
    found = {score.name: score for score in world.run(replace(bench, limit=10), "arithmetic")}
    assert found["arithmetic/right"].n == 10
    assert found["arithmetic/right-unseen"].n == 10 - sum(one.prompt == known.prompt for one in asked)


def test_the_right_answer_among_wrong_ones(loaded: Loaded):
    found = {score.name: score for score in world.choice(Bench(loaded, limit=9))}
    assert found["world-choice/sum"].n == 9
    assert {f"world-choice/sum/{kind}" for kind in KINDS} <= found.keys()
