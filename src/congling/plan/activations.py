"""What autograd keeps of a block for the backward pass: counted part by part from the model's forward, and
checked against saved-tensor hooks."""

# T tokens of a row, L trained length, D head width, K key/value heads, H heads, B rows

from congling.model.config import ModelConfig
from congling.model.mlp_config import MLP
from congling.model.rope_scaling import SHARED_BANDS, ClexScaling, DynamicScaling, LongRopeScaling


def layer_activations(model: ModelConfig, layer: int) -> float:
    """Values autograd keeps for one token in one block, where all tokens see through the same frequencies."""
    queries, keys, values = model.attention.projection_sizes
    # The input and the output of each of the two norms, or four.
    stream = (8 if model.norm_placement == "sandwich" else 4) * model.hidden_size
    masks = 2 * model.hidden_size if model.dropout > 0 else 0
    attention = queries + keys + values + queries  # what the kernel reads, and the mixed values
    if model.attention.qk_norm:
        attention += queries + keys
    return stream + masks + attention + _mlp_activations(model.mlp_of(layer), model.hidden_size)


def _mlp_activations(mlp: MLP, width: int) -> float:
    if mlp.kind == "moe":
        return (
            mlp.num_experts_per_tok * (4 * mlp.moe_intermediate_size + 2 * width)
            + 4 * mlp.n_shared_experts * mlp.moe_intermediate_size
            + 2 * mlp.num_experts
        )
    return (4 if mlp.kind == "gated" else 2) * mlp.intermediate_size


def turned_keys(model: ModelConfig, tokens: int, reach: int | None = None) -> float:
    """How many keys are turned for one token of a row, in the mean: 1, or more where frequencies depend on
    the length, so that each band of tokens turns all the keys it sees (``model/length_positions.py``)::

        dynamic     one band within L, then every token is one      (L + (L+1) + … + T) / T
        longrope    one within L, one behind it                     (L + T) / T
        clex        one for each multiple of L                      (L + 2L + … + T) / T

    Where positions are drawn up to ``reach`` (``train.position_sampling``), a row goes through all of it.
    """
    scaling = model.positions.rope_scaling if model.positions.kind == "rope" else None
    trained = max(1, model.trained_length * tokens // max(tokens, reach or 0))
    if not model.depends_on_length or tokens <= trained:
        return 1.0
    match scaling:
        case DynamicScaling():
            ends = (tokens * (tokens + 1) - trained * (trained - 1)) / 2
        case LongRopeScaling():
            ends = trained + tokens
        case ClexScaling(max_factor=most):
            ends = tokens + sum(range(trained, min(tokens, most * trained), trained))
        case _:
            return 1.0
    return ends / tokens


def turned_activations(model: ModelConfig, tokens: int, rows: int, reach: int | None = None) -> float:
    """Values kept for one token in one block because keys are turned again: as they come out of it each time,
    and the angles, where they are too many to be shared by all blocks. The curve of CLEX learns, so there
    what is turned is kept as well."""
    times = turned_keys(model, tokens, reach)
    if times == 1:
        return 0.0
    queries, keys, _ = model.attention.projection_sizes
    assert model.positions.kind == "rope"
    if isinstance(model.positions.rope_scaling, ClexScaling):
        return 2 * times * keys + 3 * queries
    angles = 0.0 if _shared(model, tokens, reach) else 2 * model.attention.head_dim / rows
    return (times - 1) * (keys + angles) + queries + angles


def shared_angles(model: ModelConfig, tokens: int, rows: int, reach: int | None = None) -> float:
    """Values kept for one token, once for all blocks: cosines and sines of the keys that each band turns, and
    of CLEX the angles themselves."""
    times = turned_keys(model, tokens, reach)
    if times == 1 or not _shared(model, tokens, reach):
        return 0.0
    assert model.positions.kind == "rope"
    learnt = isinstance(model.positions.rope_scaling, ClexScaling)
    return (2.5 if learnt else 2) * times * model.attention.head_dim / rows


def _shared(model: ModelConfig, tokens: int, reach: int | None) -> bool:
    """Whether there are so few bands that their angles are computed once."""
    scaling = model.positions.rope_scaling if model.positions.kind == "rope" else None
    trained = max(1, model.trained_length * tokens // max(tokens, reach or 0))
    return not isinstance(scaling, DynamicScaling) or tokens - trained < SHARED_BANDS
