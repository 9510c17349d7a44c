"""Every flag of ``train-text-from-scratch``, and those that ``finetune`` shares, with their defaults.

What the former programs did not have stands last in each table: flags that avoid their traps.
"""

from dataclasses import dataclass

from congling.llamacpp_trainers.arguments import flag, toggle

LONGEST_ROWS = 2**20
"""Tokens in a row that a file may ask for; the command line may ask for more."""


@dataclass(frozen=True)
class TrainerOptions:
    """What both trainers take."""

    given: frozenset[str] = frozenset()
    """Fields that were set on the command line."""
    train_data: str = flag(
        "--train-data", value=str, shown="FNAME", default="shakespeare.txt", help="UTF-8 text to train on"
    )
    checkpoint_in: str = flag(
        "--checkpoint-in",
        value=str,
        shown="FNAME",
        default="checkpoint.gguf",
        help="go on from here, or from a plain model; a file that is not there means a new start",
    )
    checkpoint_out: str = flag(
        "--checkpoint-out",
        value=str,
        shown="FNAME",
        default="checkpoint-ITERATION.gguf",
        help="checkpoint to write; '' for none",
    )
    pattern_fn_it: str = flag(
        "--pattern-fn-it",
        value=str,
        shown="STR",
        default="ITERATION",
        help="part of output names that is replaced by the iteration",
    )
    fn_latest: str = flag(
        "--fn-latest",
        value=str,
        shown="STR",
        default="LATEST",
        help="what stands there in the copy that is always the newest",
    )
    save_every: int = flag(
        "--save-every", value=int, shown="N", default=10, help="iterations between saves; 0: only at the end"
    )
    seed: int = flag("-s", "--seed", value=int, shown="SEED", default=-1, help="random seed; -1: the time")
    ctx: int = flag("-c", "--ctx", value=int, shown="N", default=128, least=1, help="tokens in one row")
    threads: int = flag("-t", "--threads", value=int, shown="N", default=6, least=1, help="CPU threads")
    batch: int = flag("-b", "--batch", value=int, shown="N", default=8, least=1, help="rows in one pass")
    grad_acc: int = flag("--grad-acc", value=int, shown="N", default=1, help="passes in one iteration")
    sample_start: str = flag(
        "--sample-start", value=str, shown="STR", default="", help="samples begin at this text"
    )
    include_sample_start: bool = toggle(
        "--include-sample-start", default=False, help="it belongs to the sample"
    )
    escape: bool = toggle("--escape", default=False, help="read \\n \\r \\t \\' \\\" \\\\ in --sample-start")
    overlapping_samples: bool = toggle(
        "--overlapping-samples", default=False, help="samples go on over the next start"
    )
    fill_with_next_samples: bool = toggle(
        "--fill-with-next-samples", default=False, help="fill short rows with further samples, not with EOS"
    )
    separate_with_eos: bool = toggle(
        "--separate-with-eos", "--no-separate-with-eos", default=False, help="EOS between such samples"
    )
    separate_with_bos: bool = toggle(
        "--separate-with-bos", "--no-separate-with-bos", default=True, help="BOS between such samples"
    )
    sample_random_offsets: bool = toggle(
        "--sample-random-offsets", default=False, help="begin rows anywhere in their sample"
    )
    force_reshuffle: bool = toggle(
        "--force-reshuffle", default=False, help="begin a new epoch, shuffled by --seed"
    )
    use_flash: bool = toggle(
        "--use-flash", "--no-flash", default=True, help="order of Adam's moments in files; computes the same"
    )
    use_checkpointing: bool = toggle(
        "--use-checkpointing", "--no-checkpointing", default=True, help="recompute activations: less memory"
    )
    warmup: int = flag(
        "--warmup", value=int, shown="N", default=100, least=0, help="iterations of rising rate"
    )
    cos_decay_steps: int = flag(
        "--cos-decay-steps", value=int, shown="N", default=1000, least=1, help="iteration of the lowest rate"
    )
    cos_decay_restart: float = flag(
        "--cos-decay-restart", value=float, shown="X", default=1.1, least=0, help="growth of the period"
    )
    cos_decay_min: float = flag(
        "--cos-decay-min",
        value=float,
        shown="X",
        default=0.1,
        least=0,
        help="lowest rate as a share of alpha",
    )
    enable_restart: bool = toggle(
        "--enable-restart", "--disable-restart", default=False, help="begin the cosine anew after each period"
    )
    opt_past: int = flag(
        "--opt-past", value=int, shown="N", default=0, least=0, help="iterations the delta test looks back"
    )
    opt_delta: float = flag(
        "--opt-delta", value=float, shown="X", default=1e-5, help="stop at a smaller relative change"
    )
    opt_max_no_improvement: int = flag(
        "--opt-max-no-improvement", value=int, shown="N", default=0, help="stop after so many without a best"
    )
    epochs: int = flag("--epochs", value=int, shown="N", default=-1, help="stop after so many passes")
    adam_iter: int = flag(
        "--adam-iter", value=int, shown="N", default=256, least=0, help="iterations of this run"
    )
    adam_alpha: float = flag(
        "--adam-alpha", value=float, shown="X", default=1e-3, least=0, help="highest learning rate"
    )
    adam_min_alpha: float = flag(
        "--adam-min-alpha", value=float, shown="X", default=0.0, least=0, help="lowest, warm-up included"
    )
    adam_decay: float = flag(
        "--adam-decay", value=float, shown="X", default=0.1, least=0, help="decoupled weight decay"
    )
    adam_decay_min_ndim: int = flag(
        "--adam-decay-min-ndim", value=int, shown="N", default=2, help="decay tensors of so many dimensions"
    )
    adam_beta1: float = flag("--adam-beta1", value=float, shown="X", default=0.9, least=0, help="momentum")
    adam_beta2: float = flag(
        "--adam-beta2", value=float, shown="X", default=0.999, least=0, help="of squares"
    )
    adam_gclip: float = flag(
        "--adam-gclip", value=float, shown="X", default=1.0, help="largest gradient norm; 0: any"
    )
    adam_epsf: float = flag(
        "--adam-epsf", value=float, shown="X", default=0.0, help="stop at a smaller relative change of loss"
    )
    gpu_layers: int = flag(
        "-ngl", "--n-gpu-layers", value=int, shown="N", default=0, help="above 0: train on the GPU"
    )
    held_out: str = flag(
        "--held-out",
        value=str,
        shown="FILE|SHARE",
        default="",
        help="NEW: text, or last share of the training text, whose loss is shown at each save",
    )
    sample_stride: int = flag(
        "--sample-stride",
        value=int,
        shown="N",
        default=1,
        least=1,
        help="NEW: tokens from one sample to the next; --ctx sees each token once an epoch",
    )
    pad_loss: bool = toggle(
        "--pad-loss",
        "--no-pad-loss",
        default=True,
        help="NEW: padding after the first EOS counts in the loss",
    )
    fit_schedule: bool = toggle(
        "--fit-schedule", default=False, help="NEW: rise from the first step, fall until the end of this run"
    )


@dataclass(frozen=True)
class ScratchOptions(TrainerOptions):
    """``train-text-from-scratch``."""

    vocab_model: str = flag(
        "--vocab-model",
        value=str,
        shown="FNAME",
        default="ggml-vic7b-uncensored-q4_0.bin",
        help="vocabulary: a GGUF file, a tokenizer directory or a sentencepiece .model",
    )
    model_out: str = flag(
        "--model-out",
        value=str,
        shown="FNAME",
        default="ggml-checkpoint-f32.bin",
        help="model for inference to write; '' for none",
    )
    only_write_model: bool = toggle(
        "--only-write-model", default=False, help="write the model of a checkpoint, and do not train"
    )
    embd: int = flag("--embd", value=int, shown="N", default=256, least=1, help="embedding width")
    ff: int = flag("--ff", value=int, shown="N", default=768, least=1, help="feed-forward width")
    head: int = flag("--head", value=int, shown="N", default=8, least=1, help="attention heads")
    layer: int = flag("--layer", value=int, shown="N", default=16, least=1, help="layers")
    norm_rms_eps: float = flag(
        "--norm-rms-eps", value=float, shown="X", default=1e-5, least=0, help="epsilon of RMS norms"
    )
    rope_freq_base: float = flag(
        "--rope-freq-base", value=float, shown="X", default=10_000.0, least=1, help="base of rotary positions"
    )
    rope_freq_scale: float = flag(
        "--rope-freq-scale", value=float, shown="X", default=1.0, least=0, help="factor on positions"
    )
    norms_at_one: bool = toggle(
        "--norms-at-one", default=False, help="NEW: norm gains begin at 1, not at random values"
    )
