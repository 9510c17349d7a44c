"""Parts that do nothing are found by either score, and leave the logits as they were."""

import pytest
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.model.mlp_config import MoEConfig
from congling.model.transformer import Transformer
from congling.transform.prune import prune
from congling.transform.prune_scores import Scores, activation, magnitude
from congling.transform.prune_sizes import Sizes, sizes_of

VOCABULARY, CONTEXT = 41, 16
SHAPE = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
TOKENS = torch.randint(0, VOCABULARY, (3, CONTEXT), generator=torch.Generator().manual_seed(0))
WRITERS = ("attention.output", "mlp.down", "mlp.experts.down", "mlp.shared.down")
MIXTURES = ("qwen3-moe", "mixtral", "deepseek-moe", "deepseek-moe-v1")
CASES = [
    *(
        (family, axis)
        for family in FAMILIES
        for axis in ("num_hidden_layers", "intermediate_size", "hidden_size")
    ),
    *(
        (family, "num_attention_heads")
        for family in FAMILIES
        if family not in ("baichuan", "mistral", "mixtral", "olmo2")
    ),
    *((family, "num_experts") for family in MIXTURES),
]


def model_of(family: str) -> Transformer:
    shape = dict(SHAPE)
    if family in MIXTURES and family != "mixtral":
        shape["moe_intermediate_size"] = shape.pop("intermediate_size")
    if family == "deepseek-moe-v1":
        # All others are used: one never chosen by chance would be missed, as shares are not renormalised.
        shape |= {"num_experts": 6, "num_experts_per_tok": 5}
    model = Transformer(FAMILIES[family](**shape))  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=draw)
        tensor.copy_(1 + 0.1 * noise if "norm" in name and name.endswith("weight") else 0.2 * noise)
    return model.eval()


def switch_off(model: Transformer, axis: str) -> Sizes:
    """Let a part of an axis do nothing, another part in each layer; what is then to remain."""
    config, weights = model.config, model.state_dict()
    if axis == "hidden_size":
        _silence_channels(weights, [3, 10, 20, 31])
        return Sizes(hidden_size=config.hidden_size - 4)
    for layer in range(config.num_hidden_layers):
        block = {
            name.removeprefix(f"blocks.{layer}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"blocks.{layer}.")
        }
        if axis == "num_hidden_layers" and layer == 1:
            for name in filter(lambda name: name.startswith(WRITERS), block):
                block[name].zero_()
        elif axis == "num_attention_heads":
            columns = (
                config.attention.num_attention_heads
                // config.attention.num_key_value_heads
                * config.attention.head_dim
            )
            start = layer % config.attention.num_key_value_heads * columns
            block["attention.output.weight"][:, start : start + columns] = 0
        elif axis == "intermediate_size":
            _silence_hidden(block, layer)
        elif axis == "num_experts" and "mlp.router.weight" in block:
            _never_choose(weights, block, layer)
    now = sizes_of(config)
    left = {"num_hidden_layers": 2, "intermediate_size": 18, "num_experts": now.get("num_experts", 2) - 1}
    heads = now["num_attention_heads"]
    left["num_attention_heads"] = heads - heads // config.attention.num_key_value_heads
    return Sizes(**{axis: left[axis]})


def _silence_hidden(block: dict[str, Tensor], layer: int) -> None:
    for name, tensor in block.items():
        if name in ("mlp.down.weight", "mlp.shared.down.weight"):
            tensor[:, layer::4] = 0
        if name == "mlp.experts.down":
            for expert, matrix in enumerate(tensor):
                matrix[:, (layer + expert) % 4 :: 4] = 0


def _silence_channels(weights: dict[str, Tensor], silent: list[int]) -> None:
    """Nothing writes to some channels of the stream, whose mean is zero (which layer norm would subtract)."""
    others = [channel for channel in range(SHAPE["hidden_size"]) if channel not in silent]
    for name, tensor in weights.items():
        if name in ("embedding.weight", "positions.weight"):
            tensor[:, silent] = 0
            tensor[:, others] -= tensor[:, others].mean(1, keepdim=True)
        elif any(writer in name for writer in WRITERS):
            place = (slice(None), silent) if tensor.ndim == 3 else (silent,)
            tensor[place] = 0
            rest = (slice(None), others) if tensor.ndim == 3 else (others,)
            tensor[rest] -= tensor[rest].mean(len(rest) - 1, keepdim=True)
        elif name.endswith(("attention_norm.bias", "mlp_norm.bias")) or name == "norm.bias":
            tensor[silent] = 0


def _never_choose(weights: dict[str, Tensor], block: dict[str, Tensor], expert: int) -> None:
    """The first channel of the stream is always positive, and speaks against this expert."""
    weights["embedding.weight"][:, 0] = 3
    for name, tensor in weights.items():
        if any(writer in name for writer in WRITERS):
            tensor[(slice(None), 0) if tensor.ndim == 3 else (0,)] = 0
    block["mlp.experts.down"][expert] = 0
    block["mlp.router.weight"][:, 0] = 0
    block["mlp.router.weight"][expert] = 0
    block["mlp.router.weight"][expert, 0] = -100
    if "mlp.router.bias" in block:
        block["mlp.router.bias"][expert] = -10


def scored(model: Transformer, score: str) -> Scores:
    return magnitude(model) if score == "magnitude" else activation(model, TOKENS.split(2))


def rebuilt(config: ModelConfig, weights: dict[str, Tensor]) -> Transformer:
    model = Transformer(config)
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def logits(model: Transformer) -> Tensor:
    return model.logits(model(TOKENS))


@pytest.mark.parametrize("score", ["magnitude", "activation"])
@pytest.mark.parametrize(("family", "axis"), CASES)
def test_what_does_nothing_is_left_out_and_nothing_changes(family: str, axis: str, score: str):
    model = model_of(family)
    sizes = switch_off(model, axis)
    before = logits(model)
    config, weights, _ = prune(model.config, model.state_dict(), scored(model, score), sizes)
    pruned = rebuilt(config, weights)
    assert sizes_of(config) == sizes_of(model.config) | sizes.asked() | (
        {"num_attention_heads": config.attention.num_attention_heads} if axis == "num_attention_heads" else {}
    )
    assert parameters(config) < parameters(model.config)
    assert (logits(pruned) - before).abs().max() <= 1e-5 * max(1.0, float(before.abs().max()))


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "deepseek-moe"])
def test_all_axes_at_once_make_a_model_that_still_reads(family: str):
    model = model_of(family)
    heads = 4 - 4 // model.config.attention.num_key_value_heads
    asked = {"num_hidden_layers": 2, "intermediate_size": 16, "num_attention_heads": heads, "hidden_size": 20}
    if isinstance(model.config.mlp, MoEConfig):
        asked["num_experts"] = 5
    result = prune(model.config, model.state_dict(), scored(model, "activation"), Sizes(**asked))
    assert sizes_of(result[0]) == asked
    assert logits(rebuilt(*result[:2])).isfinite().all()
    assert len(result[2].layers) == 2 and result[2].layers == sorted(result[2].layers)


def test_a_dense_first_block_that_goes_is_no_longer_counted():
    model = model_of("deepseek-moe")
    scores = scored(model, "magnitude")
    scores.layers[0] = 0
    config, weights, kept = prune(model.config, model.state_dict(), scores, Sizes(num_hidden_layers=2))
    assert (
        kept.layers == [1, 2] and isinstance(config.mlp, MoEConfig) and config.mlp.first_k_dense_replace == 0
    )
    rebuilt(config, weights)


@pytest.mark.parametrize(("rotated", "remain"), [((1, 0, 1), (1, 1)), ((1, 1, 0), (1, 0))])
def test_a_block_that_rotates_nothing_goes_or_stays_with_its_setting(
    rotated: tuple[int, ...], remain: tuple[int, ...]
):
    model = Transformer(model_of("llama").config.replace(positions={"no_rope_layers": rotated})).eval()
    model.load_state_dict(model_of("llama").state_dict())
    sizes = switch_off(model, "num_hidden_layers")
    config, weights, _ = prune(model.config, model.state_dict(), scored(model, "magnitude"), sizes)
    assert config.positions.kind == "rope" and config.positions.no_rope_layers == remain
    torch.testing.assert_close(logits(rebuilt(config, weights)), logits(model), atol=1e-5, rtol=1e-4)


def test_activation_tells_apart_what_magnitude_cannot():
    """A channel whose weights are large but which the text never switches on."""
    model = model_of("gpt2")
    weights = model.state_dict()
    weights["blocks.0.mlp.up.bias"][5] = -1000  # GELU gives 0
    weights["blocks.0.mlp.down.weight"][:, 5] = 9
    scores = {score: scored(model, score).hidden[0] for score in ("magnitude", "activation")}
    assert scores["activation"].argmin() == 5 and scores["magnitude"].argmax() == 5


@pytest.mark.parametrize(
    ("family", "asked", "message"),
    [
        ("qwen3", {}, "nothing to prune"),
        ("qwen3", {"hidden_size": 33}, "smaller than that: '33 of 32'"),
        ("qwen3", {"num_attention_heads": 3}, "whole groups"),
        ("qwen3", {"num_experts": 2}, "has no experts"),
        ("qwen3-moe", {"num_experts": 1}, "more experts than would remain"),
        ("baichuan", {"num_attention_heads": 2}, "slopes of ALiBi"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(family: str, asked: dict[str, int], message: str):
    model = model_of(family)
    with pytest.raises(UserError, match=message):
        prune(model.config, model.state_dict(), scored(model, "magnitude"), Sizes(**asked))


def test_magnitude_of_a_group_pairs_each_value_with_what_reads_it():
    model = model_of("qwen3")
    weights, width = model.state_dict(), model.config.attention.head_dim
    weights["blocks.0.attention.value.weight"][width : width + width // 2] = 0
    for head in (2, 3):  # the heads of the second group read only what is zero
        weights["blocks.0.attention.output.weight"][:, head * width + width // 2 : (head + 1) * width] = 0
    first, second = magnitude(model).groups[0].tolist()
    assert first > 0 and second == 0
