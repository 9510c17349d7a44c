"""Checkpoints of training scripts (``torch.save``): nanoGPT, llama2.c, baby-llama2-chinese, MiniMind.

=====================  ===========================  ==========================================================
program                told by                      what its file does not say
=====================  ===========================  ==========================================================
nanoGPT                ``transformer.wte.weight``   a bare state dict: heads
llama2.c, baby-llama2  ``tok_embeddings.weight``    a bare state dict (baby-llama2, early MiniMind): heads
MiniMind               ``model.embed_tokens.…``     without query norms: heads; rotary base, positions
nanochat               ``attn.c_q`` without norms   refused: it has parts that are not known here
=====================  ===========================  ==========================================================

Names lose ``_orig_mod.`` (a compiled model) and ``module.`` (a distributed one). What a file does not say is
asked for, never guessed: a wrong number of heads gives a model that computes nonsense without an error.
"""

from pathlib import Path

from congling.core.config import build
from congling.interop.foreign import ForeignModel
from congling.interop.torch_archive import TorchArchive
from congling.interop.torch_programs import TOKENIZERS, program_of
from congling.interop.torch_state import Missing, StateWeights, opened
from congling.model.config import ModelConfig


def read(path: Path, given: Missing | None = None) -> ForeignModel:
    """Open a checkpoint of one of these programs; tensors are read when asked for.

    Raises:
        UserError: no such archive, more in it than tensors, a model that is not known here, or one that does
            not say enough.
    """
    archive = TorchArchive(path)
    state = opened(archive, given or Missing())
    program, make = program_of(state)
    values, entries, changes, notes = make(state)
    config = build(ModelConfig, values, where=path)
    weights = StateWeights(state, entries, changes, config)
    facts = {"name": path.stem, "notes": notes, "tokenizer": TOKENIZERS[program], "program": program}
    return ForeignModel(config, weights, None, facts)
