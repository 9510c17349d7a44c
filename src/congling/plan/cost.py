"""What a run will cost before it starts: parameters, tokens, passes over the data, time, memory, disk."""

# B rows, T context, W width, V vocabulary

import math
from dataclasses import dataclass

from congling.model.config import ModelConfig
from congling.model.counts import attention_share, flops_per_token, parameter_table
from congling.plan import advice_numbers
from congling.plan.activations import layer_activations, shared_angles, turned_activations
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.train.config import Interval, TrainConfig
from congling.train.positions import longest_of

_FLOAT = 4
RUNTIME_BYTES = 355e6
"""Resident memory of a process that has imported torch, read its configuration and opened the shards."""
SLACK = 1.16
"""Allocator overhead on what autograd keeps; this and the line above were fitted together to measured peaks
(docs/log/2026-11-plan-accuracy.md)."""


@dataclass(frozen=True)
class Cost:
    """Everything counted or estimated about one run; bytes, seconds, FLOPs."""

    parameters: dict[str, int]
    tokens_per_step: int
    tokens: int
    """Targets over the whole run."""
    passes: float
    """Times the training part is read."""
    flops: float
    attention_share: float
    """Share of these that grows with the context."""
    seconds_per_step: float
    utilisation: float
    """Share of the machine's matmul peak."""
    time: dict[str, float]
    """Seconds by activity."""
    each: dict[str, float]
    """Seconds of one held-out loss, the samples of one step, one checkpoint."""
    memory: dict[str, float]
    """Bytes at the peak, by what holds them."""
    disk: dict[str, float]
    """Bytes on disk at the fullest moment, by what they hold."""

    @property
    def total_parameters(self) -> int:
        """All trained values."""
        return sum(self.parameters.values())

    @property
    def embedding_share(self) -> float:
        """Share of the parameters in the embedding and the head."""
        return (self.parameters["embedding"] + self.parameters["head"]) / self.total_parameters

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run."""
        return sum(self.time.values())

    @property
    def fixed_seconds(self) -> float:
        """The part of it that does not depend on the number of steps."""
        return sum(self.time[name] for name in ("start", "compile", "score and report"))

    @property
    def peak_memory(self) -> float:
        """Bytes at the peak."""
        return sum(self.memory.values())

    @property
    def disk_bytes(self) -> float:
        """Bytes on disk at the fullest moment."""
        return sum(self.disk.values())


@dataclass(frozen=True)
class Beside:
    """What a budget holds beside training."""

    spent: float = 0.0
    """Seconds that are used up already."""
    start: float = advice_numbers.STARTUP_SECONDS
    """Seconds until the first step, from now."""
    reported: bool = True
    """Whether a final score, texts and a report follow."""
    scoring: float = math.inf
    """Seconds that the final score may take: it is then that of a part of the held-out text."""


NOTHING_YET = Beside()
"""A program that is still to be started, as ``congling train``."""


def estimate(
    model: ModelConfig,
    train: TrainConfig,
    corpus: CorpusFacts,
    machine: MachineFacts,
    *,
    seconds_per_step: float | None = None,
    peak_memory: float | None = None,
    beside: Beside = NOTHING_YET,
) -> Cost:
    """Cost of training ``model`` as ``train`` says, with time and memory of its steps where measured.

    What a measured process held beyond the model, its state and its activations is the runtime: libraries,
    the compiler, and what earlier stages left behind.
    """
    per_step = train.tokens_per_step
    flops_per_step = flops_per_token(model, train.max_length) * per_step
    if seconds_per_step is None:
        share = advice_numbers.utilisation(machine, model.hidden_size, compiled=train.torch_compile == "on")
        seconds_per_step = flops_per_step / (share * machine.peak)
    tokens = train.max_steps * per_step
    held = memory(model, train, gpu=machine.accelerator is not None)
    if peak_memory is not None:
        held["runtime"] = max(held["runtime"], peak_memory - (sum(held.values()) - held["runtime"]))
    return Cost(
        parameters=parameter_table(model),
        tokens_per_step=per_step,
        tokens=tokens,
        passes=tokens / max(1, corpus.tokens),
        flops=float(flops_per_step * train.max_steps),
        attention_share=attention_share(model, train.max_length),
        seconds_per_step=seconds_per_step,
        utilisation=flops_per_step / seconds_per_step / machine.peak,
        time=_time(train, corpus, seconds_per_step, beside),
        each=_each(train, corpus, seconds_per_step),
        memory=held,
        disk=_disk(model, train, corpus),
    )


def looked_at(train: TrainConfig, corpus: CorpusFacts) -> int:
    """Tokens of one held-out loss during training."""
    return min(corpus.validation_tokens, train.eval_tokens or corpus.validation_tokens)


def scored_at_the_end(corpus: CorpusFacts) -> int:
    """Held-out tokens of the final score."""
    return corpus.test_tokens or corpus.validation_tokens


def _each(train: TrainConfig, corpus: CorpusFacts, seconds_per_step: float) -> dict[str, float]:
    forward = seconds_per_step / train.tokens_per_step / 3  # a forward pass is a third of a training step
    return {
        "held-out loss": looked_at(train, corpus) * forward,
        # one token at a time is bound by latency, not by arithmetic
        "samples": max(1, len(train.sample_prompts))
        * train.sample_tokens
        * advice_numbers.SECONDS_PER_WRITTEN_TOKEN,
        "checkpoints": advice_numbers.SECONDS_PER_CHECKPOINT,
    }


def _time(
    train: TrainConfig, corpus: CorpusFacts, seconds_per_step: float, beside: Beside
) -> dict[str, float]:
    forward = seconds_per_step / train.tokens_per_step / 3
    each = _each(train, corpus, seconds_per_step)
    kinds: tuple[tuple[str, Interval], ...] = (
        ("held-out loss", "evaluate"),
        ("samples", "sample"),
        ("checkpoints", "save"),
    )
    return {
        "start": beside.start,
        "compile": advice_numbers.COMPILE_SECONDS if train.torch_compile == "on" else 0.0,
        "steps": train.max_steps * seconds_per_step,
        **{name: (train.max_steps // train.interval(key) + 1) * each[name] for name, key in kinds},
        "score and report": _closing(corpus, forward, beside.scoring) if beside.reported else 0.0,
    }


def _closing(corpus: CorpusFacts, forward: float, scoring: float) -> float:
    score = advice_numbers.SCORE_OVERLAP * scored_at_the_end(corpus) * forward
    written = advice_numbers.WRITTEN_AT_THE_END * advice_numbers.SECONDS_PER_WRITTEN_TOKEN
    return min(score, scoring) + written + advice_numbers.REPORT_SECONDS


def optimizer_values(model: ModelConfig, train: TrainConfig) -> int:
    """Numbers the optimizer keeps: two a parameter for AdamW, one for the matrices that Muon moves."""
    table = parameter_table(model)
    if train.optimizer.kind == "adamw":
        return 2 * sum(table.values())
    matrices = table["attention"] + table["mlp"]
    return matrices + 2 * (sum(table.values()) - matrices)


def memory(model: ModelConfig, train: TrainConfig, *, gpu: bool) -> dict[str, float]:
    """Bytes held at the peak of a training step, by what holds them.

    Parameters, gradients and optimizer state are exact; activations are what autograd keeps for the
    backward pass (counted part by part from the model's forward, checked against saved-tensor hooks); the
    loss works in chunks.
    """
    half = train.precision == "bf16" or (train.precision == "auto" and gpu)
    values = sum(parameter_table(model).values())
    per_value = 2 if half else _FLOAT
    rows = train.per_device_train_batch_size
    positions = rows * train.max_length
    again = turned_activations(model, train.max_length, rows, longest_of(train, model))
    layers = [layer_activations(model, layer) + again for layer in range(model.num_hidden_layers)]
    if train.gradient_checkpointing:
        kept = model.num_hidden_layers * model.hidden_size + max(layers)
    else:
        kept = sum(layers)
    kept += shared_angles(model, train.max_length, rows, longest_of(train, model))
    table = model.vocab_size * model.hidden_size
    chunk = min(positions * model.vocab_size, LOSS_CHUNK_GPU if gpu else LOSS_CHUNK)
    return {
        "runtime": 0.0 if gpu else RUNTIME_BYTES,
        "parameters": float(values * _FLOAT),
        "gradients": float(values * _FLOAT),
        "optimizer": float(optimizer_values(model, train) * _FLOAT),
        "average of weights": float(values * _FLOAT if train.ema_decay is not None else 0),
        "activations": float((kept + 4 * model.hidden_size) * positions * per_value * SLACK),
        "loss": float((3 * chunk + table + 2 * positions * model.hidden_size) * _FLOAT),
    }


LOSS_CHUNK, LOSS_CHUNK_GPU = 2**20, 2**27
"""Logits that exist at a time (the loss multiplies by the head piece by piece)."""


def _disk(model: ModelConfig, train: TrainConfig, corpus: CorpusFacts) -> dict[str, float]:
    values = sum(parameter_table(model).values())
    copies = values * (2 if train.ema_decay is not None else 1) + optimizer_values(model, train)
    one = copies * _FLOAT + 2e6  # and its tokenizer and manifests
    # What a longer run begins from stays as well, with what was the best then.
    before_decay = 2 if train.schedule.kind == "wsd" else 0
    return {
        "checkpoints": one
        * (train.save_total_limit + 2 + before_decay),  # those kept, the best, and one being written
        "shards": float(corpus.stored_bytes or corpus.tokens * 2),
        "report and logs": 2e6,
    }
