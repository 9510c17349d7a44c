"""Answers in groups: the same as one by one, whatever is written beside them."""

from typing import Any

import pytest
import torch

from congling.infer import completions
from congling.infer.checkpoints import Loaded
from congling.infer.completions import complete
from congling.infer.generate import tokens
from congling.infer.sampler import SamplingConfig
from congling.model.cache import KVCache

NONE: frozenset[int] = frozenset()
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 5, 6], [7, 7]]
SEEDS = [11, 12, 13, 14]


def plain(model: Any, prompt: list[int], ids: list[int], temperature: float) -> list[float]:
    """Log-probabilities by one forward over the whole text."""
    read = torch.tensor([[*prompt, *ids]])
    with torch.no_grad():
        logits = model.logits(model(read[:, :-1])[0]) / temperature
    found = torch.log_softmax(logits, -1).gather(1, read[0, 1:, None])[:, 0]
    return found[len(prompt) - 1 :].tolist()


def test_probabilities_are_those_of_a_plain_reading(loaded: Loaded):
    found = complete(
        loaded.model, PROMPTS, group=3, new_tokens=12, stops=frozenset({6, 9}), temperature=0.8, seeds=SEEDS
    )
    assert {one.ended for same in found for one in same} == {True, False}
    for prompt, same in zip(PROMPTS, found, strict=True):
        for one in same:
            wanted = plain(loaded.model, prompt, one.ids, 0.8)
            assert one.log_probs == pytest.approx(wanted, rel=1e-4, abs=1e-4)
            assert one.ended == (one.ids[-1] in {6, 9}) and len(one.ids) <= 12
            assert not set(one.ids[:-1]) & {6, 9} and (one.ended or len(one.ids) == 12)


def test_dropping_finished_rows_changes_nothing(loaded: Loaded, monkeypatch: pytest.MonkeyPatch):
    settings: dict[str, Any] = {
        "group": 4,
        "new_tokens": 16,
        "stops": frozenset({6, 9, 14}),
        "seeds": SEEDS,
        "temperature": 1.5,
    }
    taken = []
    take = KVCache.take
    monkeypatch.setattr(KVCache, "take", lambda self, rows: taken.append(len(rows)) or take(self, rows))
    dropped = complete(loaded.model, PROMPTS, **settings)
    assert len(taken) > 1 and taken[-1] < 16, "rows leave the cache"
    monkeypatch.setattr(completions, "LEFT", -1.0)
    kept = complete(loaded.model, PROMPTS, **settings)
    assert [[one.ids for one in same] for same in dropped] == [[one.ids for one in same] for same in kept]


def test_a_prompt_has_the_same_answers_alone_and_among_others(loaded: Loaded):
    settings: dict[str, Any] = {"group": 3, "new_tokens": 10, "stops": frozenset({6}), "temperature": 8.0}
    together = complete(loaded.model, PROMPTS, seeds=SEEDS, **settings)
    for prompt, seed, wanted in zip(PROMPTS, SEEDS, together, strict=True):
        (alone,) = complete(loaded.model, [prompt], seeds=[seed], **settings)
        assert [one.ids for one in alone] == [one.ids for one in wanted]
    assert len({tuple(one.ids) for one in together[0]}) > 1, "answers of a group differ"


def test_the_likeliest_answer_is_that_of_generate(loaded: Loaded):
    settings = SamplingConfig(temperature=0.0)
    wanted = list(zip(*tokens(loaded.model, PROMPTS, max_new_tokens=8, sampling=settings), strict=True))
    found = complete(loaded.model, PROMPTS, group=2, new_tokens=8, stops=NONE, temperature=0.0)
    for ids, same in zip(wanted, found, strict=True):
        assert [one.ids for one in same] == [list(ids), list(ids)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_without_a_token_are_never_drawn(padded: Loaded, temperature: float):
    model, size = padded.model, padded.tokenizer.vocab_size
    barred = padded.tokenizer.undrawable(model.config.vocab_size)
    found = complete(
        model,
        PROMPTS,
        group=3,
        new_tokens=8,
        stops=NONE,
        temperature=temperature,
        seeds=SEEDS,
        undrawable=barred,
    )
    assert max(max(one.ids) for same in found for one in same) < size
    for prompt, same in zip(PROMPTS, found, strict=True):  # probabilities stay those of all ids
        assert same[0].log_probs == pytest.approx(
            plain(model, prompt, same[0].ids, temperature or 1.0), rel=1e-3
        )
