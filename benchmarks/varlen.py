"""Time of a step whose rows several texts share: attention text by text against the kernel behind a mask.

Both ways take turns on the same batch in one process (ABAB), so that what else the machine does meets both;
the last column says what the rule of ``model/varlen.py`` chooses. Rows are filled with texts of random
lengths around a mean, as packs of conversations are, and as pretraining's windows with a document mask.
"""

import time

import numpy as np
import torch

from congling.data.batches import Batch
from congling.data.packing import restarts
from congling.data.tuning.examples import Example, collated, packed
from congling.model import varlen
from congling.model.families import llama
from congling.model.transformer import Transformer
from congling.train.objectives.next_token import next_token
from measuring import Options, Spread, ratios
from reporting import Report, Table

VOCABULARY = 2048
SHAPES = {"full": ((128, 4), (224, 4), (512, 4)), "quick": ((128, 4),), "tiny": ((32, 2),)}
"""Width and layers; heads of 32 to 64 channels."""
PLACES = {"full": ((16, 256), (4, 1024)), "quick": ((8, 256), (2, 1024)), "tiny": ((1, 64),)}
"""Rows and places of a row."""
MEANS = {"full": (8, 16, 32, 75, 300), "quick": (8, 32, 75), "tiny": (16,)}
"""Mean tokens of a text."""
TURNS = {"full": 7, "quick": 4, "tiny": 1}


def run(options: Options) -> Report:
    """One table."""
    effort, rows = options.effort, list[tuple[str, ...]]()
    for width, layers in SHAPES[effort]:
        config = llama(
            vocab_size=VOCABULARY,
            max_position_embeddings=1024,
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=max(1, width // 56),
        )
        model = Transformer(config).train()
        for count, context in PLACES[effort]:
            for mean in MEANS[effort]:
                for kind, batch in _batches(count, context, mean).items():
                    rows.append(
                        (
                            f"{layers} × {width}",
                            f"{count} × {context}",
                            str(mean),
                            kind,
                            *_measured(model, batch, TURNS[effort]),
                        )
                    )
    headings = ("model", "rows", "mean tokens", "kind", "masked ms", "by text ms", "ratio", "chosen")
    return Report([Table("Steps over rows that texts share", headings, rows)])


def _batches(rows: int, context: int, mean: int) -> dict[str, Batch]:
    """Packs of examples, and windows with a document mask; a row full of each."""
    random = np.random.default_rng([rows, context, mean])

    def lengths() -> np.ndarray:
        return np.minimum(2 + random.geometric(1 / mean, 4 * rows * context // mean + rows), context)

    examples = []
    for length in lengths():
        ids = random.integers(0, VOCABULARY, length + 1).astype(np.int32)
        examples.append(Example(ids, np.ones(length + 1, bool), 0, ""))
    fullest = packed([one.length for one in examples], context)
    chosen = [fullest[i] for i in random.permutation(len(fullest))[:rows]]
    ends = np.cumsum(lengths())
    begins = np.searchsorted(ends, np.arange(rows * context), side="right").reshape(rows, context)
    tokens = random.integers(0, VOCABULARY, (rows, context))
    return {
        "packs": collated([[examples[i] for i in row] for row in chosen], context, 0),
        "windows": Batch(tokens, tokens, None, *restarts(begins), float(tokens.size)),
    }


def _measured(model: Transformer, batch: Batch, turns: int) -> tuple[str, str, str, str]:
    """Medians of both ways, their ratio turn by turn, and the rule's choice."""
    arrays = ("tokens", "targets", "weights", "positions", "documents")
    values = {name: getattr(batch, name) for name in arrays}
    placed = Batch(
        **{k: None if v is None else torch.from_numpy(np.ascontiguousarray(v)) for k, v in values.items()},
        count=batch.count,
    )
    channels = model.config.attention.num_attention_heads * model.config.attention.head_dim
    chosen = varlen.text_lengths(placed.documents, channels) if placed.documents is not None else None
    usual, varlen.CALL = varlen.CALL, 0
    found: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(turns + 1):
        for model.varlen in (False, True):
            start = time.perf_counter()
            (next_token(model, placed).total / batch.count).backward()
            model.zero_grad()
            if turn:
                found[model.varlen].append(1000 * (time.perf_counter() - start))
    varlen.CALL = usual
    masked, apart = found[False], found[True]
    return (
        Spread(tuple(masked)).show(),
        Spread(tuple(apart)).show(),
        ratios(apart, masked).show("{:.2f}"),
        "by text" if chosen else "mask",
    )
