"""Sampling: each filter keeps exactly what it promises, and seeds decide the rest."""

import pytest
import torch

from congling.core.config import build
from congling.core.errors import UserError
from congling.infer.sampler import SamplingConfig, filtered, sample

PROBABILITIES = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.1, 0.2, 0.3, 0.4]])
LOGITS = PROBABILITIES.log()


def kept(**changes: float) -> list[list[int]]:
    probabilities = filtered(LOGITS, SamplingConfig.model_validate(changes))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2))
    return [row.nonzero().flatten().tolist() for row in probabilities]


def test_filters_keep_the_likeliest():
    assert kept() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert kept(top_k=2) == [[0, 1], [2, 3]]
    assert kept(top_k=9) == kept()
    assert kept(top_p=0.6) == [[0, 1], [2, 3]]
    assert kept(top_p=0.001) == [[0], [3]]
    assert kept(min_p=0.45) == [[0, 1], [1, 2, 3]]
    assert kept(top_k=3, top_p=0.8, min_p=0.4) == [[0, 1], [1, 2, 3]]


def test_zero_temperature_is_greedy_and_needs_no_luck():
    generator = torch.Generator()
    assert sample(LOGITS, SamplingConfig(temperature=0), generator).tolist() == [0, 3]


def test_samples_follow_the_probabilities_and_the_seed():
    config = SamplingConfig(temperature=1)
    logits = LOGITS[:1].expand(20_000, 4)
    draws = [sample(logits, config, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    shares = draws[0].bincount(minlength=4) / 20_000
    torch.testing.assert_close(shares, PROBABILITIES[0], atol=0.015, rtol=0)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_given_numbers_invert_the_distribution_and_filters_cut_it():
    logits = torch.tensor([0.5, 0.3, 0.0, 0.2]).log()[None].repeat(20_000, 1)
    numbers = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def shares(**changes: float) -> torch.Tensor:
        config = SamplingConfig.model_validate({"temperature": 1.0, **changes})
        return torch.bincount(sample(logits, config, numbers), minlength=4) / 20_000

    torch.testing.assert_close(shares(), torch.tensor([0.5, 0.3, 0.0, 0.2]), atol=0.015, rtol=0)
    for cut in ({"top_k": 2}, {"top_p": 0.8}, {"min_p": 0.5}):
        torch.testing.assert_close(shares(**cut), torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.015, rtol=0)
    edges = sample(logits[:2], SamplingConfig(temperature=1), torch.tensor([0.0, 1 - 2.0**-53]).double())
    assert edges.tolist() == [0, 3]


def test_temperature_sharpens():
    cold, hot = (filtered(LOGITS / temperature, SamplingConfig()) for temperature in (0.5, 2.0))
    assert cold[0, 0] > PROBABILITIES[0, 0] > hot[0, 0]


def test_the_penalty_pushes_down_what_was_seen_whatever_its_sign():
    logits = torch.tensor([[2.0, 1.5], [-1.0, -1.5]])
    seen = torch.tensor([[True, False], [True, False]])
    config = SamplingConfig(temperature=0, repetition_penalty=2.0)
    assert sample(logits, config, torch.Generator()).tolist() == [0, 0]
    assert sample(logits, config, torch.Generator(), seen).tolist() == [1, 1]


@pytest.mark.parametrize("changes", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": 0}, {"min_p": 1.0}])
def test_impossible_settings_are_refused(changes: dict[str, float]):
    with pytest.raises(UserError):
        build(SamplingConfig, changes)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_an_error_for_people(bad: float):
    logits = torch.tensor([[0.0, bad, 1.0]])
    with pytest.raises(UserError, match="no finite numbers"):
        sample(logits, SamplingConfig(), torch.Generator())
