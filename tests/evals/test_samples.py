"""Samples of a run: each step and prompt draws anew, and the same step the same."""

from congling.evals.answers import answers
from congling.evals.periodic import continuations
from congling.infer.checkpoints import Loaded
from congling.train.config import TrainConfig
from congling.train.runs.hooks import DrawnByStep


def settings(**changes: object) -> TrainConfig:
    values = {"max_steps": 10, "max_length": 32, "sample_tokens": 20, "sample_prompts": ("从零", "学写")}
    return TrainConfig.model_validate(values | changes)


def test_every_step_draws_anew_and_each_the_same_again(undecided: Loaded) -> None:
    looks = [
        continuations(undecided.tokenizer, settings()),
        answers(undecided.tokenizer, [[{"role": "user", "content": "学"}]] * 2, settings()),
    ]
    for look in looks:
        assert isinstance(look, DrawnByStep)
        texts = {step: [row["text"] for row in look.at(step)(undecided.model)] for step in (5, 10, 15)}
        again = {step: [row["text"] for row in look.at(step)(undecided.model)] for step in (15, 10, 5)}
        assert texts == again
        assert len({text for found in texts.values() for text in found}) == 6
        assert not any("\ufffd" in text for found in texts.values() for text in found)


def test_the_seed_of_the_run_counts_and_prompts_do_not_share_numbers(undecided: Loaded) -> None:
    one, two = (
        [
            row["text"]
            for row in continuations(undecided.tokenizer, settings(seed=seed)).at(3)(undecided.model)
        ]
        for seed in (0, 1)
    )
    assert not {*one} & {*two}
    (alone,) = continuations(undecided.tokenizer, settings(sample_prompts=("学写",))).at(3)(undecided.model)
    assert alone["text"] == one[1]
