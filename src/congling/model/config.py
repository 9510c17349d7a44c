"""What a model is made of: every part is chosen by a tagged union and counted exactly, without torch.

::

    ModelConfig
    ├── attention   heads, shared key/value heads (GQA), head width, QK-norm, biases, scale of the scores
    ├── mlp         gated (SwiGLU) │ plain (GELU) │ moe (routed + shared experts)
    ├── norm        rms │ layer
    ├── positions   rope (plain or stretched by ``rope_scaling.py``; in all blocks or some) │ alibi │ learned
    ├── initial     zero-output │ scaled-normal
    └── multipliers of the embedding, of what blocks add, and of the logits
"""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from congling.core.config import Config
from congling.model.mlp_config import MLP, DenseMLP, GatedMLPConfig, MoEConfig, hidden_channels
from congling.model.rope_scaling import ClexScaling, LongRopeScaling, RotaryScaling, depends_on_length


class RMSNormConfig(Config):
    """Root mean square normalisation with a learned scale (Zhang & Sennrich 2019)."""

    kind: Literal["rms"] = "rms"
    eps: PositiveFloat = 1e-6


class LayerNormConfig(Config):
    """Layer normalisation with learned scale and shift (Ba et al. 2016)."""

    kind: Literal["layer"] = "layer"
    eps: PositiveFloat = 1e-5


class RotaryConfig(Config):
    """Rotary positions (Su et al. 2021), half-split as in Llama: channel ``i`` turns with ``i + D/2``.

    Where a part of each head turns, it is the first pairs, so that only frequencies differ: the others are 0.
    """

    kind: Literal["rope"] = "rope"
    rope_theta: PositiveFloat = 10_000.0
    rope_scaling: RotaryScaling | None = None
    no_rope_layers: tuple[Annotated[int, Field(ge=0, le=1)], ...] | None = None
    """One number a block: 1 where queries and keys are rotated, 0 where they are not and only the mask tells
    the order of tokens (NoPE, Kazemnejad et al. 2023; SmolLM3). ``None``: rotated everywhere."""
    rope_local_base_freq: PositiveFloat | None = None
    """Base, without scaling, in blocks that look through a window (Gemma 3); ``None``: as all others."""
    partial_rotary_factor: float = Field(default=1.0, gt=0, le=1)
    """Share of each head's channels that turns (GLM-4: 0.5)."""

    def rotary_dim(self, head_width: int) -> int:
        """How many channels of a head turn."""
        return round(head_width * self.partial_rotary_factor)


class AlibiConfig(Config):
    """Attention with linear biases (Press et al. 2022): scores fall with distance (Baichuan 13B)."""

    kind: Literal["alibi"] = "alibi"


class LearnedPositionsConfig(Config):
    """One learned vector a position, added to the token embedding (GPT-2)."""

    kind: Literal["learned"] = "learned"


class AttentionConfig(Config):
    """Causal self-attention in which ``num_attention_heads / num_key_value_heads`` query heads
    share one key/value head (GQA)."""

    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    """Channels of one head; ``num_attention_heads * head_dim`` need not equal ``hidden_size``."""
    qk_norm: bool = False
    """Normalise each head's queries and keys before they are rotated (Qwen3): bounds attention logits."""
    qk_norm_over: Literal["head", "projection"] = "head"
    """What ``qk_norm`` takes the mean over: each head by itself, or all heads together (OLMo 2)."""
    qk_norm_after_rope: bool = False
    """``qk_norm`` comes after the rotation (HunYuan)."""
    attention_multiplier: PositiveFloat | None = None
    """Factor on the products of queries and keys; ``None``: 1/√head_dim."""
    sliding_window: PositiveInt | None = None
    """Tokens that one sees in blocks of the type ``sliding_attention``, itself the last of them."""
    layer_types: tuple[Literal["full_attention", "sliding_attention"], ...] | None = None
    """One for each block; ``None``: with a window all slide."""
    attention_bias: bool = False
    """Add a learned vector to queries, keys, values and, by ``attention_output_bias``, the output."""
    attention_output_bias: bool | None = None
    """The same for the output projection alone (Qwen2 has none there); ``None``: as ``attention_bias``."""

    @model_validator(mode="after")
    def _groups_are_whole(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of num_key_value_heads "
                f"({self.num_key_value_heads})"
            )
        if self.qk_norm_after_rope and not self.qk_norm:
            raise ValueError("qk_norm_after_rope says where qk_norm is, which is off")
        if self.qk_norm_after_rope and self.qk_norm_over != "head":
            raise ValueError("qk_norm_after_rope needs qk_norm_over = head")
        return self

    @property
    def projection_sizes(self) -> tuple[int, int, int]:
        """Output channels of the query, key and value projection."""
        return (
            self.num_attention_heads * self.head_dim,
            self.num_key_value_heads * self.head_dim,
            self.num_key_value_heads * self.head_dim,
        )

    @property
    def qk_norm_widths(self) -> tuple[int, int]:
        """Channels that ``qk_norm`` takes the mean over, of queries and of keys."""
        return (
            self.projection_sizes[:2] if self.qk_norm_over == "projection" else (self.head_dim, self.head_dim)
        )

    @property
    def has_output_bias(self) -> bool:
        """Whether the output projection has a bias."""
        return self.attention_bias if self.attention_output_bias is None else self.attention_output_bias


class ZeroOutputConfig(Config):
    """Blocks start as the identity: output projections are zero, other matrices have std ``gain/√inputs``."""

    kind: Literal["zero-output"] = "zero-output"
    embedding_std: PositiveFloat = 0.02
    gain: PositiveFloat = 1.0


class ScaledNormalConfig(Config):
    """GPT-2: one std, divided by ``√(2 · layers)`` for the output projections."""

    kind: Literal["scaled-normal"] = "scaled-normal"
    initializer_range: PositiveFloat = 0.02


Norm = Annotated[RMSNormConfig | LayerNormConfig, Field(discriminator="kind")]
Positions = Annotated[RotaryConfig | AlibiConfig | LearnedPositionsConfig, Field(discriminator="kind")]
Initial = Annotated[ZeroOutputConfig | ScaledNormalConfig, Field(discriminator="kind")]


class ModelConfig(Config):
    """A decoder-only language model; ``families.py`` fills it in for the known families."""

    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt
    """Longest sequence in tokens."""
    num_hidden_layers: PositiveInt
    hidden_size: PositiveInt
    """Channels of the residual stream."""
    attention: AttentionConfig
    mlp: MLP
    norm: Norm = RMSNormConfig()
    positions: Positions = RotaryConfig()
    norm_placement: Literal["pre", "post", "sandwich"] = "pre"
    """Where a sublayer has its norm: on what it reads (pre), on what it adds to the residual stream (post;
    OLMo 2), or on both (sandwich; GLM-4, Gemma 3)."""
    initial: Initial = ZeroOutputConfig()
    tie_word_embeddings: bool = True
    """The output layer is the embedding matrix itself: saves ``vocab_size * hidden_size`` parameters."""
    embedding_multiplier: PositiveFloat = 1.0
    """Factor on the embedded tokens."""
    residual_multiplier: PositiveFloat = 1.0
    """Factor on what each sublayer adds to the residual stream."""
    logits_scaling: PositiveFloat = 1.0
    """What the logits are divided by."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """On the embedding and what each sublayer adds; inside attention it would forbid fast kernels."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.positions.kind == "rope" and self.attention.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.attention.head_dim}")
        if self.positions.kind == "rope":
            turned = self.positions.rotary_dim(self.attention.head_dim)
            if turned % 2 or not turned:
                raise ValueError(f"positions.partial_rotary_factor must turn pairs, not {turned} channels")
            _check_scaling(self.positions, turned)
        attention = self.attention
        if attention.layer_types is not None and len(attention.layer_types) != self.num_hidden_layers:
            raise ValueError(f"attention.layer_types needs one for each of {self.num_hidden_layers} layers")
        if attention.layer_types is not None and attention.sliding_window is None:
            raise ValueError("attention.layer_types needs sliding_window")
        if attention.sliding_window is not None and self.positions.kind != "rope":
            raise ValueError("attention.sliding_window needs rotary positions")
        if attention.sliding_window is not None and self.depends_on_length:
            raise ValueError("attention.sliding_window needs positions that do not depend on the length")
        if self.mlp.kind == "moe" and self.mlp.first_k_dense_replace > self.num_hidden_layers:
            raise ValueError(
                f"mlp.first_k_dense_replace ({self.mlp.first_k_dense_replace}) exceeds num_hidden_layers "
                f"({self.num_hidden_layers})"
            )
        if self.positions.kind == "rope" and self.positions.no_rope_layers is not None:
            if len(self.positions.no_rope_layers) != self.num_hidden_layers:
                raise ValueError(
                    f"positions.no_rope_layers needs one number for each of {self.num_hidden_layers} layers"
                )
        elif self.positions.kind != "rope" and self.attention.qk_norm_after_rope:
            raise ValueError("attention.qk_norm_after_rope needs rotary positions")
        return self

    @property
    def k_quant_safe(self) -> bool:
        """Whether every matrix row is a multiple of 256 values, as GGUF's k-quants need."""
        inputs = {
            self.hidden_size,
            self.attention.num_attention_heads * self.attention.head_dim,
            *self._hidden_widths(),
        }
        return all(size % 256 == 0 for size in inputs)

    def mlp_of(self, layer: int) -> DenseMLP | MoEConfig:
        """The MLP of one block: the first ``first_k_dense_replace`` of a mixture of experts are dense."""
        if (
            self.mlp.kind == "moe"
            and layer < self.mlp.first_k_dense_replace
            and self.mlp.intermediate_size is not None
        ):
            return GatedMLPConfig(intermediate_size=self.mlp.intermediate_size)
        return self.mlp

    def layer_type(self, layer: int) -> Literal["full_attention", "sliding_attention"]:
        """Whether a block sees the whole text or looks through the window."""
        if self.attention.layer_types is not None:
            return self.attention.layer_types[layer]
        return "full_attention" if self.attention.sliding_window is None else "sliding_attention"

    def rotated(self, layer: int) -> bool:
        """Whether a block rotates its queries and keys."""
        if self.positions.kind != "rope":
            return False
        return self.positions.no_rope_layers is None or self.positions.no_rope_layers[layer] == 1

    @property
    def depends_on_length(self) -> bool:
        """Whether frequencies of rotary positions depend on where the token stands that looks.

        Not within the trained length: a context that ends there has one set of them (CLEX keeps its curve).
        """
        scaling = self.positions.rope_scaling if self.positions.kind == "rope" else None
        further = self.max_position_embeddings > self.trained_length or isinstance(scaling, ClexScaling)
        return further and depends_on_length(scaling)

    @property
    def trained_length(self) -> int:
        """Tokens that the model read before its positions were stretched; else all that it reads."""
        scaling = self.positions.rope_scaling if self.positions.kind == "rope" else None
        return getattr(scaling, "original_max_position_embeddings", None) or self.max_position_embeddings

    @property
    def mlp_size(self) -> int:
        """Hidden channels of the MLP, or of one expert."""
        return hidden_channels(self.mlp)

    def _hidden_widths(self) -> set[int]:
        widths = {hidden_channels(self.mlp_of(layer)) for layer in range(self.num_hidden_layers)}
        if self.mlp.kind == "moe" and self.mlp.n_shared_experts:
            widths.add(self.mlp.n_shared_experts * self.mlp.moe_intermediate_size)
        return widths


def _check_scaling(positions: RotaryConfig, turned: int) -> None:
    """Refuse a scaling that does not fit the channels that turn."""
    scaling = positions.rope_scaling
    if scaling is None:
        return
    if scaling.rope_type in ("dynamic", "clex") and turned < 4:
        raise ValueError(f"positions.rope_scaling = {scaling.rope_type} needs two pairs that turn and more")
    if scaling.rope_type in ("yarn", "dynamic", "clex") and positions.rope_theta <= 1:
        raise ValueError(f"positions.rope_scaling = {scaling.rope_type} needs rope_theta greater than 1")
    if isinstance(scaling, LongRopeScaling) and len(scaling.long_factor) != turned // 2:
        found = len(scaling.long_factor)
        raise ValueError(f"positions.rope_scaling: long_factor has {found} values for {turned // 2} pairs")
