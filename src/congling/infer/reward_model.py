"""A trained reward model, asked for the reward of answers."""

# S sequences

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from congling.core.errors import UserError
from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import SequenceBatch, batched
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.tokenizer.chat.encode import Message, render
from congling.transform.scalar_head import load_head

ROWS = 32
"""Answers that are scored at once."""


def scored_at_its_end(example: Example, pad: int) -> Example:
    """The same text with one place that counts: the one where its last id has been read.

    ``pad`` is what stands as its target, and is never looked at.
    """
    ids = np.append(example.input_ids, np.int32(pad)).astype(np.int32)
    learnt = np.zeros(len(ids), bool)
    learnt[-1] = True
    return Example(ids, learnt, 0, example.id)


@dataclass(frozen=True)
class RewardModel:
    """A model with a scalar head, and the template it reads answers by."""

    loaded: Loaded

    @torch.no_grad()
    def __call__(self, talks: Sequence[Sequence[Message]]) -> list[float]:
        """Rewards (S,) of conversations that end with an answer; what lies beyond the context is not read."""
        found: list[float] = []
        for start in range(0, len(talks), ROWS):
            found += self._scored([self._example(talk) for talk in talks[start : start + ROWS]])
        return found

    def _scored(self, examples: Sequence[Example]) -> list[float]:
        model: Any = self.loaded.model  # with a scalar head, which its class does not know
        device = next(model.parameters()).device
        pad = self.loaded.tokenizer.pad_id
        batch = batched(SequenceBatch, examples, model.config.max_position_embeddings, pad)
        tokens, positions, documents = (
            None if value is None else torch.from_numpy(value).to(device)
            for value in (batch.tokens, batch.positions, batch.documents)
        )
        hidden = model(tokens, positions=positions, documents=documents)
        places = torch.from_numpy(batch.weights).to(device).bool()
        owner = torch.from_numpy(batch.owner).to(device)[places]
        values = model.scalar_head(hidden[places]).squeeze(-1).float()
        return torch.zeros(len(examples), device=device).index_copy(0, owner, values).tolist()

    def _example(self, talk: Sequence[Message]) -> Example:
        tokenizer, context = self.loaded.tokenizer, self.loaded.model.config.max_position_embeddings
        ids = np.array(render(tokenizer, talk).input_ids[:context], np.int32)
        return scored_at_its_end(Example(ids, np.ones(len(ids), bool), 0, ""), tokenizer.pad_id)


def load_reward_model(path: Path | str, device: torch.device | str | None = None) -> RewardModel:
    """Open a run of ``congling reward``.

    Raises:
        UserError: there is none, it is damaged, or it has no scalar head.
    """
    loaded = load_checkpoint(path, device)
    if Path(path).is_file():
        raise UserError(
            "a GGUF file holds no reward model", value=str(path), hint="name a run of `congling reward`"
        )
    load_head(loaded.model, loaded.checkpoint.path)
    loaded.model.eval()
    return RewardModel(loaded)
