"""The loop: the same gradients however a step is cut, skipped steps, averages, several processes."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from congling.train.backends.single import Single
from congling.train.config import AdamWConfig, MuonConfig
from congling.train.objectives.loss import Loss
from congling.train.objectives.next_token import next_token
from support.training_doubles import SplitBatches, settings, small_model, trainer


def weights(found):
    return {name: value.detach().clone() for name, value in found.model.state_dict().items()}


def largest_difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("optimizer", [AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
def test_accumulation_equals_one_large_batch(rows, optimizer):
    config = settings(max_steps=3, optimizer=optimizer)
    whole, cut = trainer(config, rows=8), trainer(config, rows=rows)
    whole.run(), cut.run()
    assert largest_difference(weights(whole), weights(cut)) <= 2e-6
    assert cut.step_metrics["loss"].item() == pytest.approx(whole.step_metrics["loss"].item(), rel=1e-6)
    assert whole.tokens == cut.tokens


def test_the_logged_loss_is_nats_a_target_of_plain_cross_entropy():
    found = trainer(settings(max_steps=1), model=small_model())
    (batch,) = SplitBatches(8)(0, 0, 1)
    model = small_model().eval()
    logits = model.logits(model(torch.from_numpy(batch.tokens))).flatten(0, 1)
    losses = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(batch.targets).flatten(), reduction="none"
    )
    expected = (losses * torch.from_numpy(batch.weights).flatten()).sum() / batch.count
    found.run()
    assert found.step_metrics["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_balance_loss_is_added_to_the_total_but_not_to_the_loss():
    model = small_model("qwen3-moe", num_experts=4, num_experts_per_tok=2).train()
    (batch,) = SplitBatches(8)(0, 0, 1)
    loss = next_token(model, Single(settings()).to_device(batch))
    assert loss.total.item() - loss.metrics["loss"].item() == pytest.approx(
        batch.count * model.balance_loss().item(), rel=1e-3
    )
    assert model.balance_loss().item() > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_without_finite_gradient_changes_nothing(bad):
    seen = []

    def sometimes_bad(model, batch):
        loss = next_token(model, batch)
        return Loss(loss.total * bad, loss.metrics) if len(seen) == 2 else loss

    found = trainer(settings(max_steps=4, ema_decay=0.5), objective=sometimes_bad)
    found.run([lambda one: seen.append((weights(one), one.step_metrics["skipped"].item()))])
    assert [skipped for _, skipped in seen] == [0, 0, 1, 0]
    assert largest_difference(seen[1][0], seen[2][0]) == 0
    assert largest_difference(seen[2][0], seen[3][0]) > 0


@pytest.mark.parametrize("optimizer", [AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
def test_nothing_at_all_moves_in_a_skipped_step(optimizer):
    """Neither averaged weights, nor routing biases, nor what the optimizers remember."""
    seen = []

    def everything(one):
        moments = {name: value for each in one.optimizers for name, value in each.tensors().items()}
        average = {f"average.{name}": value for name, value in one.ema.average.items()}
        return {k: v.detach().clone() for k, v in (weights(one) | moments | average).items()}

    def sometimes_bad(model, batch):
        loss = next_token(model, batch)
        return Loss(loss.total * float("nan"), loss.metrics) if len(seen) == 2 else loss

    model = small_model("deepseek-moe", num_experts=4, num_experts_per_tok=1)
    found = trainer(
        settings(max_steps=4, ema_decay=0.5, optimizer=optimizer), model=model, objective=sometimes_bad
    )
    found.run([lambda one: seen.append(everything(one))])
    assert any(name.endswith("router.bias") and value.any() for name, value in seen[1].items())
    assert all(torch.equal(value, seen[2][name]) for name, value in seen[1].items())
    assert largest_difference(seen[2], seen[3]) > 0


def test_training_repeats_bit_for_bit_with_dropout():
    runs = [trainer(settings(), model=small_model(dropout=0.2)) for _ in range(2)]
    for one in runs:
        one.run()
    assert largest_difference(weights(runs[0]), weights(runs[1])) == 0
    other = trainer(settings(seed=5), model=small_model(dropout=0.2))
    other.run()
    assert largest_difference(weights(runs[0]), weights(other)) > 0


def test_the_average_follows_its_formula_and_is_what_is_evaluated():
    found = trainer(settings(max_steps=3, ema_decay=0.9))
    history = [weights(found)]
    found.run([lambda one: history.append(weights(one))])
    name = next(name for name in history[0] if name.endswith("query.weight"))
    expected = history[0][name]
    for step, value in enumerate(history[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value[name]
    with found.evaluated_model() as model:
        assert not model.training
        assert torch.allclose(model.state_dict()[name], expected, atol=1e-7)
    assert torch.equal(found.model.state_dict()[name], history[-1][name])


def test_activation_checkpointing_gives_the_same_weights():
    plain, saving = trainer(settings(max_steps=2)), trainer(settings(max_steps=2))
    saving.model.checkpoint_blocks()
    plain.run(), saving.run()
    assert largest_difference(weights(plain), weights(saving)) <= 1e-7


def test_batches_are_made_in_the_loop_when_nothing_is_made_ahead():
    ahead, now = trainer(settings(max_steps=3)), trainer(settings(max_steps=3))
    now.prefetch = 0
    ahead.run(), now.run()
    assert largest_difference(weights(ahead), weights(now)) == 0


def test_compiling_gives_the_same_weights(monkeypatch):
    # Without code generation, which takes long: tracing and gradients are what can go wrong here.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plain, compiled = trainer(settings(max_steps=2)), trainer(settings(max_steps=2, torch_compile="on"))
    plain.run(), compiled.run()
    assert largest_difference(weights(plain), weights(compiled)) <= 2e-6


@pytest.mark.parametrize("family", ["qwen3", "deepseek-moe", "qwen3-moe", "clex"])
def test_two_processes_train_the_weights_of_one(family, tmp_path):
    here = Path(__file__).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(here / "ddp_worker.py"), str(tmp_path / "weights.safetensors"), family]
    processes = [subprocess.Popen(command, env=together | {"RANK": str(rank)}) for rank in range(2)]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    shared = load_file(tmp_path / "weights.safetensors")
    alone = trainer(settings(max_steps=4), model=small_model(family))
    alone.run()
    assert shared.pop("loss").item() == pytest.approx(alone.step_metrics["loss"].item(), rel=1e-5)
    assert shared.pop("tokens").item() == alone.tokens
    assert largest_difference(weights(alone), shared) <= 1e-5
