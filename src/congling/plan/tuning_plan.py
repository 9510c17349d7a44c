"""A look at a fine-tuning run before it starts: settings that follow from base and data, memory, and checks.

No torch: what is known of base and data comes as plain numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from congling.core.diagnosis import Diagnosis, worst_first
from congling.model.config import ModelConfig
from congling.plan.check_length import Lengths, check_lengths
from congling.plan.cost import memory
from congling.plan.text_lengths import UNKNOWN, TextLengths
from congling.train.config import AdamWConfig, TrainConfig
from congling.train.positions import longest_of

CONTEXT = 1024
"""Longest row where nobody asks for another: what is cut off beyond is counted."""
EPOCHS = 3.0
UPDATES = 50
"""Updates a pass over the rows should have at least, however few the rows are."""
MICRO_TOKENS, STEP_TOKENS = 4096, 16_384
"""Most tokens in one micro-batch and in one step, where nobody asks for others."""
ADAPTER_RATE, WHOLE_RATE = 1e-3, 1e-4
"""Peak rates of AdamW for a base of width 1024, less in proportion to the root of the width. An adapter's
factors start from nothing; weights that are trained need far less."""
KINDS = {"optimizer": "adamw", "schedule": "wsd"}
"""Kinds of the tables that name none."""
RATE_WIDTH = 1024
SANE = 20.0
"""Times a rate may be above or below that and be no mistake."""
SCORING, SCORED = 0.1, 0.6
"""Share of a run that may go to held-out losses, and what scoring a token takes beside learning from it."""
LOOKS = (3, 20)
"""Fewest and most held-out losses of a run, besides the first; only some rows are scored before they get
fewer."""
LEAST_SCORED = 1024
"""Learnt tokens of held-out rows below which a loss is chance: so many are scored at any price."""
FEW = 20
"""Examples below which a model memorises rows, and a held-out loss is chance."""
MANY_PASSES = 10
MOST_CUT = 0.2
"""Share of rows that may be cut at the context without a warning."""


@dataclass(frozen=True)
class TuningFacts:
    """Base and data in numbers."""

    model: ModelConfig
    base_bytes: int
    """Memory the base takes."""
    packed: bool
    examples: int
    inputs: int
    """Tokens of all training examples."""
    targets: int
    """Those that are learnt."""
    longest: int
    """Tokens of the longest example."""
    held_out: int
    """Examples held out."""
    faults: Mapping[str, int]
    """Rows left out or shortened, by the reason."""
    held_out_inputs: int = 0
    """Tokens of those."""
    held_out_targets: int = 0
    """The learnt ones among them."""
    gpu: bool = False
    strange_marks: bool = False
    """Whether the chat template's tokens are new to the base, and an adapter leaves them at random."""
    trained_length: int | None = None
    """Tokens of the longest texts the base was trained on, where its context was extended."""
    lengths: TextLengths = UNKNOWN
    """Of the training examples."""


def context_of(asked: Mapping[str, Any], model: ModelConfig, trained_length: int | None = None) -> int:
    """Longest row: as asked, else the model's context, but no more than :data:`CONTEXT`, unless it was
    extended beyond ``trained_length`` to read more."""
    longest = model.max_position_embeddings
    extended = trained_length is not None and trained_length < longest
    return int(asked.get("max_length", longest if extended else min(longest, CONTEXT)))


def settings(
    asked: Mapping[str, Any],
    facts: TuningFacts,
    *,
    adapter: bool,
    epochs: float,
    steps_per_epoch: Any,
    lr_scale: float = 1.0,
) -> dict[str, Any]:
    """Fill in what a ``[train]`` table leaves open: a pure function, so that a run goes on with the same.

    Args:
        asked: the table as a person wrote it.
        facts: base and data.
        adapter: whether low-rank factors are trained, or the weights themselves.
        epochs: passes over the data, where no steps are asked for.
        steps_per_epoch: (context, rows, accumulation) to steps.
        lr_scale: share of the usual learning rate, where none is asked for.
    """
    found = dict(asked)
    context = found.setdefault(
        "max_length", min(context_of(asked, facts.model, facts.trained_length), _rounded(facts.longest))
    )
    step_tokens = min(STEP_TOKENS, max(context, facts.inputs // UPDATES))
    if "per_device_train_batch_size" not in found:
        found["per_device_train_batch_size"] = max(1, min(MICRO_TOKENS, step_tokens) // context)
        found.setdefault(
            "gradient_accumulation_steps",
            max(1, step_tokens // (context * found["per_device_train_batch_size"])),
        )
    accumulation = found.setdefault("gradient_accumulation_steps", 1)
    if "max_steps" not in found:
        found["max_steps"] = max(
            1,
            math.ceil(epochs * steps_per_epoch(context, found["per_device_train_batch_size"], accumulation)),
        )
    if not found.keys() & {"eval_steps", "eval_tokens"}:
        found |= _evaluation(
            facts,
            found["max_steps"],
            found["max_steps"] * context * found["per_device_train_batch_size"] * accumulation,
        )
    optimizer = dict(found.get("optimizer", {}))
    if optimizer.setdefault("kind", KINDS["optimizer"]) == "adamw":
        optimizer = {
            "learning_rate": float(f"{lr_scale * rate_of(facts.model, adapter=adapter):.1e}"),
            "weight_decay": 0.0,
        } | optimizer
    schedule = dict(found.get("schedule", {}))
    if schedule.setdefault("kind", KINDS["schedule"]) == "wsd":
        schedule = {"warmup_ratio": 0.05} | schedule
    return found | {"optimizer": optimizer, "schedule": schedule}


def _evaluation(facts: TuningFacts, steps: int, inputs: int) -> dict[str, int]:
    """How often held-out rows are scored in a run over ``inputs`` tokens, and how many learnt tokens of them.

    The same rows each time, the first included, so that losses can be compared.
    """
    if not facts.held_out_inputs:
        return {}
    passes = SCORING / SCORED * inputs / facts.held_out_inputs  # over all held-out rows, at that price
    looks = min(max(int(passes) - 1, LOOKS[0]), LOOKS[1], steps)
    found = {"eval_steps": math.ceil(steps / looks)}
    scored = max(LEAST_SCORED, int(facts.held_out_targets * passes / (looks + 1)))
    return found if scored >= facts.held_out_targets else found | {"eval_tokens": scored}


def rate_of(model: ModelConfig, *, adapter: bool) -> float:
    """A peak rate for AdamW, to two digits."""
    rate = (ADAPTER_RATE if adapter else WHOLE_RATE) * math.sqrt(RATE_WIDTH / model.hidden_size)
    return float(f"{rate:.1e}")


def passes(facts: TuningFacts, train: TrainConfig) -> float:
    """How often each example is seen, about: rows are nearly full."""
    return train.max_steps * train.tokens_per_step / max(facts.inputs, train.max_length)


def memory_of(facts: TuningFacts, train: TrainConfig, *, adapter: bool, trained: int) -> dict[str, float]:
    """Bytes at the peak of a step, by what holds them; ``trained`` values are learnt."""
    whole = memory(facts.model, train, gpu=facts.gpu)
    states = (2 if train.optimizer.kind == "adamw" else 1) + (train.ema_decay is not None)
    return {
        "base": float(facts.base_bytes),
        "adapter": trained * 4.0 if adapter else 0.0,
        "gradients and optimizer": trained * 4.0 * (1 + states),
        "activations": whole["activations"] + whole["loss"],
        "program": whole["runtime"],
    }


def check(
    facts: TuningFacts,
    train: TrainConfig,
    *,
    adapter: bool,
    groups: int | None = None,
    rows_given: bool = True,
) -> list[Diagnosis]:
    """What a person should know before the run starts, worst first.

    Args:
        facts: base and data.
        train: the settings.
        adapter: whether low-rank factors are trained, or the weights themselves.
        groups: those of ``[longlora]``, if there are any.
        rows_given: whether a person gave ``train.max_length``.
    """
    found = [*_data(facts, train), *_rate(facts, train, adapter=adapter)]
    found += check_lengths(
        Lengths(
            facts.model,
            train.max_length,
            facts.trained_length,
            facts.lengths if facts.trained_length is not None else UNKNOWN,  # short ones share rows
            noun="examples",
            chosen=not rows_given,
            longest=longest_of(train, facts.model),
            groups=groups,
        )
    )
    longest = facts.model.max_position_embeddings
    if train.max_length > longest:
        found.append(
            Diagnosis(
                "error",
                "tuning-context",
                f"rows of {train.max_length} tokens are longer than the base's context of {longest}",
                "it has never seen such distances",
                f"train.max_length={longest}, or extend the base first: congling extend "
                f"--context {train.max_length}",
            )
        )
    if facts.packed and not adapter:
        found.append(
            Diagnosis(
                "error",
                "packed-needs-adapter",
                "the weights of a quantised model or a GGUF file cannot be trained themselves",
                "they stay packed",
                "train an adapter (adapter.r=8), or write them in floats first: congling import",
            )
        )
    return worst_first(found)


def _data(facts: TuningFacts, train: TrainConfig) -> list[Diagnosis]:
    found = []
    if facts.strange_marks:
        what = (
            "the base has never seen the tokens of its chat template, and the adapter leaves them as they are"
        )
        why = "their rows of embedding and head are random, so that it cannot say where an answer ends"
        remedy = (
            'adapter.target_modules=["linear","embedding","head","norms"], or train the weights themselves'
        )
        found.append(Diagnosis("warning", "adapter-marks", what, why, remedy))
    if facts.examples < FEW:
        what, why = f"{facts.examples} rows are very few", "they are memorised rather than understood"
        found.append(Diagnosis("warning", "few-rows", what, why, "add rows, or train fewer steps"))
    if not facts.held_out:
        why = "of one row or text nobody can say when learning turns into reciting"
        found.append(Diagnosis("warning", "nothing-held-out", "nothing is held out", why, "add rows"))
    if (epochs := passes(facts, train)) > MANY_PASSES:
        what, why = f"every row is seen {epochs:.0f} times", "then the held-out loss usually rises"
        found.append(Diagnosis("warning", "rows-repeated", what, why, "lower train.max_steps or epochs"))
    shortened = sum(facts.faults.get(kind, 0) for kind in ("answer truncated", "conversation shortened"))
    if shortened > MOST_CUT * facts.examples:
        what, why = f"{shortened} rows are cut at the context", "the ends of such answers are not trained on"
        remedy = "raise train.max_length, if the base's context allows"
        found.append(Diagnosis("warning", "rows-cut", what, why, remedy))
    return found


def _rate(facts: TuningFacts, train: TrainConfig, *, adapter: bool) -> list[Diagnosis]:
    if not isinstance(train.optimizer, AdamWConfig):
        return []
    rate, good = train.optimizer.learning_rate, rate_of(facts.model, adapter=adapter)
    kind, remedy = "an adapter" if adapter else "whole weights", f"train.optimizer.learning_rate={good:g}"
    if rate > good * SANE:
        why = "what the base knows is soon overwritten"
        return [
            Diagnosis("warning", "tuning-rate-high", f"a rate of {rate:g} is high for {kind}", why, remedy)
        ]
    if rate < good / SANE:
        why = "in so few steps next to nothing is learnt"
        return [Diagnosis("warning", "tuning-rate-low", f"a rate of {rate:g} is low for {kind}", why, remedy)]
    return []


def _rounded(tokens: int) -> int:
    return -(-tokens // 64) * 64
