"""What both trainers do and print before the first iteration."""

# P trained values

import time
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from congling.core import machine
from congling.core.errors import UserError
from congling.interop import llamacpp_checkpoint as checkpoints
from congling.interop.gguf.file import GGUFFile
from congling.interop.llamacpp_checkpoint import Kind, Moments, Progress, Slot
from congling.llamacpp_trainers.console import Print, size_line
from congling.llamacpp_trainers.options import TrainerOptions
from congling.model.config import ModelConfig

_Options = TypeVar("_Options", bound=TrainerOptions)


def with_seed(options: _Options, out: Print) -> _Options:
    """The options with a seed: that of the command line, or the time."""
    options = replace(options, seed=int(time.time()) if options.seed == -1 else options.seed)
    out(f"main: seed: {options.seed}")
    return options


def use_machine(options: TrainerOptions, out: Print) -> None:
    """Compute on as many threads as asked for, but not on more than there are processors."""
    torch.set_num_threads(min(options.threads, machine.cores()))
    if options.gpu_layers > 0 and not torch.cuda.is_available():
        out("main: note: -ngl has no effect: there is no GPU that can be used here")


def checkpoint_in(options: TrainerOptions, kind: Kind, out: Print) -> GGUFFile | None:
    """The file to go on from; ``None`` where its name is empty or there is none, which is a new start.

    Raises:
        UserError: it is a checkpoint of the other trainer, or damaged.
    """
    if not options.checkpoint_in or not Path(options.checkpoint_in).exists():
        return None
    file = GGUFFile.open(options.checkpoint_in)
    found = checkpoints.kind_of(file)
    if found is None and kind == "finetune_lora":
        raise UserError(
            "this is no checkpoint of finetune",
            value=options.checkpoint_in,
            hint="--model-base takes models; --checkpoint-in '' begins anew",
        )
    if found not in (None, kind):
        raise UserError(f"this is a checkpoint of another kind: {found}", value=options.checkpoint_in)
    if found is None:
        out("load_checkpoint_gguf: loaded llama model as checkpoint")
    return file


def progress(file: GGUFFile | None, options: TrainerOptions, *, training: bool = True) -> Progress:
    """The counters to go on from, zeros for a new start or a plain model.

    Raises:
        UserError: this run is ``training``, and ``--opt-past`` is not what the checkpoint was begun with.
    """
    if file is None or checkpoints.kind_of(file) is None:
        return Progress()
    done = checkpoints.progress_of(file)
    if training and done.past != options.opt_past:
        raise UserError(
            "--opt-past is another than the checkpoint was begun with",
            where=file.path,
            value=options.opt_past,
            hint=f"give --opt-past {done.past}",
        )
    return done


def moments(file: GGUFFile | None, slots: list[Slot], options: TrainerOptions, out: Print) -> Moments | None:
    """Adam's moments to go on with; a note says what was taken for the order of another program's."""
    if file is None or checkpoints.kind_of(file) is None:
        return None
    found = checkpoints.moments_of(file, slots, flash=options.use_flash)
    if found is None:
        out("main: note: the checkpoint's optimizer is L-BFGS; Adam's moments begin at zero")
        return None
    moments, walk = found
    if checkpoints.ORDER not in file.fields:
        side = "left to right" if walk.left_to_right else "right to left"
        flash = "with" if walk.flash else "without"
        out(f"main: note: Adam's moments are read as a program {flash} flash attention stores them, {side}")
    return moments


def past_losses(file: GGUFFile | None, options: TrainerOptions) -> np.ndarray:
    """Losses for the delta test: the checkpoint's, or none yet."""
    found = np.zeros(0, np.float32) if file is None else checkpoints.past_losses(file)
    return found if len(found) == options.opt_past else np.zeros(options.opt_past, np.float32)


def print_model(config: ModelConfig, out: Print) -> None:
    """The sizes of the architecture."""
    rows = {
        "n_vocab": config.vocab_size,
        "n_ctx": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_ff": getattr(config.mlp, "intermediate_size", 0),
        "n_head": config.attention.num_attention_heads,
        "n_layer": config.num_hidden_layers,
        "n_rot": config.attention.head_dim,
    }
    for name, value in rows.items():
        out(f"print_params: {name + ':':<8} {value}")


def print_totals(done: Progress, out: Print) -> None:
    """The counters over all runs."""
    out(f"main: total train_iterations {done.iterations}")
    out(f"main: seen train_samples     {done.samples}")
    out(f"main: seen train_tokens      {done.tokens}")
    out(f"main: completed train_epochs {done.epochs}")


def print_begin(trained: int, out: Print) -> None:
    """The last lines before the first iteration; what a pass works with besides is its gradients."""
    out("main: begin training")
    out(size_line("work_size", 4 * trained))


def print_memory(
    config: ModelConfig, trained: int, options: TrainerOptions, name: str, iterations: int, out: Print
) -> None:
    """Bytes of what is trained (P values), of the optimizer's state and of a pass.

    The last is an estimate: hidden states that are kept, what one block needs, and a chunk of logits.
    """
    out(size_line(name, 4 * trained))
    out(size_line("opt_size ", 4 * 2 * trained))
    out(f"main: opt iter {iterations}")
    positions = options.batch * config.max_position_embeddings
    out(size_line("input_size", 2 * 8 * positions))
    hidden = getattr(config.mlp, "intermediate_size", config.hidden_size)
    block = positions * (8 * config.hidden_size + 4 * hidden)
    blocks = (
        config.num_hidden_layers * (positions * config.hidden_size if options.use_checkpointing else block)
        + block
    )
    out(size_line("compute_size", 4 * (blocks + min(positions * config.vocab_size, 2**21))))
    out("main: evaluation order = LEFT_TO_RIGHT")
