"""What a training run does, step by step: sizes, optimizer, schedule, precision, and when to save and look.

Imports no torch, so that ``plan`` and ``--help`` stay quick. Every stage that learns takes this same table.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    field_validator,
    model_validator,
)

from congling.core.config import Config, build
from congling.core.units import Seconds

Interval = Literal["save", "evaluate", "sample"]
LONGEST_ROW = 2**24
"""Most tokens of a row, which no machine reaches."""
Count = Annotated[int, Field(ge=1, le=10**9)]
Small = Annotated[int, Field(ge=1, le=2**20)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Share = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
BETTER: Mapping[str, Literal["lower", "higher"]] = {
    "loss": "lower", "loss_per_answer": "lower", "perplexity": "lower", "bits_per_character": "lower",
    "bits_per_byte": "lower",
    "kl": "lower", "drift": "lower", "divergence": "lower", "repetition": "lower", "length": "lower",
    "rejected": "lower", "chosen": "higher", "margin": "higher", "accuracy": "higher", "reward": "higher",
    "ended": "higher", "score": "higher",
}  # fmt: skip
"""Which way a held-out number is better; whoever measures another says so here, or it cannot choose."""


class AdamWConfig(Config):
    """AdamW (Loshchilov & Hutter 2019); norms, biases and embeddings are not decayed.

    Matrices are, and so is the head, also where it is the embedding itself (tied): every token moves all
    of it.
    """

    kind: Literal["adamw"] = "adamw"
    rate: Rate = 1e-3
    """Peak learning rate: 3e-4 to 2e-3 for 1-100 M random weights; 1e-5 is for fine-tuning."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1


class MuonConfig(Config):
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW with its own rates for the rest.

    The update of a matrix is its momentum made orthogonal, so a rate says how far every direction moves, and
    hardly depends on the size of the model. Embeddings and the head are tables of vectors, not maps: AdamW.
    """

    kind: Literal["muon"] = "muon"
    rate: Rate = 0.013
    """Peak rate of the block matrices."""
    embedding_rate: Rate = 0.3
    head_rate: Rate = 0.004
    """Peak rate of the output matrix; also of the one matrix that is both, when embeddings are tied."""
    scalar_rate: Rate = 0.03
    """Peak rate of norm gains and biases."""
    scale: Literal["spectral", "rms"] = "spectral"
    """Size of an (R, C) update: ``spectral`` sqrt(max(1, R/C)); ``rms`` 0.2 sqrt(max(R, C)), which matches
    AdamW's typical update so that AdamW rates can be reused (Liu et al. 2025)."""
    momentum: Momentum = 0.95
    momentum_start: Momentum = 0.85
    momentum_warmup: Annotated[int, Field(ge=0, le=10**9)] = 300
    """Steps over which momentum grows from start to its final value: early gradients go stale quickly."""
    iterations: Annotated[int, Field(ge=1, le=100)] = 5
    """Newton-Schulz iterations."""
    weight_decay: NonNegativeFloat = 0.05
    """Decoupled decay of the block matrices, times the rate; embeddings and head have ``table_decay``."""
    table_decay: NonNegativeFloat = 0.0
    betas: tuple[Momentum, Momentum] = (0.8, 0.95)
    epsilon: PositiveFloat = 1e-10


class WSDConfig(Config):
    """Warm-up, stable, decay (Hu et al. 2024): a plateau may be cut anywhere, so runs can be extended."""

    kind: Literal["wsd"] = "wsd"
    warmup: Share = 0.02
    """Share of all steps spent rising from zero."""
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """The same as a number of steps, which counts where it is given: a longer run may keep its warm-up."""
    decay: Share = 0.5
    """Share of all steps spent falling to the floor, at the end."""
    shape: Literal["linear", "1-sqrt"] = "linear"
    floor: Share = 0.0
    """Final rate as a share of the peak."""


class CosineConfig(Config):
    """Warm-up, then half a cosine down to the floor (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.02
    floor: Share = 0.1


OptimizerConfig = Annotated[MuonConfig | AdamWConfig, Field(discriminator="kind")]
ScheduleConfig = Annotated[WSDConfig | CosineConfig, Field(discriminator="kind")]


class TrainConfig(Config):
    """The ``[train]`` table: what the loop does, for whatever model, batches and objective it is given."""

    steps: Count
    context: Annotated[int, Field(ge=1, le=LONGEST_ROW)]
    """Tokens in one row (T)."""
    rows: Small = 16
    """Rows in one micro-batch (B)."""
    accumulation: Small = 1
    """Micro-batches in one step, over all processes; the gradient is that of all their targets together."""
    optimizer: OptimizerConfig = MuonConfig()
    schedule: ScheduleConfig = WSDConfig()
    clip: NonNegativeFloat = 1.0
    """Largest global gradient norm; 0 leaves gradients as they are."""
    ema: Momentum | None = None
    """Decay of an average over the weights; the average is then what is evaluated, sampled and handed on."""
    document_mask: bool = False
    """Attention stays inside documents that share a row."""
    split_pieces: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which a piece falls apart into two shorter ones, anew in every pass: the same text
    in other pieces, against learning a small corpus by heart."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which an input token, never a target, gives way to one drawn from the text."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of products of matrices. ``auto``: bf16 where the GPU or the processor has units for it (AMX, or
    AVX-512 with BF16), fp32 elsewhere. Weights are fp32 in any case."""
    compile: Literal["auto", "on", "off"] = "auto"
    """``auto`` compiles on a GPU; on a CPU the plan turns it on where the run is long enough."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more work."""
    save_every: Count | None = None
    """Steps between checkpoints; twenty in a run when not given."""
    keep: Count = 2
    """How many checkpoints stay on disk besides the best one; two leave one to fall back on."""
    wait_for_space: Annotated[Seconds, Field(ge=0)] = 60.0
    """How long a run waits for space on a full disk before it ends; ``"8h"`` for a night. The last checkpoint
    stays in any case."""
    evaluate_every: Count | None = None
    """Steps between held-out losses; twenty in a run when not given."""
    evaluate_tokens: Count | None = None
    """Held-out tokens scored each time, spread over all of them; all when not given."""
    hand_on: Literal["best", "last"] = "best"
    """Which weights the run gives away: those of the best look at held-out text; or the last, where a text is
    to be learnt by heart and held-out text says nothing."""
    choose: Annotated[str, Field(min_length=1)] = "loss"
    """Which held-out number says what is best: ``loss``, or another of ``BETTER`` that is measured, such as
    ``accuracy``."""
    patience: Count | None = None
    """Looks in a row without a better one after which the run ends early; never when not given."""
    sample_every: Count | None = None
    """Steps between samples; six times in a run when not given."""
    sample_prompts: tuple[str, ...] = ()
    sample_tokens: Small = 64
    log_every: Count | None = None
    """Steps between reads of the metrics from the device; 1 on a CPU and 5 on a GPU when not given."""
    max_skipped: Count = 10
    """Consecutive steps without a finite gradient after which the run gives up."""
    on_spike: Literal["warn", "rollback", "stop"] = "warn"
    """What happens when the loss leaves its course: a warning; or back to the last good checkpoint, past the
    batches that were learnt since; or the end of the run."""
    max_rollbacks: Count = 3
    """How often a run goes back before it ends with the reasons."""
    auto_micro_batch: bool = False
    """Where memory runs out, halve ``rows`` and double ``accumulation`` and go on from the same step: the
    same step in smaller parts, whose sums are rounded otherwise."""
    ddp_timeout: Annotated[float, Field(gt=0, le=1e7)] = 1800.0
    """Seconds after which processes that train together stop waiting for one that does not answer."""

    @model_validator(mode="after")
    def _patience_has_a_best(self) -> Self:
        if self.patience is not None and self.hand_on == "last":
            raise ValueError('patience waits for a better checkpoint, which hand_on = "last" does not keep')
        return self

    @field_validator("choose")
    @classmethod
    def _direction_is_known(cls, name: str) -> str:
        if name not in BETTER:
            known = ", ".join(BETTER)
            raise ValueError(f"whether more or less of {name!r} is better is not known; it is of {known}")
        return name

    @property
    def tokens_per_step(self) -> int:
        """Targets of one step when every position counts."""
        return self.rows * self.context * self.accumulation

    def interval(self, name: Interval) -> int:
        """Steps between saves, evaluations or samples, with the default filled in."""
        given = {"save": self.save_every, "evaluate": self.evaluate_every, "sample": self.sample_every}[name]
        return given or max(1, self.steps // (6 if name == "sample" else 20))


def checked_train(table: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    """Name mistakes in a ``[train]`` table before anything is calculated from it; steps and context may be
    left open, and ``kinds`` are those of inner tables that name none.

    Raises:
        UserError: the table has a mistake.
    """
    given = {"steps": 1, "context": 1, **table}
    for key, kind in kinds.items():
        if isinstance(given.get(key), Mapping):
            given[key] = {"kind": kind} | given[key]
    build(TrainConfig, given, where="recipe", under="train")
