"""The same models in plain ``transformers``: shapes from our own configuration, training by its ``Trainer``.

Nothing here is tuned against the peer: ``use_cache`` is off, attention is SDPA and the optimizer fused
AdamW, which are its own defaults, and the data set is in memory already.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from congling.core.errors import UserError
from congling.model.config import ModelConfig


def build(config: ModelConfig) -> PreTrainedModel:
    """Make the ``transformers`` model of the same shapes; its number of parameters is the same.

    Raises:
        UserError: the configuration is none of GPT-2, Llama and Qwen3.
    """
    parts = (config.norm.kind, config.mlp.kind, config.positions.kind, config.attention.qk_norm)
    if parts == ("layer", "plain", "learned", False):
        return GPT2LMHeadModel(_gpt2(config))
    if parts == ("rms", "gated", "rope", True):
        return Qwen3ForCausalLM(Qwen3Config(**_gated(config), head_dim=config.attention.head_dim))
    if parts == ("rms", "gated", "rope", False):
        return LlamaForCausalLM(LlamaConfig(**_gated(config), head_dim=config.attention.head_dim))
    raise UserError("there is no peer for this model", value=parts)


def _gpt2(config: ModelConfig) -> GPT2Config:
    return GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.max_position_embeddings,
        n_embd=config.hidden_size,
        n_layer=config.num_hidden_layers,
        n_head=config.attention.num_attention_heads,
        n_inner=getattr(config.mlp, "intermediate_size", None),
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        tie_word_embeddings=config.tie_word_embeddings,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )


def _gated(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.attention.num_attention_heads,
        "num_key_value_heads": config.attention.num_key_value_heads,
        "intermediate_size": getattr(config.mlp, "intermediate_size", None),
        "tie_word_embeddings": config.tie_word_embeddings,
        "rms_norm_eps": config.norm.eps,
        "use_cache": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
    }


class Rows(torch.utils.data.Dataset):
    """Token ids as rows of ``context`` inputs; the model shifts the labels itself."""

    def __init__(self, tokens: np.ndarray, context: int) -> None:
        whole = len(tokens) // context * context
        self.rows = torch.from_numpy(np.asarray(tokens[:whole], np.int64)).view(-1, context)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def train(
    model: PreTrainedModel,
    rows: Rows,
    *,
    batch: int,
    callbacks: Sequence[TrainerCallback],
    optimizers: Any = (None, None),
    **arguments: Any,
) -> None:
    """Train with the ``Trainer``; ``arguments`` are those of ``TrainingArguments`` beyond its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **arguments,
        )
        trainer = Trainer(
            model, settings, train_dataset=rows, callbacks=list(callbacks), optimizers=optimizers
        )
        trainer.train()
