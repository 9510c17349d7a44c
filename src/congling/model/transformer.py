"""READ ME FIRST: the whole language model. Tokens go in, hidden states come out, ``logits`` scores the next
token.

::

    tokens ─embedding─(+ positions)─┬──────────────┬─ … blocks … ─norm─ hidden ─output weight─ logits
                                    └norm─attention┴+┬──────┐
                                                     └norm─mlp┴+

Each part is chosen once, when the model is built, by the tagged unions of ``config.py``; a forward pass never
asks what kind of model it is in. A residual stream of ``width`` channels runs through: blocks read it
normalised and add to it.
"""

# B batch, T time, W width, V vocabulary

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from congling.model.attention import Attention, LengthAttention, causal_context
from congling.model.build_positions import build_positions
from congling.model.cache import KVCache, LayerCache
from congling.model.config import ModelConfig
from congling.model.embedding import TokenEmbedding
from congling.model.initial import initialise
from congling.model.mlp import build_mlp
from congling.model.moe import MixtureOfExperts, Total
from congling.model.multiplier import build_multiplier
from congling.model.norm import build_norm
from congling.model.positions import AttentionContext
from congling.model.sliding import build_sliding
from congling.model.varlen import text_lengths


class Block(nn.Module):
    """Attention, then an MLP; what they read, what they add to the residual stream, or both is normalised."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        mlp = config.mlp_of(layer)
        before, after = config.norm_placement != "post", config.norm_placement != "pre"
        self.attention_norm = build_norm(config.norm, config.hidden_size) if before else nn.Identity()
        turned_on_use = config.depends_on_length and config.rotated(layer)
        self.attention = (LengthAttention if turned_on_use else Attention)(config, layer)
        self.post_attention_norm = build_norm(config.norm, config.hidden_size) if after else nn.Identity()
        self.mlp_norm = build_norm(config.norm, config.hidden_size) if before else nn.Identity()
        self.mlp = (
            MixtureOfExperts(mlp, config.hidden_size)
            if mlp.kind == "moe"
            else build_mlp(mlp, config.hidden_size)
        )
        self.post_mlp_norm = build_norm(config.norm, config.hidden_size) if after else nn.Identity()
        self.scale = build_multiplier(config.residual_multiplier)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        mixed = self.post_attention_norm(self.attention(self.attention_norm(x), context, cache))
        x = x + self.dropout(self.scale(mixed))
        return x + self.dropout(self.scale(self.post_mlp_norm(self.mlp(self.mlp_norm(x)))))


class Transformer(nn.Module):
    """A decoder-only language model built from its configuration, with weights drawn for seed 0.

    Attributes:
        config: what it was built from.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.embedding_scale = build_multiplier(config.embedding_multiplier)
        self.positions = build_positions(config)
        self.sliding = build_sliding(config)
        self.layer_types = [config.layer_type(layer) for layer in range(config.num_hidden_layers)]
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = build_norm(config.norm, config.hidden_size)
        # On the hidden states: so every product with the output matrix, in a loss too, is scaled.
        self.hidden_scale = build_multiplier(1 / config.logits_scaling)
        # Tied: there is no second matrix, so neither a checkpoint nor an optimizer can hold it twice.
        self.head = (
            None
            if config.tie_word_embeddings
            else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        )
        self.recompute = False  # set by `checkpoint_blocks`
        self.varlen = True  # unset where blocks are compiled: every batch would be a shape of its own
        self.initialise(0)

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
        states: list[Tensor] | None = None,
    ) -> Tensor:
        """Hidden states after the last normalisation: tokens (B, T) -> (B, T, W).

        Args:
            tokens: ids, at most ``config.max_position_embeddings`` a row.
            positions: (B, T), where each token stands in its text; by default 0, 1, 2 … or on from the cache.
            documents: (B, T), a number for each text packed into a row; attention stays inside a text.
            cache: what was read before; these tokens are appended to it. Excludes ``documents``.
            states: gets what every block puts out, (B, T, W) each.
        """
        x, contexts = self.begin(tokens, positions=positions, documents=documents, cache=cache)
        for i, block in enumerate(self.blocks):
            memory, seen = None if cache is None else cache.layers[i], contexts[i]
            if self.recompute:
                x = checkpoint(block, x, seen, memory, use_reentrant=False)
            else:
                x = block(x, seen, memory)
            if states is not None:
                states.append(x)
        return self.hidden_scale(self.norm(x))

    def begin(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> tuple[Tensor, list[AttentionContext]]:
        """What the first block reads, (B, T, W), and what each block's attention sees; see ``forward``."""
        time = tokens.shape[1]
        place = positions
        if place is None:
            place = slice(0, time) if cache is None else cache.positions(time)
        apart = None
        if documents is not None and self.varlen and not self.config.depends_on_length:
            apart = text_lengths(
                documents, self.config.attention.num_attention_heads * self.config.attention.head_dim
            )
        before = 0 if cache is None else cache.length
        context = self.positions.context(causal_context(tokens, documents, cache, apart), place, time, before)
        x = self.embedding_scale(self.embedding(tokens))
        x = self.dropout(self.positions.add(x, place))
        contexts = {
            "full_attention": context,
            "sliding_attention": self.sliding(context, place, time, before),
        }
        return x, [contexts[kind] for kind in self.layer_types]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token: (..., W) -> (..., V)."""
        return self.embedding.logits(hidden) if self.head is None else self.head(hidden)

    def output_layer(self) -> nn.Module:
        """The layer behind ``logits``: the head, or the embedding in a tied model."""
        return self.embedding if self.head is None else self.head

    def initialise(self, seed: int) -> None:
        """Draw all weights anew by ``config.initial``; a seed gives the same weights on every device."""
        initialise(self, seed)

    def checkpoint_blocks(self, on: bool = True) -> None:
        """Keep only each block's input and compute the rest again backward: less memory, ~1/3 slower."""
        self.recompute = on

    def balance_loss(self, uncounted: Tensor | None = None) -> Tensor:
        """Load-balancing loss of the last forward pass, a mean over its tokens; 0 for a dense model.

        Every objective calls it once for each forward pass that is learnt from, and adds it times its count
        of targets to the summed loss: routers count their load here, so that passes which only measure (a
        reference, a sample) do not move them.

        Args:
            uncounted: (B, T), true where a token is no text to balance for, such as padding; by default none.
        """
        flat = None if uncounted is None else uncounted.flatten()
        losses = [mixture.balance_loss(flat) for mixture in self._mixtures()]
        return torch.stack(losses).sum() if losses else next(self.parameters()).new_zeros(())

    def update_balance(self, total: Total = lambda load: load, skip: Tensor | float = 0.0) -> None:
        """Move the routing biases of loss-free balancing; called once after each optimizer step.

        ``total`` sums the load of the experts over all processes, so that all move alike. After a step that
        was skipped ``skip`` is 1: its load is forgotten, and nothing moves.
        """
        for mixture in self._mixtures():
            mixture.update_balance(total, skip)

    def _mixtures(self) -> list[MixtureOfExperts]:
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]
