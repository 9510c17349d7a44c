import math

import numpy as np
import pytest
import torch

from congling.evals.likelihood import continuation_row, score_rows, text_ids, text_nats
from congling.evals.windows import Row
from congling.infer.checkpoints import Loaded
from congling.infer.generate import tokens
from congling.infer.prompts import prompt_ids
from congling.infer.sampler import SamplingConfig


def alone(loaded: Loaded, ids: list[int], start: int) -> np.ndarray:
    """-log p of ids from ``start`` on, one text at a time."""
    with torch.inference_mode():
        hidden = loaded.model.eval()(torch.tensor([ids[:-1]]))
        logs = loaded.model.logits(hidden)[0].log_softmax(-1)
    return -logs[torch.arange(start - 1, len(ids) - 1), torch.tensor(ids[start:])].numpy()


def test_rows_read_together_score_as_they_do_alone(loaded: Loaded):
    random = np.random.default_rng(0)
    size = loaded.tokenizer.vocab_size
    rows = [
        Row(random.integers(3, size, n).tolist(), start)
        for n, start in ((65, 1), (2, 1), (30, 29), (7, 3), (65, 64), (12, 5))
    ]
    for batch_tokens in (1, 80, 10_000):
        for row, found in zip(rows, score_rows(loaded.model, rows, batch_tokens=batch_tokens), strict=True):
            assert found.nats == pytest.approx(alone(loaded, list(row.ids), row.start), abs=1e-4)


def test_what_greedy_decoding_writes_is_the_likeliest_everywhere(loaded: Loaded):
    prompt = prompt_ids(loaded.tokenizer, "天地")
    greedy = SamplingConfig(temperature=0)
    written = [row[0] for row in tokens(loaded.model, [prompt], max_new_tokens=20, sampling=greedy)]
    changed = [*written[:7], (written[7] + 1) % loaded.tokenizer.vocab_size, *written[8:]]
    found = score_rows(loaded.model, [Row([*prompt, *one], len(prompt)) for one in (written, changed)])
    assert found[0].top.all()
    assert found[1].top[:7].all() and not found[1].top[7]


@pytest.mark.parametrize("row", [Row([1] * 66, 1), Row([1, 2], 0), Row([1, 2], 2), Row([], 1)])
def test_a_row_that_does_not_fit_is_refused(loaded: Loaded, row: Row):
    with pytest.raises(ValueError, match="do not fit a context of 64"):
        score_rows(loaded.model, [row])


def test_a_text_costs_its_ids_and_its_end(loaded: Loaded):
    text = "天地玄黄，宇宙洪荒。"
    ids = text_ids(loaded.tokenizer, text)
    (nats, count), (long, _) = text_nats(loaded.model, loaded.tokenizer, [text, text * 20])
    assert count == len(ids) - 1 == len(text) + 1
    assert nats == pytest.approx(float(alone(loaded, ids, 1).sum()), abs=1e-3)
    assert math.isfinite(long) and long > nats


def test_an_option_is_divided_where_its_question_ends(loaded: Loaded):
    row, over = continuation_row(loaded.tokenizer, 64, "天地\n", "玄黄")
    assert loaded.tokenizer.decode(row.ids[row.start :]) == "\n玄黄"  # white space goes with the option
    assert not over
    row, over = continuation_row(loaded.tokenizer, 64, "天" * 100, "玄黄")
    assert over and len(row.ids) == 65 and loaded.tokenizer.decode(row.ids[row.start :]) == "玄黄"


def test_the_training_flag_comes_back(loaded: Loaded):
    loaded.model.train()
    score_rows(loaded.model, [Row([3, 4], 1)])
    assert loaded.model.training
    loaded.model.eval()
