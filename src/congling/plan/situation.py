"""What the checks of a plan look at, and what of it the recipe gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from congling.core.diagnosis import Diagnosis
from congling.interop.targets import Target
from congling.model.config import ModelConfig
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.cost import Cost
from congling.quant.config import TrainedConfig
from congling.train.config import TrainConfig

SIZES = (
    "preset",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "options",
)
"""Keys of ``[model]`` that make it larger or smaller."""
BATCH = ("train.max_length", "train.per_device_train_batch_size", "train.gradient_accumulation_steps")
"""Keys that say how much a step takes."""


@dataclass(frozen=True)
class Situation:
    """Everything a check may look at."""

    model: ModelConfig
    train: TrainConfig
    corpus: CorpusFacts
    machine: MachineFacts
    cost: Cost
    budget: float | None = None
    """Wall-clock seconds asked for, if any."""
    given: frozenset[str] = frozenset()
    """Dotted names of what the recipe gives; the plan chose everything else, and so nobody is told to change
    that. A model that is trained already gives ``model``."""
    spent: float = 0.0
    """Seconds of the budget that were used up before the plan."""
    fresh: bool = True
    """Whether training starts from random weights."""
    tokenizer_kind: str | None = None
    exports: tuple[Target, ...] = ()
    """Formats the model is to go to."""
    quantization: TrainedConfig | None = None
    """In which the blocks are trained, where they are trained in few bits."""
    trained_length: int | None = None
    """Tokens of the longest texts that a model whose context was extended was trained on."""

    def gives(self, *keys: str) -> bool:
        """Whether the recipe gives one of these keys, a table around one, or a key within one."""
        return any(
            one == key or key.startswith(f"{one}.") or one.startswith(f"{key}.")
            for key in keys
            for one in self.given
        )

    @property
    def sized(self) -> bool:
        """Whether the recipe gives a size of the model."""
        return self.gives(*(f"model.{name}" for name in SIZES))


Check = Callable[[Situation], Iterator[Diagnosis]]
