import pytest

from congling.data.smallworld import check, problems
from congling.data.smallworld.config import Kind, SmallWorldConfig
from congling.data.smallworld.facts import statements
from congling.data.smallworld.generator import Generator
from congling.data.smallworld.grammar import SLOT
from congling.data.smallworld.stories import PLOTS


@pytest.mark.parametrize("script", ["hans", "hant"])
@pytest.mark.parametrize("kind", ["story", "questions", "arithmetic", "couplets"])
def test_right_answers_pass_the_checker_and_wrong_ones_do_not(kind: Kind, script: str) -> None:
    config = SmallWorldConfig.model_validate({"mix": {kind: 1}, "script": script, "seed": 8})
    generator = Generator(config)
    found = 0
    for index in range(30):
        for problem in problems(generator.document(index), generator.world.script):
            assert problem.right(problem.answer) and problem.right(f" {problem.answer}\n")
            assert check(f"{problem.prompt}{problem.answer}\n").score == 1
            for wrong in problem.wrong:
                found += 1
                assert not problem.right(wrong)
                assert check(f"{problem.prompt}{wrong}\n").score < 1
    assert found > 100


def test_questions_asked_in_a_document_are_among_its_problems() -> None:
    generator = Generator(SmallWorldConfig(mix={"questions": 1}))
    for index in range(50):
        document = generator.document(index)
        story, *lines = document.text.split("\n")
        answers = {problem.prompt.removeprefix(story): problem.answer for problem in problems(document)}
        for question, answer in zip(lines[::2], lines[1::2], strict=True):
            assert answers[f"\n{question}\n答："] == answer.removeprefix("答：")


def test_every_plot_asks_only_for_what_a_question_shows() -> None:
    for plot in PLOTS:
        for pattern in plot.questions:
            text, _, meaning = pattern.partition(" | ")
            shown = {found[0].strip("{}").partition(".")[0] for found in SLOT.finditer(text)}
            (statement,) = statements(meaning)
            assert statement.operator == "?" and {*statement.key[1:], *statement.values} <= shown


def test_a_dictionary_has_no_problems() -> None:
    generator = Generator(SmallWorldConfig(mix={"dictionary": 1}))
    assert problems(generator.document(0)) == []
