"""What stretched positions bring, before and after training at the new context, on the same held-out tokens.

The base reads L tokens. Each method extends it to 4 L; scored are blocks of L/4 tokens behind L/2 … 4 L
tokens of their own document, beside the sliding window of the base, which costs nothing and must be beaten.
"""

from typing import Any

import numpy as np

from congling.evals.length import tail_losses
from congling.evals.paired import paired
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer
from congling.transform.extend import Method, extended
from measuring import Effort, Options
from reporting import Report, Table
from small_base import documents, shape, train, windows

LEARNING = {
    "full": (4, 192, 256, 3000, 300, 240),
    "quick": (3, 128, 128, 1500, 150, 160),
    "tiny": (1, 32, 16, 2, 1, 8),
}
"""Layers, width and context of the base, its steps, steps at the new context, documents."""
FACTOR = 4
ROWS = 8
"""Rows of the old context in a step, or as many tokens in rows of the new one."""
WAYS: dict[str, tuple[Method, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "ntk, 2 s": ("ntk", {"factor": 2 * FACTOR}),
    "yarn 32/1": ("yarn", {}),
    "yarn 16/0.5": ("yarn", {"beta": (16.0, 0.5)}),
    "clex": ("clex", {}),
}


def run(options: Options) -> Report:
    """One table: every method, untrained and trained."""
    return Report([lengths(options.effort)])


def lengths(effort: Effort) -> Table:
    """Nats a token less than the sliding window (negative), with intervals over blocks."""
    layers, width, trained, base_steps, steps, count = LEARNING[effort]
    context = FACTOR * trained
    texts, vocabulary = documents(count, 4 * context)
    split = count * 3 // 4
    base = Transformer(shape(vocabulary, trained, layers, width))
    train(base, windows(texts[:split], trained), base_steps, at_once=ROWS, rate=2e-3)
    held = [row for text in texts[split:] for row in windows([text], context)]
    block = trained // FACTOR
    sliding = tail_losses(base, held, [trained], block)[:, 0]
    read = [trained // 2, trained, 2 * trained, context]
    columns = ("positions", "trained", *(f"{n:,} tokens" for n in read))
    title = f"Base of {trained}, {layers} × {width}: {sliding.mean():.4f} nats/token over its own window"
    table = Table(title, columns)

    def row(name: str, told: str, model: Transformer) -> None:
        found = tail_losses(model.eval(), held, read, block)
        table.rows.append((name, told, *(_below(sliding, column) for column in found.T)))

    plain = base.config.model_copy(update={"max_position_embeddings": context})
    row("as they are", "no", _copy(base, plain))
    rows = windows(texts[:split], context)
    for name, (method, given) in WAYS.items():
        model = _copy(base, extended(base.config, method, context, **given))
        row(name, "no", model)
        train(model, rows, steps, at_once=max(1, ROWS // FACTOR), rate=5e-4)
        row(name, f"steps: {steps}", model)
    table.notes.append(
        f"Difference to that window on the same {len(held) * block:,} tokens: below 0 is worth its cost. "
        "Intervals of 95 % are paired, over blocks."
    )
    return table


def _copy(base: Transformer, config: ModelConfig) -> Transformer:
    """The base's weights in a model of another configuration; what it adds begins as drawn."""
    model = Transformer(config)
    model.load_state_dict(base.state_dict(), strict=False)
    return model


def _below(sliding: np.ndarray, own: np.ndarray) -> str:
    found = paired(sliding.tolist(), own.tolist())
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
