"""KL and loss of two models on the same tokens: right by plain arithmetic, named by their upper ends."""

import dataclasses

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.evals import damage
from congling.evals.damage import TokenDamage, by_position, held_out_rows, recovery, summary, token_damage
from congling.evals.paired import Difference, Measured
from congling.infer.checkpoints import Loaded
from support.noisy import EOS, VOCABULARY, loaded, split


@pytest.fixture(scope="module")
def pair() -> tuple[Loaded, Loaded]:
    return loaded(), loaded(noise=0.05)


@pytest.mark.parametrize("mask", [False, True])
def test_every_token_is_compared_as_by_hand(pair, mask):
    data = split(300, documents=7)
    text = held_out_rows(data, 16, limit_tokens=10_000, document_mask=mask)
    found = token_damage(*pair, text)
    assert len(found.kl) == 300
    ids = np.concatenate([[EOS], data.tokens]).astype(np.int64)
    for place in (0, 5, 16, 17, 150, 299):
        first = place - place % 16
        if mask:
            first = max(first, int(([0, *data.ends.tolist()])[np.searchsorted(data.ends, place, "right")]))
        read = torch.from_numpy(ids[first : place + 1])[None]
        with torch.inference_mode():
            p, q = (one.model.logits(one.model(read))[0, -1].double().log_softmax(-1) for one in pair)
        assert found.kl[place] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-3)
        assert found.before[place] == pytest.approx(-float(p[ids[place + 1]]), abs=1e-5)
        assert found.after[place] == pytest.approx(-float(q[ids[place + 1]]), abs=1e-5)
        assert found.agree[place] == (p.argmax() == q.argmax())
        assert text.position[place] == place - first + 1


def test_chunks_and_batches_change_nothing(pair, monkeypatch):
    text = held_out_rows(split(), 16, limit_tokens=10_000)
    whole = token_damage(*pair, text)
    monkeypatch.setattr(damage, "BATCH_TOKENS", 32)
    monkeypatch.setattr(damage, "CHUNK", dataclasses.replace(damage.CHUNK, logits={"cpu": 5 * VOCABULARY}))
    monkeypatch.setattr(damage, "EXACT", dataclasses.replace(damage.EXACT, logits={"cpu": 2 * VOCABULARY}))
    parts = token_damage(*pair, text)
    np.testing.assert_allclose(parts.kl, whole.kl, rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(parts.agree, whole.agree)


def test_a_model_beside_itself_is_equal_to_the_bit(pair):
    text = held_out_rows(split(), 16, limit_tokens=10_000)
    found = summary(token_damage(pair[0], pair[0], text), text)
    assert found.kl == Measured(0.0, 0.0, 0.0, 400)
    assert (found.nats.value, found.agreement.value, found.verdict) == (0.0, 1.0, "equal to the bit")


def test_two_runs_are_equal_to_the_bit(pair):
    text = held_out_rows(split(), 16, limit_tokens=10_000)
    first, second = (summary(token_damage(*pair, text), text) for _ in range(2))
    assert first == second
    assert 0 < first.kl.low < first.kl.value < first.kl.high
    assert first.kl_99 > first.kl.value


def test_limits_are_spread_over_the_text():
    text = held_out_rows(split(4000), 16, limit_tokens=320)
    assert len(text.rows) == 20
    assert len(text.unit) == 320
    assert int(text.rows[-1].ids[-1]) == EOS  # the last window is the end of the text


@pytest.mark.parametrize(("documents", "units"), [(4, "windows"), (40, "documents")])
def test_intervals_are_drawn_from_documents_where_there_are_enough(documents, units):
    text = held_out_rows(split(800, documents), 16, limit_tokens=10_000)
    assert text.units == units
    assert len(np.unique(text.unit)) == (documents if units == "documents" else 50)


def test_a_text_too_short_is_refused():
    with pytest.raises(UserError, match="too short, at least 256 tokens are needed: 255"):
        held_out_rows(split(255), 16, limit_tokens=1000)


def test_logits_that_are_not_finite_are_refused(pair):
    broken = loaded()
    with torch.no_grad():
        broken.model.blocks[1].mlp.down.weight[0, 0] = torch.nan
    text = held_out_rows(split(), 16, limit_tokens=10_000)
    with pytest.raises(UserError, match="logits that are not finite"):
        token_damage(pair[0], broken, text)


def test_bands_of_positions_hold_every_token_once(pair):
    text = held_out_rows(split(), 16, limit_tokens=10_000)
    shorter = dataclasses.replace(text, position=text.position * 5)  # as if windows were longer
    found = token_damage(*pair, text)
    bands = list(by_position(found, shorter))
    assert [(one.first, one.last) for one in bands] == [(1, 16), (17, 32), (33, 64), (65, 80)]
    assert sum(one.kl.n or 0 for one in bands) == 400
    total = sum(one.kl.value * (one.kl.n or 0) for one in bands)
    assert total == pytest.approx(found.kl.sum())


@pytest.mark.parametrize(
    ("kl", "nats", "verdict"),
    [
        ((0.001, 0.002), (-0.001, 0.004), "within the noise"),
        ((0.001, 0.002), (0.001, 0.004), "measurable, ≤ 0.01 nats"),
        ((0.009, 0.011), (-0.001, 0.004), "measurable, ≤ 0.05 nats"),
        ((0.002, 0.004), (0.01, 0.03), "measurable, ≤ 0.05 nats"),
        ((0.002, 0.004), (-0.02, 0.06), "damaged"),
        ((0.05, 0.051), (0.0, 0.01), "damaged"),
    ],
)
def test_the_verdict_follows_from_the_upper_ends(kl, nats, verdict):
    middle = [sum(one) / 2 for one in (kl, nats)]
    share = Measured(0.9)
    loss = Difference(middle[1], *nats, "paired", 50)
    assert damage.Damage(Measured(middle[0], *kl), 0.1, share, 3.0, loss, False).verdict == verdict


def test_recovery_is_what_is_left_of_the_damage_of_rounding():
    text = held_out_rows(split(), 16, limit_tokens=10_000)
    kl = np.random.default_rng(1).gamma(1.0, 0.01, 400)
    before, agree = np.full(400, 2.0), np.ones(400, bool)
    rounded = TokenDamage(kl, before, before + kl, agree, False)
    better = TokenDamage(0.4 * kl, before, before + 0.25 * kl, agree, False)
    found = recovery(better, rounded, text)
    assert found is not None
    assert (found.kl.value, found.kl.low, found.kl.high) == pytest.approx((0.6, 0.6, 0.6))
    assert found.nats == pytest.approx(0.75)
    nothing = TokenDamage(0 * kl, before, before, agree, True)
    assert recovery(better, nothing, text) is None
