"""What a training run does: sizes, optimizer, schedule, precision, and when to save and evaluate.

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
CURVE_RATE = 2e-5
"""Peak rate of the curve that rotary frequencies follow (CLEX), where none is given."""
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
    learning_rate: Rate = 1e-3
    """Peak learning rate: 3e-4 to 2e-3 for 1-100 M random weights; 1e-5 is for fine-tuning."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    positions_learning_rate: Rate | None = None
    """Peak rate of the curve of CLEX, which AdamW moves without decay; 2e-5 when not given."""


class MuonConfig(Config):
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW with its own rates for the rest.

    The update of a matrix is its momentum made orthogonal, so a rate says how far every direction moves, and
    hardly depends on the size of the model. Embeddings and the head are lookup tables, not linear maps:
    AdamW."""

    kind: Literal["muon"] = "muon"
    learning_rate: Rate = 0.013
    """Peak rate of the block matrices."""
    embedding_learning_rate: Rate = 0.3
    head_learning_rate: Rate = 0.004
    """Peak rate of the output matrix; also of the one matrix that is both, when embeddings are tied."""
    scalar_learning_rate: Rate = 0.03
    """Peak rate of norm gains and biases."""
    positions_learning_rate: Rate | None = None
    """Peak rate of the curve of CLEX, which AdamW moves without decay; 2e-5 when not given."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    """Size of an (R, C) update: ``original`` sqrt(max(1, R/C)); ``match_rms_adamw`` 0.2 sqrt(max(R, C)), as
    large as AdamW's typical update, so that AdamW rates can be reused (Liu et al. 2025)."""
    momentum: Momentum = 0.95
    momentum_start: Momentum = 0.85
    momentum_warmup_steps: Annotated[int, Field(ge=0, le=10**9)] = 300
    """Steps over which momentum grows from start to its final value: early gradients go stale quickly."""
    ns_steps: Annotated[int, Field(ge=1, le=100)] = 5
    """Newton-Schulz iterations."""
    weight_decay: NonNegativeFloat = 0.05
    """Decoupled decay of the block matrices, times the learning rate; embeddings and head have
    ``embedding_weight_decay``."""
    embedding_weight_decay: NonNegativeFloat = 0.0
    betas: tuple[Momentum, Momentum] = (0.8, 0.95)
    eps: PositiveFloat = 1e-10


class WSDConfig(Config):
    """Warm-up, stable, decay (Hu et al. 2024): a plateau may be cut anywhere, so runs can be extended."""

    kind: Literal["wsd"] = "wsd"
    warmup_ratio: Share = 0.02
    """Share of all steps spent rising from zero."""
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """The same as a number of steps, which counts where it is given: a longer run may keep its warm-up."""
    decay_ratio: Share = 0.5
    """Share of all steps spent falling to the floor, at the end."""
    decay_type: Literal["linear", "1-sqrt"] = "linear"
    min_lr_ratio: Share = 0.0
    """Final rate as a share of the peak."""


class CosineConfig(Config):
    """Warm-up, then half a cosine down to the floor (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    warmup_ratio: Share = 0.02
    min_lr_ratio: Share = 0.1


OptimizerConfig = Annotated[MuonConfig | AdamWConfig, Field(discriminator="kind")]
ScheduleConfig = Annotated[WSDConfig | CosineConfig, Field(discriminator="kind")]


class TrainConfig(Config):
    """The ``[train]`` table: what the loop does, for whatever model, batches and objective it is given."""

    max_steps: Count
    max_length: Annotated[int, Field(ge=1, le=LONGEST_ROW)]
    """Tokens of one sequence (T)."""
    per_device_train_batch_size: Small = 16
    """Sequences of one micro-batch (B)."""
    gradient_accumulation_steps: Small = 1
    """Micro-batches in one step, over all processes; the gradient is that of all their targets together."""
    optimizer: OptimizerConfig = MuonConfig()
    schedule: ScheduleConfig = WSDConfig()
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are clipped to this global norm; 0 leaves them as they are."""
    ema_decay: Momentum | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated, sampled and
    exported."""
    document_mask: bool = False
    """Attention stays inside documents that are packed into one sequence."""
    token_split_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which a token is split into two shorter ones, anew in every epoch (subword
    regularisation): the same text in other tokens, against memorising a small corpus."""
    token_noise_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which an input token, never a target, is replaced by one drawn from the text."""
    position_sampling: Literal["none", "randomized", "pose"] | None = None
    """Draw positions up to the model's context for rows that are shorter: a sorted random subset
    (``randomized``, Ruoss et al. 2023) or one gap (``pose``, Zhu et al. 2023). Not given: ``randomized``
    where the model has a curve to learn (CLEX), else ``none``."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    sums: Literal["ordered", "sequential"] | None = None
    """``ordered``: gradients, losses and the norm are added up in one order, and dropout is drawn anew for
    each micro-batch, so that 1, 2, 4 … processes train the same bits. Not given: ``ordered`` where a new run
    begins on a CPU, and as it began where one goes on."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of matrix multiplications. ``auto``: bf16 where the GPU or the processor has units for it (AMX, or
    AVX-512 with BF16), fp32 elsewhere. Weights are fp32 in any case."""
    torch_compile: Literal["auto", "on", "off"] = "auto"
    """``auto`` compiles on a GPU; on a CPU the plan turns it on where the run is long enough."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more work."""
    save_steps: Count | None = None
    """Steps between checkpoints; twenty in a run when not given."""
    save_total_limit: Count = 2
    """How many checkpoints stay on disk besides the best one; two leave one to fall back on."""
    wait_for_space: Annotated[Seconds, Field(ge=0)] = 60.0
    """How long a run waits for space on a full disk before it ends; ``"8h"`` for a night. The last checkpoint
    stays in any case."""
    eval_steps: Count | None = None
    """Steps between evaluations on held-out text; twenty in a run when not given."""
    eval_tokens: Count | None = None
    """Held-out tokens of one evaluation, spread over all of them; all when not given."""
    load_best_model_at_end: bool = True
    """Whether the result of the run is the weights of the best evaluation, or those at the end: for a text
    that is to be memorised, where held-out text says nothing."""
    metric_for_best_model: Annotated[str, Field(min_length=1)] = "loss"
    """Which held-out number says what is best: ``loss``, or another of ``BETTER`` that is measured, such as
    ``accuracy``."""
    early_stopping_patience: Count | None = None
    """Early stopping: evaluations in a row without a better one after which the run ends; never when
    not given."""
    sample_steps: Count | None = None
    """Steps between samples; six times in a run when not given."""
    sample_prompts: tuple[str, ...] = ()
    sample_tokens: Small = 64
    logging_steps: Count | None = None
    """Steps between reads of the metrics from the device; 1 on a CPU and 5 on a GPU when not given."""
    max_skipped: Count = 10
    """Consecutive steps without a finite gradient after which the run gives up."""
    on_spike: Literal["warn", "rollback", "stop"] = "warn"
    """What happens when the loss leaves its course: a warning; or back to the last good checkpoint, past the
    batches that were learnt since; or the end of the run."""
    max_rollbacks: Count = 3
    """How often a run goes back before it ends with the reasons."""
    auto_find_batch_size: bool = False
    """Where memory runs out, halve ``per_device_train_batch_size``, double ``gradient_accumulation_steps``
    and go on from the same step: the same step in smaller parts, whose sums are rounded otherwise."""
    ddp_timeout: Annotated[float, Field(gt=0, le=1e7)] = 1800.0
    """Seconds after which processes that train together stop waiting for one that does not answer."""

    @model_validator(mode="after")
    def _patience_has_a_best(self) -> Self:
        if self.early_stopping_patience is not None and not self.load_best_model_at_end:
            raise ValueError("early_stopping_patience needs load_best_model_at_end")
        return self

    @field_validator("metric_for_best_model")
    @classmethod
    def _direction_is_known(cls, name: str) -> str:
        if name not in BETTER:
            known = ", ".join(BETTER)
            raise ValueError(f"whether more or less of {name!r} is better is not known; it is of {known}")
        return name

    @property
    def tokens_per_step(self) -> int:
        """Targets of one step when every position counts."""
        return self.per_device_train_batch_size * self.max_length * self.gradient_accumulation_steps

    def interval(self, name: Interval) -> int:
        """Steps between saves, evaluations or samples, with the default filled in."""
        given = {"save": self.save_steps, "evaluate": self.eval_steps, "sample": self.sample_steps}[name]
        return given or max(1, self.max_steps // (6 if name == "sample" else 20))


def checked_train(table: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    """Name mistakes in a ``[train]`` table before anything is calculated from it; steps and context may be
    left open, and ``kinds`` are those of inner tables that name none.

    Raises:
        UserError: the table has a mistake.
    """
    given: dict[str, Any] = {"max_steps": 1, "max_length": 1, **table}
    for key, kind in kinds.items():
        if isinstance(given.get(key), Mapping):
            given[key] = {"kind": kind} | given[key]
    build(TrainConfig, given, where="recipe", under="train")
