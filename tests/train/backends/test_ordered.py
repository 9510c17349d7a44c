"""The same bits on any number of processes."""

import numpy as np
import pytest
import torch
from torch import nn

from congling.train.backends.ordered import GradientTree, merges, shares_are_nodes, tree_sum
from support.processes import together
from support.training_together import (
    FAULTS,
    hashes,
    held_out,
    matrices_made,
    metrics,
    own_texts,
    train_until,
    weights_with,
    whole_run,
)

MUON = {"kind": "muon"}
ADAMW = {"kind": "adamw"}


class Terms(str):
    """A summand that says how it was added up."""

    def __add__(self, other):
        return Terms(f"({self!s}{other!s})")


def test_sums_follow_one_tree_and_shares_of_processes_are_its_nodes():
    assert tree_sum([Terms(i) for i in "0123456"]) == "(((01)(23))((45)6))"
    for count, world in ((4, 2), (8, 4), (12, 4), (6, 2)):
        terms = [Terms(i) for i in "0123456789ab"[:count]]
        each = count // world
        parts = [tree_sum(terms[rank * each : (rank + 1) * each]) for rank in range(world)]
        assert shares_are_nodes(count, world) and tree_sum(parts) == tree_sum(terms)
    assert not shares_are_nodes(6, 3) and not shares_are_nodes(6, 4)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 13])
def test_gradients_are_added_up_in_the_order_of_the_tree(count):
    values = torch.randn(count, 50, generator=torch.Generator().manual_seed(count))
    weight, unused = nn.Parameter(torch.zeros(50)), nn.Parameter(torch.zeros(2))
    tree = GradientTree([weight, unused])
    for i, value in enumerate(values):
        tree.begin(i, count)
        (weight * value).sum().backward()
        tree.end(i, count)
    assert torch.equal(weight.grad, tree_sum(values.unbind())) and unused.grad is None
    assert sum(merges(count)) == count - 1


def trained(folder, world, stop, changes, **sizes):
    """Train a run of eight micro-batches a step in ``folder`` until a step."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    cut = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, **changes}
    return together(world, train_until, folder, stop, cut, **sizes)[0]


def test_one_two_and_four_processes_and_whoever_goes_on_train_the_same_bits(tmp_path):
    changes = {"max_steps": 50, "optimizer": MUON, "ema_decay": 0.9}
    for world in (1, 2, 4):
        trained(tmp_path / str(world), world, 50, changes, dropout=0.1)
    levels = [trained(tmp_path / "4 1 2 4", 4, 12, changes, dropout=0.1)]
    for stop, world in ((25, 1), (37, 2), (50, 4)):
        levels.append(trained(tmp_path / "4 1 2 4", world, stop, changes, dropout=0.1).level)
    assert levels == [None, "bits", "bits", "bits"]
    first, *others = [hashes(tmp_path / name) for name in ("1", "2", "4", "4 1 2 4")]
    assert len(first) == 4 and others == [first] * 3
    assert len({row["rows_hash"] for row in metrics(tmp_path / "1")}) == 50


@pytest.mark.parametrize("family, optimizer", [("deepseek-moe", ADAMW), ("qwen3-moe", MUON)])
def test_mixtures_of_experts_have_the_same_bits_too(tmp_path, family, optimizer):
    changes = {"max_steps": 4, "optimizer": optimizer}
    for world in (1, 2):
        trained(tmp_path / str(world), world, 4, changes, family=family)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_in_the_order_of_the_micro_batches_only_the_rows_are_the_same(tmp_path):
    changes = {"max_steps": 4, "sums": "sequential"}
    for world in (1, 2):
        trained(tmp_path / str(world), world, 2, changes, dropout=0.1)
    assert hashes(tmp_path / "1") != hashes(tmp_path / "2")
    found = trained(tmp_path / "1", 2, 4, changes, dropout=0.1)
    assert found.level == "order" and "processes: 1 → 2" in str(found)
    trained(tmp_path / "2", 2, 4, changes, dropout=0.1)
    one, two = ([row["rows_hash"] for row in metrics(tmp_path / name)] for name in "12")
    assert one == two and len(set(one)) == 4


def test_processes_share_held_out_batches_and_get_the_numbers_of_one():
    ((alone, batches),) = together(1, held_out, 7)
    assert batches == 4
    for world in (2, 3):
        found = together(world, held_out, 7)
        assert [numbers for numbers, _ in found] == [alone] * world
        assert max(read for _, read in found) - min(read for _, read in found) <= 1
        assert sum(read for _, read in found) == batches
    assert together(3, held_out, 2)[2] == (together(1, held_out, 2)[0][0], 0)  # nothing is left for the last


def test_a_whole_run_with_held_out_numbers_has_the_same_bits_and_ends_at_the_same_step(tmp_path):
    ends = [together(world, whole_run, tmp_path / str(world)) for world in (1, 2)]
    assert ends[0][0] == ends[1][0] == ends[1][1] < 20
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    assert sum("validation_loss" in row for row in metrics(tmp_path / "1")) > 2


def test_texts_that_the_model_writes_itself_are_the_same_too():
    ((one, hashes, rests_on),) = together(1, own_texts)
    for other in together(2, own_texts):
        assert all(np.array_equal(one[name], other[0][name]) for name in one)
        assert other[1:] == (hashes, rests_on) and "processes" not in rests_on


def test_each_matrix_is_made_orthogonal_by_one_process_and_a_stack_is_gathered_once():
    found = together(2, matrices_made)
    sizes = found[0][2]
    assert found[0][1] == found[1][1] and len(found[0][1]) == len(sizes) > 1
    assert found[0][0] + found[1][0] == sum(sizes.values()) and abs(found[0][0] - found[1][0]) <= len(sizes)


@pytest.fixture(scope="module")
def alone():
    """Weights of one process, and what each of its steps measured."""
    return together(1, weights_with, None)[0]


def agree(one, other):
    """Whether two trainings are the same: rows, losses, norms and weights."""
    same = all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
    return same and one[1] == other[1]


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_mistakes_of_training_together_are_caught(alone, fault):
    found = together(2, weights_with, fault)
    assert all(agree(alone, one) for one in found) is (fault is None)
