"""From the training text to rows, in the former trainers' words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from congling.core.errors import UserError
from congling.data.batches import Batch
from congling.interop.llamacpp_checkpoint import Progress
from congling.llamacpp_trainers.adapter_options import FinetuneOptions
from congling.llamacpp_trainers.console import Print
from congling.llamacpp_trainers.options import TrainerOptions
from congling.llamacpp_trainers.rows import Filling, RowSource, straight_rows
from congling.llamacpp_trainers.samples import Samples, Splitting, read_text, split
from congling.llamacpp_trainers.shuffle import seeded
from congling.model.config import ModelConfig
from congling.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class Data:
    """What a run trains on."""

    source: RowSource
    hash: int
    """Of the samples: whether a checkpoint's place in the epoch still means anything."""
    held_out: Sequence[Batch]


def prepare(
    options: TrainerOptions, tokenizer: Tokenizer, config: ModelConfig, done: Progress, out: Print
) -> Data:
    """Tokenise, cut into samples, and go to where the checkpoint left off.

    Raises:
        UserError: the text cannot be read, is empty, or leaves nothing to train on.
    """
    finetuning, context = isinstance(options, FinetuneOptions), config.max_position_embeddings
    out("main: tokenize training data" + (f" from {options.train_data}" if finetuning else ""))
    if finetuning:
        out(f"main: sample-start: {options.sample_start}")
        out(f"main: include-sample-start: {str(options.include_sample_start).lower()}")
    text, held_out = _parted(read_text(options.train_data), options.held_out)
    how = Splitting.of(
        options.sample_start,
        escape=options.escape,
        include_pattern=options.include_sample_start,
        overlapping=options.overlapping_samples,
        stride=options.sample_stride,
    )
    samples = split(text, tokenizer, context, how, lambda line: out(f"tokenize_file: warning: {line}"))
    _print_samples(samples, finetuning, out)
    found = samples.fingerprint(options.train_data)
    state, place = starting_place(options, done, found, len(samples), out)
    source = RowSource(
        samples,
        _filling(options, tokenizer, context),
        state,
        place=place,
        samples_seen=done.samples,
        epochs=done.epochs,
        vocab_size=config.vocab_size,
    )
    tokens = np.array(tokenizer.encode(held_out), np.int64) if held_out else np.zeros(0, np.int64)
    rows = list(straight_rows(tokens, tokenizer.bos_id, context, options.batch)) if held_out else []
    return Data(source, found, rows)


def starting_place(
    options: TrainerOptions, done: Progress, samples_hash: int, count: int, out: Print
) -> tuple[str, int]:
    """Shuffle state and place in the epoch: the checkpoint's, or a new epoch's for other samples."""
    if not done.iterations:
        return seeded(options.seed), 0
    changed = done.sample_count != count or done.samples_hash != samples_hash
    if done.shuffle_state and not changed and not options.force_reshuffle:
        return done.shuffle_state, done.next_sample
    if options.force_reshuffle:
        out("main: forced reshuffling of data. restarting with newly shuffled epoch.")
    else:
        out("main: train data seems to have changed. restarting shuffled epoch.")
    return seeded(options.seed), 0


def _filling(options: TrainerOptions, tokenizer: Tokenizer, context: int) -> Filling:
    return Filling(
        context,
        tokenizer.bos_id,
        tokenizer.eos_id,
        options.batch,
        fill=options.fill_with_next_samples,
        separate_eos=options.separate_with_eos,
        separate_bos=options.separate_with_bos,
        random_offsets=options.sample_random_offsets,
        train_on_padding=options.pad_loss,
    )


def _print_samples(samples: Samples, finetuning: bool, out: Print) -> None:
    out(f"tokenize_file: total number of samples: {len(samples)}")
    out(f"main: number of training tokens: {len(samples.tokens)}")
    if finetuning:
        out(f"main: number of unique tokens: {len(np.unique(samples.tokens))}")


def _parted(text: str, held_out: str) -> tuple[str, str]:
    """The text to train on, and that to measure on: a share of its end, or another file.

    Raises:
        UserError: neither a file nor a share between 0 and 1.
    """
    if not held_out:
        return text, ""
    if Path(held_out).is_file():
        return text, read_text(held_out)
    try:
        share = float(held_out)
    except ValueError:
        share = 0.0
    cut = len(text) - round(len(text) * share)
    if not 0 < share < 1 or not 0 < cut < len(text):
        raise UserError("--held-out is a file, or a share of the text such as 0.05", value=held_out)
    line = text.find("\n", cut) + 1  # a border between lines, if there is one
    cut = line if 0 < line < len(text) else cut
    return text[:cut], text[cut:]
