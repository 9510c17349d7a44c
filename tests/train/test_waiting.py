"""Threads wait in the manner that is faster now, the search costs little, and results keep their bits."""

import os
import subprocess
import sys

import pytest

from congling.train import waiting
from congling.train.waiting import Choice

ALONE, BUSY = {"awake": 0.10, "asleep": 0.12}, {"awake": 0.44, "asleep": 0.20}
"""Seconds of a step."""


class Switch:
    """The two manners without any threads."""

    switchable, manner = True, "awake"

    def wait(self, manner):
        self.manner = manner


def simulated(machine, steps=300, manner="awake"):
    """Seconds in all, those of the best manner at each step, and what was said."""
    switch, said = Switch(), []
    switch.manner = manner
    choice, took, best = Choice(switch, said.append), 0.0, 0.0
    for step in range(steps):
        seconds = machine(step)
        took, best = took + seconds[switch.manner], best + min(seconds.values())
        choice.take(seconds[switch.manner])
    return took / best, switch.manner, said


@pytest.mark.parametrize("manner", ["awake", "asleep"])
@pytest.mark.parametrize(("machine", "expected"), [(ALONE, "awake"), (BUSY, "asleep")])
def test_the_faster_manner_is_found_and_kept(machine, expected, manner):
    share, found, said = simulated(lambda step: machine, manner=manner)
    assert found == expected and share < 1.03
    assert len(said) == (manner != expected)


@pytest.mark.parametrize(("before", "after", "expected"), [(ALONE, BUSY, "asleep"), (BUSY, ALONE, "awake")])
def test_a_change_in_the_middle_is_noticed(before, after, expected):
    share, found, said = simulated(lambda step: before if step < 150 else after)
    assert found == expected and share < 1.06
    assert f"wait {expected}" in said[-1]


def test_restless_machines_cost_little():
    assert simulated(lambda step: BUSY if step // 9 % 2 else ALONE, steps=900)[0] < 1.35
    assert simulated(lambda step: {name: one * (1 + step % 3 / 4) for name, one in ALONE.items()})[0] < 1.05


def test_nothing_is_tried_where_nothing_can_be_changed():
    switch = Switch()
    switch.switchable = False
    choice = Choice(switch)
    for _ in range(20):
        choice.take(1.0)
    assert switch.manner == "awake" and not choice.pace


PROGRAM = """
import hashlib, torch
from congling.train.waiting import threads
def products():
    torch.manual_seed(0)
    a, b = torch.randn(300, 400), torch.randn(400, 500)
    found = [a @ b, (a @ b).sum(), a.softmax(-1).sum(0), torch.nn.functional.layer_norm(a, (400,))]
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in found)).hexdigest()
switch = threads()
found = [products()]
for manner in ("asleep", "awake", "asleep", "asleep", "awake"):
    switch.wait(manner)
    found.append(products())
print(switch.switchable, len(set(found)), torch.get_num_threads())
"""


def said_by(**environment):
    settings = ("OMP", "GOMP", "KMP")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.check_output(command, env=inherited | environment, text=True, timeout=60).split()


def test_bits_do_not_depend_on_the_manner_and_a_persons_own_setting_wins():
    switchable, results, count = said_by(OMP_NUM_THREADS="2")
    assert results == "1" and count == "2"
    assert switchable == str(waiting._switches() != (None, None))
    assert said_by(OMP_NUM_THREADS="2", GOMP_SPINCOUNT="100")[0] == "False"
    assert said_by(OMP_NUM_THREADS="1")[0] == "False"
