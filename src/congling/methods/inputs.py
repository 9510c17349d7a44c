"""What a run on shards learns from: shards, their tokenizer, and whether a model fits them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from congling.core.config import build, read_toml, with_overrides
from congling.core.errors import UserError
from congling.data.batches import CorpusBatches
from congling.data.openings import openings
from congling.data.position_sampling import PositionSampling
from congling.data.shards import Shards, open_shards
from congling.methods.base_model import OpenedBase
from congling.model.config import ModelConfig
from congling.plan.recipe import Recipe
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.token_parts import token_parts
from congling.train.config import TrainConfig

PROMPTS = 3
"""Openings of held-out documents that are continued in samples when the recipe names no prompts."""
R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Inputs:
    """Opened shards and the tokenizer they were made with."""

    shards: Shards
    tokenizer: Tokenizer
    tokenizer_path: Path


def open_inputs(shards: Path | str, tokenizer: Path | str) -> Inputs:
    """Open shards and tokenizer, checking that they belong together.

    Raises:
        UserError: one is missing or damaged, or they do not belong together.
    """
    opened = store.load(tokenizer)
    return Inputs(open_shards(shards, tokenizer=opened, verify=True), opened, Path(tokenizer))


def read_recipe(kind: type[R], path: Path | None, overrides: Sequence[str]) -> R:
    """Read a recipe for shards that exist already: its ``[data]`` says nothing any more, and may be left out.

    Raises:
        UserError: the recipe cannot be read or does not fit.
    """
    values = with_overrides({} if path is None else read_toml(path), overrides)
    values.setdefault("data", {"sources": ["shards"]})
    return build(kind, values, where=path or "command line")


def prompts(recipe: Recipe, inputs: Inputs) -> tuple[str, ...]:
    """What to continue in samples: the recipe's prompts, or how paragraphs of held-out documents begin."""
    return recipe.samples or openings(inputs.shards["validation"], inputs.tokenizer, documents=PROMPTS)


def require_same_tokenizer(model: OpenedBase, inputs: Inputs, role: str) -> None:
    """Compare the tokenizer of a model that takes part in a run with that of the shards.

    Raises:
        UserError: they differ, or the model is a GGUF file, whose tokenizer has no fingerprint.
    """
    if model.packed:
        raise UserError(
            f"a model in few bits cannot be the {role} here",
            where=model.path,
            hint="name the model it was made of; or write it in floats first: congling import",
        )
    if model.tokenizer.fingerprint != inputs.tokenizer.fingerprint:
        raise UserError(
            f"the {role} has another tokenizer than the shards",
            where=model.path,
            value=model.tokenizer.fingerprint[:12],
            hint=f"tokenize the documents with that of the {role}: {model.artifact.path / 'tokenizer'}",
        )
    if model.model.vocab_size != inputs.shards.vocab_size:
        raise UserError(
            f"the {role} has another vocabulary than the shards",
            where=model.path,
            value=(model.model.vocab_size, inputs.shards.vocab_size),
        )


def require_fit(model: ModelConfig, settings: TrainConfig, shards: Shards, teacher: int | None) -> None:
    """Compare model, rows and shards; ``teacher`` is the longest row that a teacher can read.

    Raises:
        UserError: they differ in vocabulary, or rows are longer than the model's or teacher's context.
    """
    if model.vocab_size != shards.vocab_size:
        raise UserError(
            "model and shards have different vocabularies", value=(model.vocab_size, shards.vocab_size)
        )
    if settings.max_length > model.max_position_embeddings:
        raise UserError(
            "train.max_length is longer than the model's context",
            value=settings.max_length,
            hint=f"at most {model.max_position_embeddings}; a trained model is made to read more by "
            f"congling extend --context {settings.max_length}",
        )
    if teacher is not None and settings.max_length > teacher:
        raise UserError(
            "train.max_length is longer than the teacher's",
            value=settings.max_length,
            hint=f"train.max_length={teacher}",
        )


def batches_of(
    inputs: Inputs, settings: TrainConfig, sampling: PositionSampling | None = None
) -> CorpusBatches:
    """Batches of the training part; ``sampling`` draws their positions."""
    return CorpusBatches(
        inputs.shards["train"],
        context=settings.max_length,
        rows=settings.per_device_train_batch_size,
        accumulation=settings.gradient_accumulation_steps,
        seed=settings.seed,
        document_mask=settings.document_mask,
        split_pieces=settings.token_split_prob,
        parts=token_parts(inputs.tokenizer) if settings.token_split_prob else None,
        noise=settings.token_noise_prob,
        sampling=sampling,
    )
