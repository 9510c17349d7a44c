"""Copying over a distance: models whose answers are known, and what cannot be measured."""

from dataclasses import replace
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.data.smallworld.needles import copy_problem
from congling.evals import copying_at_distance, tasks
from congling.evals.bench import Bench
from congling.evals.context_lengths import original_length
from congling.evals.copying_at_distance import (
    SEGMENT,
    distances,
    ordinary_ids,
    raw_problem,
    world_problem,
)
from congling.evals.fitting import Fitting
from congling.evals.scores import Score, wilson
from congling.infer.checkpoints import Loaded
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer
from support.copiers import Copying

LETTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜"


def of(loaded: Loaded, sight: int, limit: int, context: int = 256) -> Bench:
    tokenizer = CharacterTokenizer(LETTERS + " \n")
    config = loaded.model.config.replace(max_position_embeddings=context, vocab_size=tokenizer.vocab_size + 5)
    return Bench(Loaded(Copying(config, sight), tokenizer, loaded.checkpoint), limit=limit)


def measured(bench: Bench) -> dict[str, Score]:
    return {
        score.name.removeprefix("copying-at-distance/"): score
        for score in tasks.run(bench, ["copying-at-distance"])
    }


def test_a_model_that_copies_is_right_at_every_distance_and_never_in_the_control(loaded: Loaded):
    found = measured(of(loaded, 999, limit=20))
    assert [name for name in found if name.count("/") == 1] == ["raw/64", "raw/128", "raw/240"]
    for distance in (64, 128, 240):
        whole, control = found[f"raw/{distance}"], found[f"raw/{distance}/control"]
        assert (whole.value, whole.n, whole.low, whole.high) == (1.0, 5, *wilson(5, 5))
        assert found[f"raw/{distance}/tokens"].value == 1.0
        assert control.value == 0.0 and control.reference


def test_a_model_with_short_sight_copies_from_there_alone(loaded: Loaded):
    found = measured(of(loaded, 100, limit=20))
    assert [found[f"raw/{distance}"].value for distance in (64, 128, 240)] == [1.0, 0.0, 0.0]
    assert found["raw/128/tokens"].value == 0.0


def test_random_weights_copy_nothing(loaded: Loaded):
    bench = of(loaded, 1, limit=40)
    model = Transformer(bench.loaded.model.config)
    model.initialise(3)
    found = measured(replace(bench, loaded=replace(bench.loaded, model=model)))
    assert all(score.value < 0.2 for score in found.values())
    tokens = found["raw/128/tokens"]
    assert tokens.low is not None and tokens.high is not None and tokens.low <= tokens.value <= tokens.high


def test_problems_follow_from_the_seed_and_say_nothing_twice():
    ordinary = list(range(100, 140))
    one = raw_problem(ordinary, 64, 7)
    assert one == raw_problem(ordinary, 64, 7) != raw_problem(ordinary, 64, 8)
    segment, between = one.ids[:SEGMENT], one.ids[SEGMENT:64]
    assert len(set(segment)) == SEGMENT and not set(segment) & set(between)
    assert len(one.ids) == len(one.control) == 64 + SEGMENT
    assert not set(one.control[:64]) & set(segment) and one.control[64:] == one.ids[64:] == segment


def test_marks_bytes_and_blanks_are_not_drawn():
    tokenizer = CharacterTokenizer("天 地\n")
    ids = ordinary_ids(tokenizer, 999)
    assert [tokenizer.decode([index]) for index in ids] == ["天", "地"]
    assert ordinary_ids(tokenizer, ids[-1]) == ids[:1]  # a model with fewer rows


def test_distances_reach_as_far_as_the_context():
    assert distances(256, 1024, 1) == [64, 128, 256, 512, 1008]
    assert distances(1000, 1000, 1) == [250, 500, 984]
    assert distances(64, 64, 1) == [32, 48]
    with pytest.raises(UserError, match="too short"):
        distances(40, 40, 1)


def test_too_little_to_draw_from_is_an_error(bench: Bench):
    few = Loaded(bench.loaded.model, CharacterTokenizer("天地玄黄"), bench.loaded.checkpoint)
    with pytest.raises(UserError, match="too few ordinary tokens"):
        copying_at_distance.run(replace(bench, loaded=few))


@pytest.mark.parametrize(
    ("facts", "length"),
    [({}, 64), ({"extended": {"from": 16}}, 16), ({"extended": {"from": "no"}}, 64), ({"extended": 3}, 64)],
)
def test_the_trained_length_is_that_before_it_was_extended(
    loaded: Loaded, facts: dict[str, Any], length: int
):
    checkpoint = replace(loaded.checkpoint, facts=facts)
    assert original_length(replace(loaded, checkpoint=checkpoint)) == length


def test_the_small_world_has_lines_to_copy_where_the_tokenizer_knows_it(loaded: Loaded):
    texts = [prompt + answer for prompt, answer in (copy_problem(400, 900, seed) for seed in range(80))]
    tokenizer = CharacterTokenizer("".join(sorted(set("".join(texts)))))
    config = loaded.model.config.replace(max_position_embeddings=256, vocab_size=tokenizer.vocab_size)
    bench = Bench(Loaded(Copying(config, 150, order=2), tokenizer, loaded.checkpoint), limit=12)
    told = world_problem(bench, Fitting(128), 3)
    assert told is not None and 112 <= told.tokens <= 128
    text = tokenizer.decode(told.copying.ids, skip_special=True)
    assert told.copying.asked == SEGMENT and text.count(text[-SEGMENT:]) == 2
    assert tokenizer.decode(told.copying.control).count(text[-SEGMENT:]) == 1
    found = measured(bench)
    assert found["world/128/tokens"].value > 0.9 and found["world/234/tokens"].value < 0.1
    assert found["world/128"].n == 3 and found["world/128/control"].value == 0.0
    assert not any(name.startswith("world") for name in measured(of(loaded, 999, limit=4)))
