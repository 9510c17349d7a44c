"""What follows a prompt that is read once is what follows it when everything is read anew."""

import random
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from congling.evals.likelihood import score_rows
from congling.evals.shared_prompt import Candidates, followed
from congling.evals.windows import Row
from congling.infer.generate import tokens
from congling.infer.sampler import SamplingConfig
from congling.interop.gguf.packing import pack
from congling.model.config import RotaryConfig
from congling.model.families import FAMILIES
from congling.model.rope_scaling import DynamicScaling, RotaryScaling
from congling.model.transformer import Transformer
from support.copiers import Copying

SIZE, NEW = 40, 6


def model_with(scaling: RotaryScaling | None) -> Transformer:
    config = FAMILIES["qwen3"](
        vocab_size=SIZE,
        max_position_embeddings=64,
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=2,
    )
    model = Transformer(config.replace(positions=RotaryConfig(rope_scaling=scaling)))
    model.initialise(4)
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model.eval()


def cases(seed: int, count: int = 12) -> tuple[list[list[int]], list[Candidates]]:
    """Prompts of unequal length, each with candidates that part early and late."""
    draw = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [draw.randrange(3, SIZE) for _ in range(length)]

    prompts = [ids(draw.randrange(20, 30)) for _ in range(count)]
    some = []
    for _ in prompts:
        stem = ids(2)
        several = {(*stem[: draw.randrange(3)], *ids(draw.randrange(1, 4)), 0) for _ in range(12)}
        some.append([list(one) for one in sorted(several)])
    return prompts, some


@pytest.mark.parametrize("scaling", [None, DynamicScaling(factor=2.0, original_max_position_embeddings=24)])
def test_the_right_one_is_the_likeliest_where_all_that_are_scored_say_so(scaling: RotaryScaling | None):
    model = model_with(scaling)
    prompts, candidates = cases(1)
    totals = [
        [one.total for one in score_rows(model, [Row([*prompt, *ids], len(prompt)) for ids in some])]
        for prompt, some in zip(prompts, candidates, strict=True)
    ]
    asked = []
    for number, (row, some) in enumerate(zip(totals, candidates, strict=True)):
        order = np.argsort(
            row
        )  # of every second problem the likeliest is the right one, else the one behind it
        first = some[order[0 if number % 2 else 1]]
        asked.append([first, *(ids for ids in some if ids != first)])
    found = followed(model, prompts, asked, new=NEW, ends=frozenset())
    assert [one.right for one in found] == [row % 2 == 1 for row in range(len(prompts))]


def test_a_packed_model_is_asked_as_a_dense_one_is():
    model = pack(model_with(None), "Q8_0")
    prompts, candidates = cases(5, count=4)
    found = followed(model, prompts, candidates, new=2, ends=frozenset())
    for one, prompt, some in zip(found, prompts, candidates, strict=True):
        totals = [row.total for row in score_rows(model, [Row([*prompt, *ids], len(prompt)) for ids in some])]
        assert one.right == (totals[0] < min(totals[1:]))


def test_what_is_written_is_what_generation_writes():
    model = model_with(None)
    prompts, candidates = cases(2)
    greedy = SamplingConfig(temperature=0.0)
    steps = list(tokens(model, prompts, max_new_tokens=NEW, sampling=greedy, undrawable=[5, 6]))
    expected = [list(row) for row in zip(*steps, strict=True)]
    found = followed(model, prompts, candidates, new=NEW, ends=frozenset(), undrawable=[5, 6])
    assert [one.written for one in found] == expected
    end = expected[0][2]
    ended = followed(model, prompts, candidates, new=NEW, ends=frozenset({end}), undrawable=[5, 6])
    assert ended[0].written == expected[0][: expected[0].index(end)]


def test_where_the_right_one_is_sure_no_other_is_read(monkeypatch: pytest.MonkeyPatch):
    model = Copying(model_with(None).config, sight=64)
    prompts = [[7, 8, 9, 10 + i, 20 + i, 3, *range(30, 30 + i), 7, 8, 9] for i in range(4)]
    candidates = [
        [[10 + i, 20 + i, 3], *([a, b, 3] for a in range(10, 20) for b in range(15, 20)), [10 + i, 19, 4, 3]]
        for i in range(4)
    ]
    read = []
    forward = model.forward

    def counting(ids: Tensor, **options: Any) -> Tensor:
        read.append(ids.shape[0])
        return forward(ids, **options)

    monkeypatch.setattr(model, "forward", counting)
    found = followed(model, prompts, candidates, new=3, ends=frozenset({3}))
    assert [one.right for one in found] == [True] * 4
    assert [one.written for one in found] == [[10 + i, 20 + i] for i in range(4)]
    assert read == [4, 4, 4, 4]  # the prompts, two tokens written, and the right candidate


def test_equally_likely_is_not_likelier():
    model = Copying(model_with(None).config, sight=1)  # knows nothing
    found = followed(model, [[7, 8, 9]], [[[10, 3], [11, 3]]], new=1, ends=frozenset())
    assert not found[0].right
