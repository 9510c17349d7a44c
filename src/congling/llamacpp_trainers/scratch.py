"""``train-text-from-scratch``: a llama model trained from random weights, or from a checkpoint or model."""

from congling.core.errors import UserError
from congling.interop import llamacpp_checkpoint as checkpoints
from congling.interop.gguf.file import Field, GGUFFile, write_gguf
from congling.interop.llamacpp_checkpoint import Progress
from congling.llamacpp_trainers import notes, scratch_model, startup, vocabulary
from congling.llamacpp_trainers.console import Print, say
from congling.llamacpp_trainers.data import prepare
from congling.llamacpp_trainers.options import ScratchOptions
from congling.llamacpp_trainers.outputs import output_names, write_copies
from congling.llamacpp_trainers.session import Job, Session, Snapshot
from congling.llamacpp_trainers.vocabulary import Vocabulary
from congling.model.transformer import Transformer

KIND: checkpoints.Kind = "train_model"


def run(options: ScratchOptions, out: Print = say) -> None:
    """Train as the command line says, from the checkpoint where there is one; ``inputs.require`` goes before.

    Raises:
        UserError: a file cannot be read, or contradicts the command line.
        Interrupted: Ctrl-C; the checkpoint is saved.
    """
    options = startup.with_seed(options, out)
    startup.use_machine(options, out)
    file = startup.checkpoint_in(options, KIND, out)
    words = _vocabulary(options, file)
    out("main: init model")
    model = _model(options, file, words)
    slots = scratch_model.slots_of(model.config)
    done = startup.progress(file, options, training=not options.only_write_model)
    files = _Files(options, model, words, out)
    if options.only_write_model:
        if file is None:
            raise UserError("there is no checkpoint to write a model of", value=options.checkpoint_in)
        return files.write_model(done.iterations)
    startup.print_model(model.config, out)
    startup.print_totals(done, out)
    trained = sum(slot.size for slot in slots)
    startup.print_memory(model.config, trained, options, "model_size", done.iterations, out)
    for line in notes.of_scratch(options, words, done.iterations, new=file is None):
        out(f"main: note: {line}")
    data = prepare(options, words.tokenizer, model.config, done, out)
    job = Job(
        model,
        slots,
        dict(model.named_parameters()),
        files.save,
        startup.moments(file, slots, options, out),
        done,
        startup.past_losses(file, options),
    )
    startup.print_begin(trained, out)
    Session(job, data.source, options, samples_hash=data.hash, held_out=data.held_out, out=out).run()


def _vocabulary(options: ScratchOptions, file: GGUFFile | None) -> Vocabulary:
    """That of ``--vocab-model``; a checkpoint brings its own where that was not given."""
    if file is not None and "vocab_model" not in options.given and "tokenizer.ggml.tokens" in file.fields:
        return vocabulary.of_file(file)
    return vocabulary.opened(options.vocab_model)


def _model(options: ScratchOptions, file: GGUFFile | None, words: Vocabulary) -> Transformer:
    """With random weights, or those of the file, whose sizes win over the flags.

    Raises:
        UserError: the vocabulary has more tokens than the file's model.
    """
    size = words.tokenizer.vocab_size
    if file is None:
        model = Transformer(scratch_model.new_config(options, size))
        scratch_model.initialise(model, options.seed, norms_at_one=options.norms_at_one)
        return model
    config = scratch_model.stored_config(file, options.ctx if "ctx" in options.given else None)
    if size > config.vocab_size:
        raise UserError(
            f"the vocabulary has {size} tokens, and the checkpoint's model knows {config.vocab_size}",
            where=file.path,
            value=options.vocab_model,
            hint="name the --vocab-model it was begun with",
        )
    model = Transformer(config)
    scratch_model.loaded(model, file)
    return model


class _Files:
    """What a save writes."""

    def __init__(self, options: ScratchOptions, model: Transformer, words: Vocabulary, out: Print) -> None:
        self.options, self.model, self.out = options, model, out
        self.fields = scratch_model.model_fields(model.config, words)

    def save(self, state: Snapshot) -> None:
        """The checkpoint and the model, each under two names."""
        progress: Progress = state.progress
        slots = scratch_model.slots_of(self.model.config)
        fields = {"training.type": Field("string", KIND), **self.fields}
        fields |= checkpoints.training_fields(
            progress, slots, state.moments.since, flash=self.options.use_flash
        )
        names = output_names(self.options.checkpoint_out, self.options, progress.iterations)
        for name in names:
            self.out(f"save_checkpoint_file: saving to {name}")
        tensors = scratch_model.model_tensors(self.model)
        tensors += checkpoints.training_tensors(
            slots, state.moments, state.past, flash=self.options.use_flash
        )
        write_copies(names, lambda path: write_gguf(path, fields, tensors, overwrite=True))
        self.write_model(progress.iterations)

    def write_model(self, iteration: int) -> None:
        """The model for inference."""
        names = output_names(self.options.model_out, self.options, iteration)
        for name in names:
            self.out(f"save_llama_model_file: saving to {name}")
        tensors = scratch_model.model_tensors(self.model)
        write_copies(names, lambda path: write_gguf(path, self.fields, tensors, overwrite=True))
