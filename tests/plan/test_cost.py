"""The cost model: exact where it counts, checked against autograd where it estimates."""

import pytest
import torch

from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.plan.cost import estimate, layer_activations, memory, optimizer_values
from congling.train.config import TrainConfig
from support.situations import HLM, LAPTOP, plan


def kept(family: str, layers: int, **options) -> float:
    """Values that autograd really keeps for one token."""
    config = FAMILIES[family](
        vocab_size=64, max_position_embeddings=32, num_hidden_layers=layers, hidden_size=128, **options
    )
    model = Transformer(config).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.zeros(4, 32, dtype=torch.long))
    return sum(sizes.values()) / 4 / (4 * 32)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("qwen3", {}),
        ("qwen3", {"dropout": 0.1}),
        ("qwen3", {"num_key_value_heads": 1}),
        ("llama", {}),
        ("gpt2", {}),
        ("gpt2", {"dropout": 0.1}),
        ("qwen3-moe", {}),
        ("deepseek-moe", {"first_k_dense_replace": 0}),
    ],
)
def test_activations_of_a_block_are_those_autograd_keeps(family, options):
    config = FAMILIES[family](
        vocab_size=64, max_position_embeddings=32, num_hidden_layers=2, hidden_size=128, **options
    )
    measured = (kept(family, 3, **options) - kept(family, 1, **options)) / 2
    assert layer_activations(config, 1) == pytest.approx(measured, rel=0.04)


def test_optimizer_state_is_counted_as_built():
    config = FAMILIES["qwen3"](vocab_size=64, max_position_embeddings=32, num_hidden_layers=2, hidden_size=64)
    adamw = TrainConfig(max_steps=1, max_length=32, optimizer={"kind": "adamw"})
    muon = TrainConfig(max_steps=1, max_length=32)
    assert optimizer_values(config, adamw) == 2 * parameters(config)
    assert parameters(config) < optimizer_values(config, muon) < 2 * parameters(config)


def test_memory_falls_with_checkpointing_and_rises_with_an_average():
    config = FAMILIES["qwen3"](
        vocab_size=512, max_position_embeddings=64, num_hidden_layers=8, hidden_size=128
    )
    base = TrainConfig(max_steps=1, max_length=64)
    checkpointed = memory(config, base.replace(gradient_checkpointing=True), gpu=False)
    assert checkpointed["activations"] < memory(config, base, gpu=False)["activations"] / 3
    assert memory(config, base.replace(ema_decay=0.99), gpu=False)["average of weights"] == 4 * parameters(
        config
    )


def test_a_measured_peak_is_what_is_planned():
    found = plan(HLM, "3m")
    more = found.cost.peak_memory + 3e8
    cost = estimate(found.model, found.train, HLM, LAPTOP, peak_memory=more)
    assert cost.peak_memory == pytest.approx(more)
    assert cost.memory["activations"] == found.cost.memory["activations"]
    assert (
        estimate(found.model, found.train, HLM, LAPTOP, peak_memory=1.0).peak_memory == found.cost.peak_memory
    )


def test_tokens_passes_and_time_hang_together():
    cost = plan(HLM, train__max_steps=500, train__per_device_train_batch_size=8).cost
    assert cost.tokens == 500 * cost.tokens_per_step
    assert cost.passes == pytest.approx(cost.tokens / HLM.tokens)
    assert cost.time["steps"] == pytest.approx(500 * cost.seconds_per_step)
    assert sum(cost.parameters.values()) == cost.total_parameters
