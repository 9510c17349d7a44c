"""The cost model: exact where it counts, checked against autograd where it estimates."""

import pytest
import torch

from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.plan.activations import layer_activations, shared_angles, turned_activations, turned_keys
from congling.plan.cost import estimate, memory, optimizer_values
from congling.train.config import TrainConfig
from support.situations import HLM, LAPTOP, plan


def kept(config: ModelConfig, rows: int = 4) -> float:
    """Values that autograd really keeps for one token."""
    model = Transformer(config).train()
    tokens = config.max_position_embeddings
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
        model(torch.zeros(rows, tokens, dtype=torch.long))
    return sum(sizes.values()) / 4 / (rows * tokens)


def kept_by_a_block(family: str, rows: int = 4, tokens: int = 32, scaling: object = None, **options) -> float:
    """The same for one block."""

    def with_layers(layers: int) -> float:
        config = FAMILIES[family](
            vocab_size=64,
            max_position_embeddings=tokens,
            num_hidden_layers=layers,
            hidden_size=128,
            **options,
        )
        if scaling is not None:
            config = config.replace(positions={"rope_scaling": scaling})
        return kept(config, rows)

    return (with_layers(3) - with_layers(1)) / 2


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
    assert layer_activations(config, 1) == pytest.approx(kept_by_a_block(family, **options), rel=0.04)


LENGTH_KINDS = {
    "dynamic": {"rope_type": "dynamic", "factor": 8.0, "original_max_position_embeddings": 8},
    "longrope": {
        "rope_type": "longrope",
        "factor": 8.0,
        "original_max_position_embeddings": 8,
        "short_factor": [1.0] * 16,
        "long_factor": [2.0] * 16,
    },
    "clex": {"rope_type": "clex", "max_factor": 8, "original_max_position_embeddings": 8},
}


@pytest.mark.parametrize("kind", LENGTH_KINDS)
@pytest.mark.parametrize(
    ("family", "rows", "tokens", "options"),
    [
        ("qwen3", 4, 32, {}),
        ("qwen3", 1, 64, {}),
        ("llama", 4, 64, {}),
        ("qwen3", 2, 48, {"num_key_value_heads": 1}),
        ("qwen3", 1, 96, {}),
    ],
)
def test_keys_that_are_turned_again_are_counted_as_autograd_keeps_them(kind, family, rows, tokens, options):
    config = FAMILIES[family](
        vocab_size=64, max_position_embeddings=tokens, num_hidden_layers=1, hidden_size=128, **options
    ).replace(positions={"rope_scaling": LENGTH_KINDS[kind]})
    measured = kept_by_a_block(family, rows, tokens, LENGTH_KINDS[kind], **options)
    counted = layer_activations(config, 0) + turned_activations(config, tokens, rows)
    assert counted == pytest.approx(measured, rel=0.06)
    assert counted > 1.05 * layer_activations(config, 0)


@pytest.mark.parametrize("kind", LENGTH_KINDS)
def test_angles_that_blocks_share_are_counted_once(kind):
    def built(scaling: object) -> ModelConfig:
        config = FAMILIES["llama"](
            vocab_size=64, max_position_embeddings=64, num_hidden_layers=1, hidden_size=128
        )
        return config.replace(positions={"rope_scaling": scaling})

    config = built(LENGTH_KINDS[kind])
    counted = turned_activations(config, 64, 1) + shared_angles(config, 64, 1)
    assert counted == pytest.approx(kept(config, 1) - kept(built(None), 1), rel=0.1)


def test_how_many_keys_are_turned_for_a_token():
    def times(kind: str, tokens: int, reach: int | None = None) -> float:
        config = FAMILIES["qwen3"](
            vocab_size=64, max_position_embeddings=64, num_hidden_layers=1, hidden_size=128
        )
        scaling = LENGTH_KINDS[kind] | ({"max_factor": 4} if kind == "clex" else {})
        return turned_keys(config.replace(positions={"rope_scaling": scaling}), tokens, reach) * tokens

    assert times("dynamic", 8) == 8 and times("dynamic", 10) == 8 + 9 + 10
    assert times("longrope", 20) == 8 + 20
    assert times("clex", 8, 32) == 2 + 4 + 6 + 8 and times("longrope", 8, 64) == 1 + 8  # drawn positions
    assert times("clex", 20) == 8 + 16 + 20 and times("clex", 60) == 8 + 16 + 24 + 60


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
