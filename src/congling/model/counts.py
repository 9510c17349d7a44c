"""What a model costs, counted exactly from its configuration: parameters, FLOPs, the cache; without torch."""

from congling.model.config import AttentionConfig, ModelConfig
from congling.model.mlp_config import MoEConfig
from congling.model.rope_scaling import ClexScaling


def parameter_table(config: ModelConfig) -> dict[str, int]:
    """Parameters by part; the values add up to the model's size exactly.

    ``head`` is 0 with tied embeddings, ``positions`` is 0 unless something of them is learned.
    """
    layers = range(config.num_hidden_layers)
    norm = config.hidden_size * (2 if config.norm.kind == "layer" else 1)
    a_block = (4 if config.norm_placement == "sandwich" else 2) * norm
    if config.attention.qk_norm:
        a_block += sum(config.attention.qk_norm_widths) * (2 if config.norm.kind == "layer" else 1)
    return {
        "embedding": config.vocab_size * config.hidden_size,
        "positions": _position_parameters(config),
        "attention": config.num_hidden_layers * _attention_parameters(config.attention, config.hidden_size),
        "mlp": sum(_mlp_parameters(config, layer, all_experts=True) for layer in layers),
        "norms": norm + config.num_hidden_layers * a_block,
        "head": 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size,
    }


def parameters(config: ModelConfig) -> int:
    """Number of trained values."""
    return sum(parameter_table(config).values())


def active_parameters(config: ModelConfig) -> int:
    """Parameters one token uses: all of them, less the routed experts it is not sent to."""
    idle = sum(
        _mlp_parameters(config, layer, all_experts=True) - _mlp_parameters(config, layer, all_experts=False)
        for layer in range(config.num_hidden_layers)
    )
    return parameters(config) - idle


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the linear layers of the blocks by the name of their module, experts one by one;
    routers, which are never put in fewer bits, are none of them."""
    queries, keys, values = config.attention.projection_sizes
    width, found = config.hidden_size, dict[str, tuple[int, int]]()
    for layer in range(config.num_hidden_layers):
        attention, mlp = f"blocks.{layer}.attention", f"blocks.{layer}.mlp"
        found |= {f"{attention}.query": (queries, width), f"{attention}.key": (keys, width)}
        found |= {f"{attention}.value": (values, width), f"{attention}.output": (width, queries)}
        match config.mlp_of(layer):
            case MoEConfig() as mixture:
                hidden = mixture.moe_intermediate_size
                for expert in range(mixture.num_experts):
                    found |= _gated(f"{mlp}.experts", width, hidden, f".{expert}")
                if mixture.n_shared_experts:
                    found |= _gated(f"{mlp}.shared", width, mixture.n_shared_experts * hidden)
            case dense if dense.kind == "gated":
                found |= _gated(mlp, width, dense.intermediate_size)
            case dense:
                found |= {f"{mlp}.up": (dense.intermediate_size, width)}
                found |= {f"{mlp}.down": (width, dense.intermediate_size)}
    return found


def _gated(place: str, width: int, hidden: int, expert: str = "") -> dict[str, tuple[int, int]]:
    shapes = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
    return {f"{place}.{name}{expert}": shape for name, shape in shapes.items()}


def flops_per_token(config: ModelConfig, context: int | None = None) -> int:
    """Floating-point operations of training on one token, forward and backward.

    The convention of PaLM (Chowdhery et al. 2022, appendix B), so that utilisations compare with published
    ones: 6 for each parameter in a matrix multiplication (the output layer counts even when tied; looking up
    an embedding and idle experts do not), plus ``12 · layers · heads · head_dim · context`` for attention,
    without a discount for the causal half that kernels may skip.
    """
    attention = config.attention
    in_products = config.vocab_size * config.hidden_size
    in_products += config.num_hidden_layers * _attention_parameters(attention, config.hidden_size)
    in_products += sum(
        _mlp_parameters(config, layer, all_experts=False) for layer in range(config.num_hidden_layers)
    )
    return 6 * in_products + attention_flops_per_token(config, context or config.max_position_embeddings)


def attention_flops_per_token(config: ModelConfig, context: int) -> int:
    """The part of these that grows with the context: ``12 · layers · heads · head_dim · context``."""
    attention = config.attention
    return 12 * config.num_hidden_layers * attention.num_attention_heads * attention.head_dim * context


def attention_share(config: ModelConfig, context: int) -> float:
    """That part as a share of all operations at this context."""
    return attention_flops_per_token(config, context) / flops_per_token(config, context)


def kv_cache_bytes(config: ModelConfig, tokens: int, *, bytes_per_value: int = 4) -> int:
    """Memory of the keys and values of ``tokens`` tokens (rows times length)."""
    values = 2 * config.num_hidden_layers * config.attention.num_key_value_heads * config.attention.head_dim
    return values * tokens * bytes_per_value


def _position_parameters(config: ModelConfig) -> int:
    if config.positions.kind == "learned":
        return config.max_position_embeddings * config.hidden_size
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if not isinstance(scaling, ClexScaling) or config.positions.kind != "rope":
        return 0
    turned = config.positions.rotary_dim(config.attention.head_dim)
    return 2 * scaling.hidden(turned) * (turned // 2)


def _attention_parameters(attention: AttentionConfig, width: int) -> int:
    queries, keys, values = attention.projection_sizes
    biases = (queries + keys + values) * attention.attention_bias + width * attention.has_output_bias
    return (queries + keys + values) * width + queries * width + biases


def _mlp_parameters(config: ModelConfig, layer: int, *, all_experts: bool) -> int:
    mlp, width = config.mlp_of(layer), config.hidden_size
    if isinstance(mlp, MoEConfig):
        used = (mlp.num_experts if all_experts else mlp.num_experts_per_tok) + mlp.n_shared_experts
        return (
            mlp.num_experts * width + used * 3 * width * mlp.moe_intermediate_size
        )  # the router scores every expert
    if mlp.kind == "plain":
        return 2 * width * mlp.intermediate_size + mlp.intermediate_size + width
    return 3 * width * mlp.intermediate_size + (2 * mlp.intermediate_size + width) * mlp.mlp_bias
