"""Samples during training: continuations of the same prompts at each step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from congling.core.seeds import mixed
from congling.infer.generate import Prompt, generate
from congling.infer.sampler import SamplingConfig
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer
from congling.train.config import TrainConfig


@dataclass(frozen=True)
class Samples:
    """Model to rows of ``prompt`` and ``text``, and a ``note`` where the context was too short.

    What is drawn follows from the run's seed, the step and the prompt: a resumed run writes the same, and no
    two texts are alike only because they were drawn with the same numbers.
    """

    tokenizer: Tokenizer
    prompts: Sequence[Prompt]
    shown: Sequence[str]
    """What stands before each text where it is read."""
    settings: TrainConfig
    temperature: float
    step: int = 0

    def at(self, step: int) -> "Samples":
        """The same at another step."""
        return replace(self, step=step)

    def __call__(self, model: Transformer) -> list[dict[str, str]]:
        """Let the model write."""
        seed = mixed(self.settings.seed, self.step)
        notes: list[list[str]] = [[] for _ in self.prompts]
        texts = generate(
            model,
            self.tokenizer,
            self.prompts,
            max_new_tokens=self.settings.sample_tokens,
            sampling=SamplingConfig(seed=seed, temperature=self.temperature),
            on_overflow=lambda found: notes[found.row].append(found.told()),
        )
        return [
            {"prompt": prompt, "text": text} | ({"note": "; ".join(note)} if note else {})
            for prompt, text, note in zip(self.shown, texts, notes, strict=True)
        ]
