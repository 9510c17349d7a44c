"""One line for each habit of the former trainers that costs something, and the flag that does better."""

from collections.abc import Iterator, Mapping

from congling.llamacpp_trainers.adapter_options import NORM_RANKS, FinetuneOptions
from congling.llamacpp_trainers.options import ScratchOptions, TrainerOptions
from congling.llamacpp_trainers.vocabulary import Vocabulary


def of_scratch(options: ScratchOptions, words: Vocabulary, done: int, *, new: bool) -> Iterator[str]:
    """Habits that apply to this run of ``train-text-from-scratch``.

    ``done`` iterations are behind it; ``new``: its weights are random.
    """
    yield from _of_both(options, done)
    if new and not options.norms_at_one:
        yield "norm gains begin at random values; better: --norms-at-one"
    yield from _of_vocabulary(words)
    if words.kind == "t5" and options.model_out:
        yield (
            "a unigram vocabulary is written as today's llama.cpp reads it (t5); programs of 2023 load no "
            "such model: for them train a BPE vocabulary (spm_train --model_type=bpe --byte_fallback=true)"
        )
    if not words.tokenizer.lossless:
        yield "this vocabulary cannot spell every text: what it lacks is learnt as <unk>"


def of_finetune(
    options: FinetuneOptions, words: Vocabulary, ranks: Mapping[str, int], done: int, *, tied: bool
) -> Iterator[str]:
    """Habits that apply to this run of ``finetune``, ``done`` iterations behind it.

    ``ranks`` go by the name of the option's field.
    """
    yield from _of_both(options, done)
    yield from _of_vocabulary(words)
    if options.alpha != options.lora_r and not options.lora_scale_in_training:
        yield (
            "alpha / r is not applied in training, but by whoever loads the adapter, where it is "
            f"{options.alpha / options.lora_r:g} times as strong; better: --lora-scale-in-training"
        )
    norms = any(ranks[name] for name in NORM_RANKS)
    if options.adapter_format == "ggla":
        yield "today's llama.cpp does not load ggla adapters; better: --lora-out NAME.gguf"
    elif norms:
        yield "a GGUF adapter leaves out the norm gains that are trained here; --lora-format ggla holds them"
    else:
        yield "norm gains are not trained, as a GGUF adapter cannot hold them; --lora-format ggla trains them"
    if tied:
        yield "embedding and output are one matrix in this base: neither is adapted"


def _of_vocabulary(words: Vocabulary) -> Iterator[str]:
    if words.kind == "gpt2":
        yield (
            "a byte-level vocabulary (Falcon, GPT-NeoX, MPT, Refact, StarCoder, Aquila …) splits texts as "
            "today's llama.cpp does; programs of 2023 split some lines otherwise, and give other ids there"
        )


def _of_both(options: TrainerOptions, done: int) -> Iterator[str]:
    if options.use_flash and "use_flash" in options.given:
        yield "--use-flash computes the same: attention is always a fused kernel"
    if not options.held_out:
        yield "no text is held out: the loss is that of what is memorised; better: --held-out 0.05"
    if not options.fit_schedule:
        if not done and options.warmup > 0 and not options.adam_min_alpha:
            yield "the rate begins at 0, so the first update changes nothing; better: --fit-schedule"
        if not options.enable_restart:
            yield (
                f"the rate falls to {options.cos_decay_min:g} of its peak at iteration "
                f"{options.cos_decay_steps}, whenever the run ends; better: --fit-schedule"
            )
    if not options.sample_start and options.sample_stride == 1:
        yield (
            f"every token starts a sample: an epoch sees each about {options.ctx} times; "
            f"better: --sample-stride {options.ctx}"
        )
    if options.sample_start and options.pad_loss and not options.fill_with_next_samples:
        yield "short samples are filled with EOS, which is trained on; better: --no-pad-loss"
