"""``finetune``: a low-rank adapter of every weight of a GGUF model, which stays packed as it is."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from congling.core import machine
from congling.core.errors import UserError
from congling.interop import llamacpp_checkpoint as checkpoints
from congling.interop.adapters import ggla
from congling.interop.adapters import gguf as gguf_adapter
from congling.interop.gguf.architectures import architecture_of
from congling.interop.gguf.contents import require_model
from congling.interop.gguf.file import Field, GGUFFile, write_gguf
from congling.interop.gguf.packed import load_packed
from congling.interop.llamacpp_checkpoint import Slot
from congling.llamacpp_trainers import finetune_model, notes, startup, vocabulary
from congling.llamacpp_trainers.adapter_options import FinetuneOptions
from congling.llamacpp_trainers.console import Print, say
from congling.llamacpp_trainers.data import prepare
from congling.llamacpp_trainers.finetune_model import Base
from congling.llamacpp_trainers.options import LONGEST_ROWS
from congling.llamacpp_trainers.outputs import output_names, write_copies
from congling.llamacpp_trainers.session import Job, Session, Snapshot
from congling.transform import lora
from congling.transform.adapter import Adapter, Factors

KIND: checkpoints.Kind = "finetune_lora"


def run(options: FinetuneOptions, out: Print = say) -> None:
    """Train as the command line says, from the checkpoint where there is one; ``inputs.require`` goes before.

    Raises:
        UserError: a file cannot be read, or contradicts the command line.
        Interrupted: Ctrl-C; the checkpoint is saved.
    """
    options = startup.with_seed(options, out)
    startup.use_machine(options, out)
    out(f"main: model base = '{options.model_base}'")
    base_file = GGUFFile.open(options.model_base)
    require_model(base_file)
    file = startup.checkpoint_in(options, KIND, out)
    words = vocabulary.of_file(base_file)
    out("main: init model")
    base = _base(options, base_file, file)
    ranks = finetune_model.chosen_ranks(options, base.config, file)
    slots = finetune_model.slots_of(base, ranks)
    scale = options.alpha / options.lora_r if options.lora_scale_in_training else 1.0
    parameters = finetune_model.attached(base, slots, file, options.seed, scale)
    done = startup.progress(file, options, training=not options.only_write_lora)
    files = _Files(options, base, slots, parameters, ranks, out)
    if options.only_write_lora:
        if file is None:
            raise UserError("there is no checkpoint to write an adapter of", value=options.checkpoint_in)
        return files.write_adapter(done.iterations)
    startup.print_model(base.config, out)
    for name, (key, _) in finetune_model.RANKS.items():
        out(f"print_lora_params: n_rank_{key + ':':<14} {ranks[name]}")
    startup.print_totals(done, out)
    trained = sum(slot.size for slot in slots)
    startup.print_memory(base.config, trained, options, "lora_size", done.iterations, out)
    for line in notes.of_finetune(
        options, words, ranks, done.iterations, tied=base.config.tie_word_embeddings
    ):
        out(f"main: note: {line}")
    data = prepare(options, words.tokenizer, base.config, done, out)
    job = Job(
        base.model,
        slots,
        parameters,
        files.save,
        startup.moments(file, slots, options, out),
        done,
        startup.past_losses(file, options),
    )
    startup.print_begin(trained, out)
    Session(job, data.source, options, samples_hash=data.hash, held_out=data.held_out, out=out).run()


def _base(options: FinetuneOptions, base_file: GGUFFile, file: GGUFFile | None) -> Base:
    """The packed model, with rows as long as the command line or else the checkpoint says."""
    architecture, context = architecture_of(base_file), options.ctx
    if file is not None and "ctx" not in options.given:
        context = file.integer(f"{architecture}.context_length", context)
        if not 0 < context <= LONGEST_ROWS:
            raise UserError("rows of this length cannot be trained on", where=file.path, value=context)
    model = load_packed(base_file, context=context)
    if options.use_checkpointing:  # whoever recomputes wants little memory more than speed
        machine.return_freed_memory()
    finetune_model.overridden(model, options, context)
    base = Base(model, architecture)
    if file is not None:
        finetune_model.check_checkpoint(file, base, scale_in_training=options.lora_scale_in_training)
    return base


class _Files:
    """What a save writes."""

    def __init__(
        self,
        options: FinetuneOptions,
        base: Base,
        slots: list[Slot],
        parameters: Mapping[str, nn.Parameter],
        ranks: Mapping[str, int],
        out: Print,
    ) -> None:
        self.options, self.base, self.slots, self.parameters, self.out = options, base, slots, parameters, out
        self.fields = finetune_model.checkpoint_fields(
            base, ranks, scale_in_training=options.lora_scale_in_training
        )

    def save(self, state: Snapshot) -> None:
        """The checkpoint and the adapter, each under two names."""
        progress, options = state.progress, self.options
        fields = {"training.type": Field("string", KIND), **self.fields}
        fields |= checkpoints.training_fields(
            progress, self.slots, state.moments.since, flash=options.use_flash
        )
        names = output_names(options.checkpoint_out, options, progress.iterations)
        for name in names:
            self.out(f"save_checkpoint_lora_file: saving to {name}")
        tensors = finetune_model.factor_tensors(self.slots, self.parameters)
        tensors += checkpoints.training_tensors(
            self.slots, state.moments, state.past, flash=options.use_flash
        )
        write_copies(names, lambda path: write_gguf(path, fields, tensors, overwrite=True))
        self.write_adapter(progress.iterations)

    def write_adapter(self, iteration: int) -> None:
        """The adapter, which acts alpha / r times as strong as its factors alone."""
        names = output_names(self.options.lora_out, self.options, iteration)
        for name in names:
            self.out(f"save_as_llama_lora: saving to {name}")
        write_copies(names, self._write)

    def _write(self, path: Path) -> None:
        options, config = self.options, self.base.config
        trained = lora.adapter_of(self.base.model).factors
        scale = options.alpha / options.lora_r
        adapter = Adapter(
            {name: Factors(part.a, part.b, scale) for name, part in trained.items()},
            {"name": Path(options.train_data).stem},
        )
        if options.adapter_format == "gguf":
            gguf_adapter.write(adapter, config, path, self.base.architecture, overwrite=True)
        else:
            header = (options.lora_r, options.alpha)
            ggla.write(adapter, config, path, self.base.architecture, header=header, overwrite=True)
