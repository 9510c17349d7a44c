"""The result of a run: its checkpoint, the model in it, and how much of that was trained; no torch."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from congling.core import pointers
from congling.core.config import upgraded
from congling.core.units import show_count
from congling.infer.reading import extension_after, lengths_in_words
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.report.origin import manifest_of
from congling.report.record import RunRecord, mapping, numeric

ADAPTER, ADAPTER_WEIGHTS, MODEL = "adapter.json", "adapter.safetensors", "model.json"
_LARGEST = 16_000_000  # bytes of a description; what is larger is none of ours


def checkpoint_of(run: RunRecord) -> Path | None:
    """The checkpoint that is the result; None where there is none."""
    return pointers.handed_on(run.path, say=lambda text: None)  # damaged pointers are named elsewhere


def description(file: Path) -> Mapping[str, Any]:
    """The table in a JSON file; an empty one where it cannot be read."""
    try:
        return mapping(json.loads(file.read_bytes()[:_LARGEST]))
    except (OSError, ValueError, RecursionError):
        return {}


def model_of(run: RunRecord) -> ModelConfig | None:
    """The whole model, of an adapter that of its base; None where the run does not tell."""
    checkpoint = checkpoint_of(run)
    tables = [mapping(run.plan.get("model")), mapping(run.config.get("model"))]
    if checkpoint is not None:
        tables.append(description(checkpoint / MODEL))
        tables.append(mapping(mapping(description(checkpoint / ADAPTER).get("base")).get("model")))
    for table in tables:
        if table:
            try:
                return ModelConfig.model_validate(upgraded(ModelConfig, table))
            except (TypeError, ValidationError):  # hand-edited, or of another version
                continue
    return None


def parameters_of(run: RunRecord) -> int | None:
    """Values of the whole model; None where the run does not tell."""
    for recorded in (mapping(run.plan.get("cost")).get("total_parameters"), run.plan.get("parameters")):
        if (known := numeric(recorded)) is not None:
            return int(known)
    model = model_of(run)
    return None if model is None else parameters(model)


def trained_of(run: RunRecord) -> int | None:
    """Values that were trained: those of the adapter where there is one, else all."""
    known = numeric(run.plan.get("trained"))
    if known is not None:
        return int(known)
    checkpoint = checkpoint_of(run)
    places = [run.path / "adapter", *([checkpoint] if checkpoint is not None else [])]
    adapter = next((place for place in places if (place / ADAPTER).is_file()), None)
    return parameters_of(run) if adapter is None else _values(adapter / ADAPTER_WEIGHTS)


def characters_a_token(run: RunRecord) -> float | None:
    """Characters of the text that was learnt from behind one token; None where that is not known."""
    corpus = mapping(run.plan.get("corpus"))
    characters, tokens = numeric(corpus.get("characters")), numeric(corpus.get("tokens"))
    return characters / tokens if characters and tokens else None


def extension_facts(run: RunRecord) -> Mapping[str, Any]:
    """What the result keeps of how the context was extended; without one, what is known of base and rows."""
    checkpoint = checkpoint_of(run)
    if checkpoint is not None:
        return mapping(manifest_of(checkpoint).get("facts"))
    rows = numeric(mapping(run.plan.get("train")).get("max_length"))
    return extension_after(mapping(run.plan.get("base")), int(rows or 0))


def lengths_of(run: RunRecord) -> str:
    """Both lengths of a model whose context was extended, in words; else nothing."""
    model = model_of(run)
    return "" if model is None else lengths_in_words(extension_facts(run), model)


def limit(model: ModelConfig | None, characters: float | None = None, lengths: str = "") -> str:
    """How much a model reads at once, and what programs make of that.

    Args:
        model: the model.
        characters: those of a token.
        lengths: what else is to be said of its context.
    """
    if model is None:
        return ""
    about = (
        f", about {show_count(model.max_position_embeddings * characters)} characters" if characters else ""
    )
    return (
        f"The model reads at most {model.max_position_embeddings:,} tokens at once{about}, prompt and "
        "answer together. "
        "llama.cpp, Ollama and other programs stop there; congling generate goes on, and forgets the start."
        + (f" Its context: {lengths}." if lengths else "")
    )


def _values(file: Path) -> int | None:
    """How many numbers a safetensors file holds, from its header alone."""
    try:
        with safe_open(file, framework="numpy") as stored:
            return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
