"""Schedule, Adam, stop tests and log lines."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from congling.interop.gguf.fields import Field
from congling.llamacpp_trainers import notes
from congling.llamacpp_trainers.adam import AdamSettings, ClassicAdam
from congling.llamacpp_trainers.arguments import parse
from congling.llamacpp_trainers.console import IterationLog, duration
from congling.llamacpp_trainers.options import ScratchOptions
from congling.llamacpp_trainers.schedule import FittedSchedule, Schedule
from congling.llamacpp_trainers.stops import Stop, StopTests
from congling.llamacpp_trainers.vocabulary import Vocabulary
from congling.tokenizer.character import CharacterTokenizer

STEPS = (0, 1, 50, 99, 100, 256, 500, 999, 1000, 5000)


@pytest.mark.parametrize(
    ("restart", "published"),
    [
        (None, (0, 0.01, 0.5, 0.99, 0.977975, 0.862144, 0.55, 0.100002, 0.1, 0.1)),
        (1.1, (0, 0.01, 0.5, 0.99, 1.0, 0.947031, 0.689058, 0.122464, 0.122025, 0.932268)),
    ],
)
def test_schedule_has_the_published_values(restart, published):
    assert [round(Schedule(restart=restart).factor(step), 6) for step in STEPS] == list(published)


def test_smallest_rate_holds_during_warm_up_too():
    assert Schedule(least=0.25).factor(0) == 0.25
    assert Schedule(least=0.25).factor(50) == 0.25 + 0.75 * 0.5


def test_a_period_that_shrinks_ends():
    assert 0.1 <= Schedule(restart=0.0, decay_steps=5).factor(3000) <= 1


def test_fitted_schedule_moves_at_once_and_ends_with_the_run():
    schedule = FittedSchedule(100, end=300)
    assert schedule.factor(0) == pytest.approx(1 / 31)
    assert schedule.factor(30) == 1
    assert schedule.factor(300) == pytest.approx(0.1)


def reference(weights, gradients, settings, factors, decays):
    """The published update, one number at a time."""
    m = v = np.zeros_like(weights)
    for count, (gradient, factor) in enumerate(zip(gradients, factors, strict=True), 1):
        norm = math.sqrt((gradient**2).sum())
        if norm > settings.clip > 0:
            gradient = gradient * settings.clip / norm
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        decay = settings.decay if decays else 0
        step = (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        weights = weights * (1 - decay * settings.alpha * factor) - settings.alpha * factor * step
    return weights


@pytest.mark.parametrize(("dimensions", "clip"), [(2, 1.0), (1, 1.0), (2, 0.0), (2, 100.0)])
def test_adam_is_the_published_update(dimensions, clip):
    random = np.random.default_rng(0)
    start, gradients, factors = random.normal(size=(3, 4)), random.normal(size=(5, 3, 4)), (0, 0.5, 1, 1, 0.3)
    settings = AdamSettings(alpha=0.1, clip=clip)
    weight = nn.Parameter(torch.tensor(start))
    adam = ClassicAdam({"w": weight}, {"w": dimensions}, settings)
    for step, (gradient, factor) in enumerate(zip(gradients, factors, strict=True)):
        weight.grad = torch.tensor(gradient)
        adam.step(step, factor, torch.tensor(0.0))
        if step == 0:  # factor 0: nothing moves, but the moments do
            assert torch.equal(weight.detach(), torch.tensor(start))
            assert adam.first["w"].abs().sum() > 0
    expected = reference(start, gradients, settings, factors, decays=dimensions >= 2)
    assert np.abs(weight.detach().numpy() - expected).max() < 1e-12


def test_adam_skips_and_resumes():
    weight, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    adam, again = (ClassicAdam({"w": one}, {"w": 1}, AdamSettings()) for one in (weight, other))
    weight.grad = torch.tensor([1.0, math.nan])
    adam.step(0, 1.0, torch.tensor(1.0))
    assert torch.equal(weight.detach(), torch.ones(2))
    weight.grad = torch.tensor([1.0, -2.0])
    adam.step(1, 1.0, torch.tensor(0.0))
    again.load(adam.tensors())
    other.data.copy_(weight.data)
    for one, optimizer in ((weight, adam), (other, again)):
        one.grad = torch.tensor([0.5, 0.5])
        optimizer.step(2, 1.0, torch.tensor(0.0))
    assert torch.equal(weight.detach(), other.detach())


def test_stop_tests():
    tests = StopTests(epsilon=0.1)
    tests.check(0, 5.0)
    tests.check(1, 4.0)
    with pytest.raises(Stop, match="epsf"):
        tests.check(2, 3.9)
    tests = StopTests(delta=0.01, past=np.zeros(2, np.float32))
    for iteration, loss in enumerate((5.0, 4.0, 4.5)):
        tests.check(iteration, loss)
    with pytest.raises(Stop, match="2 iterations"):
        tests.check(3, 4.001)
    tests = StopTests(patience=2)
    for iteration, loss in enumerate((5.0, 4.0, 4.5)):
        tests.check(iteration, loss)
    with pytest.raises(Stop, match="no better loss for 2"):
        tests.check(3, 4.2)


def test_log_lines():
    lines, now = [], iter((10.0, 11.0, 11.5, 14.5, 15.0))
    log = IterationLog(200, lines.append, lambda: next(now))
    log.passed()
    log.resumed()
    log.line(0, "1/1600", 0.0, None)
    log.passed()
    log.resumed()
    log.line(1, "9/1600", 0.01, 5.0)
    log.passed()
    log.resumed()
    log.line(2, "17/1600", 0.02, 4.75)
    assert lines == [
        "train_opt_callback: iter=     0 sample=1/1600 sched=0.000000 loss=0.000000 |->",
        "train_opt_callback: iter=     1 sample=9/1600 sched=0.010000 loss=5.000000 dt=00:00:01 eta=00:03:19"
        " |->",
        "train_opt_callback: iter=     2 sample=17/1600 sched=0.020000 loss=4.750000 dt=00:00:02 eta=00:07:55"
        " |---->",
    ]


def test_no_bar_where_the_loss_rose():
    lines = []
    log = IterationLog(10, lines.append)
    for loss in (None, 1.0, 9.0, math.nan):
        log.line(1, "1/1", 1.0, loss)
    assert [line.rpartition("|")[2] for line in lines] == ["->", "->", ">", ">"]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (12.34, "12.3ms"),
        (999.94, "999.9ms"),
        (1000, "00:00:01"),
        (3_723_000, "01:02:03"),
        (90_061_000, "1d 01:01:01"),
    ],
)
def test_durations(milliseconds, text):
    assert duration(milliseconds) == text


def test_a_byte_level_vocabulary_is_told_apart_from_the_former_programs():
    options = parse(ScratchOptions, [])
    lines = {
        kind: " ".join(notes.of_scratch(options, words_of(kind), 0, new=True))
        for kind in ("llama", "gpt2", "t5")
    }
    assert ["split some lines otherwise" in lines[kind] for kind in lines] == [False, True, False]
    assert ["load no such model" in lines[kind] for kind in lines] == [False, False, True]


def words_of(kind: str) -> Vocabulary:
    return Vocabulary(CharacterTokenizer("云对雨"), {"tokenizer.ggml.model": Field("string", kind)})
