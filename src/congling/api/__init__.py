"""What ``import congling`` offers: from a text to a model and onward, as plain functions.

::

    train(texts, out=…) ─→ a run ─┬─ generate · chat ─→ texts
                                  ├─ evaluate ─→ scores
    load(model) · tokenizer(model)├─ quantize(out=…) ─→ a checkpoint in fewer bits ─ damage ─→ what it lost
                                  └─ convert(to=…) ─→ a model for another program

A model is the path of a run, a checkpoint or a GGUF file, or what ``load`` returned. Mistakes that a person
can mend raise :class:`congling.core.errors.UserError`.
"""

from congling.api.steps import convert, damage, evaluate, quantize, train
from congling.api.writing import chat, generate, load, tokenizer

__all__ = ["chat", "convert", "damage", "evaluate", "generate", "load", "quantize", "tokenizer", "train"]
