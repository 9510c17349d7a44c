"""The numbers the advice rests on, in one place so that a new measurement changes one line.

Comments say which were measured; the sweeps, failures too, are in ``docs/log/``. All others are guesses that
fit between or beyond the measured ones."""

from dataclasses import dataclass

from congling.plan.corpus_facts import MachineFacts


@dataclass(frozen=True)
class Size:
    """A model size and batch that did best for about this much compute."""

    compute: float
    """Training FLOPs from which this row is chosen."""
    layers: int
    width: int
    context: int
    rows: int


# Measured on 红楼梦 (0.5 M characters), docs/log/2026-11-hlm-recipe.md: 4 × 192 at T 128 and 16 rows from
# 7e12 to 3e13, where 3 × 256 was worse; 4 × 256 at 7e13, where it was no better than 4 × 192 with half the
# compute. Smaller rows give many updates of few tokens; larger ones follow sizes of published runs at equal
# compute (Kaplan et al. 2020, Hoffmann et al. 2022).
SIZES = (
    Size(0.0, 2, 64, 64, 8),
    Size(1e11, 2, 128, 64, 8),
    Size(1e12, 4, 128, 128, 16),
    Size(3e12, 4, 192, 128, 16),
    Size(3e13, 4, 192, 512, 4),
    Size(1e14, 4, 256, 512, 4),
    Size(4e14, 6, 384, 256, 16),
    Size(1e15, 8, 512, 512, 16),
    Size(1e16, 12, 640, 512, 32),
    Size(1e17, 12, 768, 1024, 32),
    Size(1e18, 16, 1024, 1024, 64),
    Size(1e19, 20, 1280, 2048, 128),
)

REACH = 128
"""Least context for documents at least twice as long: a text in llama.cpp or Ollama ends where the context
does, and 64 tokens are two sentences. It costs nothing against 64; 256 does (docs/log/2026-11-context.md)."""

PARAMETERS_PER_CHARACTER = 30
"""Block parameters a training character can occupy: past it, a larger model only memorises sooner."""


@dataclass(frozen=True)
class Regularisation:
    """What to do against overfitting when the data are read this many times."""

    passes: float
    """Passes over the data from which this row is chosen."""
    dropout: float
    weight_decay: float
    """Decoupled decay of the matrices under Muon, times its rate; AdamW uses it too, at least 0.1."""
    split_pieces: float
    """Probability with which pieces fall apart."""
    noise: float
    """Probability with which an input token is replaced by another."""
    embedding_rate: float
    ema: bool


# Measured on 红楼梦, docs/log/2026-11-hlm-recipe.md: with a dropout of 0.1 alone the held-out loss turns
# after about 3 passes (6.09, then 6.29 at 4.9); with the third row it is 6.01 at 3.9 (6.12 with pieces split
# at 0.3). The second row was not measured; the last two continue the direction.
REGULARISATION = (
    Regularisation(0, 0.0, 0.05, 0.0, 0.0, 0.3, ema=False),
    Regularisation(1.5, 0.1, 0.1, 0.1, 0.0, 0.25, ema=True),
    Regularisation(3, 0.25, 0.3, 0.1, 0.0, 0.2, ema=True),
    Regularisation(8, 0.3, 0.5, 0.1, 0.15, 0.2, ema=True),
    Regularisation(30, 0.35, 0.5, 0.1, 0.2, 0.2, ema=True),
)
TABLE_DECAY = 0.01
"""Decoupled decay of embedding and head where the data are read more than once."""

MOST_PASSES = 60
"""Passes after which more time only overfits, for a corpus to learn from (10,000 tokens or more)."""
MOST_PASSES_TINY = 300
"""The same below 10,000 tokens, where reciting the text is all that can be had."""
TINY_TOKENS = 10_000

# Share of the matmul peak, in the precision of training, that a whole step reaches, by model width. The rows
# of 192 and 256 were taken from single trials on one CPU core (bf16 with AMX units) that are in no log; the
# others follow them, and the GPU column is a guess. Only the first look at a machine uses these: the time of
# a run follows from steps measured there.
UTILISATION = (
    #     fp32  compiled  bf16  compiled  GPU
    (64, (0.20, 0.23, 0.025, 0.030, 0.03)),
    (128, (0.40, 0.43, 0.055, 0.065, 0.06)),
    (192, (0.52, 0.55, 0.080, 0.100, 0.10)),
    (256, (0.56, 0.61, 0.120, 0.165, 0.15)),
    (384, (0.60, 0.65, 0.160, 0.210, 0.22)),
    (512, (0.62, 0.68, 0.200, 0.260, 0.30)),
    (768, (0.64, 0.70, 0.240, 0.310, 0.42)),
    (1024, (0.64, 0.70, 0.280, 0.350, 0.50)),
)
COMPILE_SECONDS = 20.0
"""What compiling the blocks costs before the first step with nothing cached, rounded up: 17 s for 4 layers ×
192 on one core (docs/log/2026-11-speed.md)."""
COMPILE_PAYS_FROM = {"fp32": 500.0, "bf16": 130.0, "gpu": 80.0}
"""Seconds of steps in a run from which compiling is worth its start. On a CPU it saves 2-6 % of a step in
fp32, where products dominate (docs/log/2026-11-speed.md), and more in bf16; on a GPU it was not measured."""
STARTUP_SECONDS = 6.0
"""Importing, reading the data, building the model and the optimizer."""
BUILDING_SECONDS = 1.5
"""What is left of that once the plan is made within the program that trains."""
SECONDS_PER_WRITTEN_TOKEN, SECONDS_PER_CHECKPOINT = 0.004, 0.15
"""Of a small model, one token after another; and of writing the state to the disk."""
SCORE_OVERLAP = 2.0
"""How often the final score reads a token: its windows overlap by half."""
SCORE_SHARE = 0.08
"""Share of a budget that the final score may take; of more held-out text it reads a part."""
REPORT_SECONDS, WRITTEN_AT_THE_END = 2.5, 400
"""After training: opening the model, writing the report; and the tokens that are written one after another,
a batch of texts counted once."""
OVERHEAD = 0.10
"""Share of a budget kept for held-out losses, samples, checkpoints and the report."""

MUON_RATE, HEAD_RATE, SCALAR_RATE = 0.013, 0.004, 0.03
"""Peak rates of matrices, head and norm gains in the mixed Muon/AdamW optimizer: the best on 红楼梦 over one
pass (docs/log/2026-11-hlm-recipe.md)."""
ADAMW_RATE = 3e-3
"""Peak AdamW rate at width 128, not swept; it falls as 1/sqrt(width) (about 1e-3 at 1024)."""
START_SHARE = 0.3
"""Share of these rates for weights that were trained before, pruned ones among them."""
ONEBIT_SHARE = 0.25
"""Share of those again for training in one bit. A sign turns all of a weight over at once, so that steps
which suit weights in floats undo each other: with 0.0039 for matrices (4 × 256) the loss rose again after 40
steps, with 0.001 it fell to the end (docs/log/2026-12-quantisation.md)."""
DEFAULT_BUDGET = 900.0
"""Seconds when a recipe gives no budget."""


def size_for(compute: float) -> Size:
    """Largest row whose compute is covered."""
    return [row for row in SIZES if row.compute <= compute][-1]


def regularisation_for(passes: float) -> Regularisation:
    """Row for a number of passes over the data."""
    return [row for row in REGULARISATION if row.passes <= passes][-1]


def utilisation(machine: MachineFacts, width: int, *, compiled: bool) -> float:
    """Expected share of the machine's matmul peak for a model this wide."""
    shares = [row for row in UTILISATION if row[0] <= width or row[0] == UTILISATION[0][0]][-1][1]
    if machine.accelerator is not None:
        return shares[-1]
    return shares[2 * (machine.precision == "bf16") + compiled]
