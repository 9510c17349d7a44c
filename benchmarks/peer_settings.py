"""How the other contenders for a held-out loss train.

::

    usual   characters, Qwen3 6 × 256, T=256, 8 rows; AdamW 5e-4, cosine, 5 % warm-up, weight decay 0.1: the
            flags of tutorials that train from scratch (TrainingArguments' own 5e-5 is a rate for fine-tuning)
    tuned   our tokenizer, our plan's shape, context and batch for the budget, beta2 0.95, rate from a sweep;
            compiled where the budget is long enough to pay for it, in bf16 where the processor has units
    plain   nanoGPT's recipe: characters, GPT-2 6 × 256, T=256, 8 rows, dropout 0.1, AdamW 1e-3 → 1e-4,
            compiled where the budget pays for it
"""

import math
from dataclasses import dataclass, field
from typing import Any

from congling.core.config import build
from congling.data.shards import Shards
from congling.model.config import ModelConfig
from congling.model.families import gpt2, qwen3
from congling.plan import planning
from congling.plan.corpus_facts import facts_of_shards, this_machine
from congling.plan.recipe import Recipe
from congling.train.calibrate import probe

COMPILE_PAYS_FROM = 600.0
TUNED_RATE = 3e-3
"""Peak rate of ``tuned`` unless another is given; see the sweep in ``docs/log/``."""


@dataclass
class Setting:
    """How one contender trains."""

    model: ModelConfig
    rows: int
    rate: float
    warmup: float
    """Share of the budget."""
    floor: float
    """Final rate as a share of the peak."""
    compile: bool
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of ``TrainingArguments``."""

    def factor(self, done: float) -> float:
        """Share of the peak rate when a share ``done`` of the budget has gone by."""
        if done < self.warmup:
            return max(1e-3, done / self.warmup)
        place = min(1.0, (done - self.warmup) / (1 - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * place))


def setting_for(
    contender: str, shards: Shards, budget: float, rate: float | None, compiled: bool | None
) -> Setting:
    """The flags of a contender, as described above."""
    vocab_size, pays = shards.vocab_size, budget >= COMPILE_PAYS_FROM
    if contender == "plain":
        model = gpt2(
            vocab_size=vocab_size,
            max_position_embeddings=256,
            num_hidden_layers=6,
            hidden_size=256,
            dropout=0.1,
        )
        return Setting(model, 8, rate or 1e-3, 0.02, 0.1, pays if compiled is None else compiled)
    if contender == "usual":
        model = qwen3(
            vocab_size=vocab_size, max_position_embeddings=256, num_hidden_layers=6, hidden_size=256
        )
        return Setting(model, 8, rate or 5e-4, 0.05, 0.0, bool(compiled))
    recipe = build(Recipe, {"data": {"sources": ["book"]}, "budget": budget})
    found = probe()
    plan = planning.make(recipe, facts_of_shards(shards), this_machine(found=found))
    rows, use = (
        plan.train.per_device_train_batch_size * plan.train.gradient_accumulation_steps,
        pays if compiled is None else compiled,
    )
    return Setting(
        plan.model,
        rows,
        rate or TUNED_RATE,
        0.02,
        0.0,
        use,
        {"adam_beta2": 0.95, "bf16": found.precision == "bf16"},
    )
