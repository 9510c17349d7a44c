"""Held-out loss: right against plain arithmetic, whatever the windows, and in every unit."""

import math

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.data.token_split import TokenSplit
from congling.evals.loss import LossReport, evaluate
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

EOS = 0


def split(tokens: int = 200) -> TokenSplit:
    ids = np.random.default_rng(0).integers(1, 32, tokens).astype(np.uint16)
    ends = np.array([tokens // 2, tokens])
    ids[ends - 1] = EOS
    return TokenSplit(ids, ends, np.array([60, 80]), np.array([180, 240]), EOS, 32)


@pytest.fixture
def model() -> Transformer:
    built = Transformer(
        FAMILIES["qwen3"](vocab_size=32, max_position_embeddings=16, num_hidden_layers=1, hidden_size=32)
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(
                0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return built


def test_a_model_that_knows_nothing_costs_log_of_the_vocabulary():
    blank = Transformer(
        FAMILIES["qwen3"](vocab_size=32, max_position_embeddings=16, num_hidden_layers=1, hidden_size=32)
    )
    with torch.no_grad():
        blank.output_layer().weight.zero_()
    report = evaluate(blank, split())
    assert report.nats_per_token == pytest.approx(math.log(32), rel=1e-5)
    assert (report.tokens, report.characters, report.bytes) == (200, 140, 420)
    assert report.bits_per_character == pytest.approx(200 * 5 / 140, rel=1e-5)


@pytest.mark.parametrize("overlap", [0, 5, 15])
def test_windows_agree_with_scoring_each_token_by_hand(model, overlap):
    data = split(70)
    report = evaluate(model, data, overlap=overlap, rows=3)
    ids = torch.from_numpy(data.tokens.astype(np.int64))
    inputs = torch.cat([torch.tensor([EOS]), ids[:-1]])
    total, stride = 0.0, 16 - overlap
    with torch.inference_mode():
        for start in range(0, len(ids), stride):
            end = min(start + 16, len(ids))
            scores = model.logits(model(inputs[None, start:end]))[0].log_softmax(-1)
            first = 0 if start == 0 else overlap
            total -= scores[range(first, end - start), ids[start + first : end]].sum().item()
    assert report.nats == pytest.approx(total, rel=1e-5)


def test_training_mode_is_restored_and_limits_hold(model):
    model.train()
    report, whole = evaluate(model, split(), limit_tokens=100), evaluate(model, split())
    assert model.training and 80 <= report.tokens <= 110
    assert report.characters / report.tokens == pytest.approx(whole.characters / whole.tokens, rel=0.01)
    with pytest.raises(UserError):
        evaluate(model, split(), context=17)
    empty = TokenSplit(
        np.zeros(0, np.uint16), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), EOS, 32
    )
    with pytest.raises(UserError):
        evaluate(model, empty)


def test_units_agree():
    report = LossReport(nats=math.log(2) * 600, tokens=100, characters=150, bytes=450)
    assert report.bits_per_character == pytest.approx(4) and report.bits_per_byte == pytest.approx(4 / 3)
    assert report.perplexity == pytest.approx(64)
    assert LossReport(1e6, 1, 1, 1).perplexity == math.inf
