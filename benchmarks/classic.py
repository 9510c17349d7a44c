"""The shape of llama.cpp's train-text-from-scratch: llama, 256 × 16 layers, 8 heads, context 64, batch 16.

With Baichuan's vocabulary of 64,000 and an output layer of its own, two thirds of the arithmetic are
logits: the shape asks for a good cross-entropy more than for anything else. The old trainer itself is not
run here; its figure is quoted.
"""

from congling.model.presets import preset
from measuring import Options, Spread
from pacing import Workload
from reporting import Report, Table
from throughput import TURNS, race

QUOTED = 41.0
"""Tokens/s of train-text-from-scratch on this shape, 2 such cores: an outside figure, not measured."""


def run(options: Options) -> Report:
    """Measure the whole training step, eager and compiled."""
    model, rows = preset("classic", vocab_size=64_000, max_position_embeddings=64, intermediate_size=768), 16
    if options.effort == "tiny":
        model, rows = (
            preset(
                "classic",
                vocab_size=500,
                max_position_embeddings=64,
                intermediate_size=768,
                num_hidden_layers=1,
            ),
            2,
        )
    ways = (False,) if options.effort == "tiny" else (False, True)
    loads = [Workload(who="congling", model=model, rows=rows, compile=compiled) for compiled in ways]
    columns = ("contender", "tokens/s", "MFU", "start to first steps", "peak memory", "to the quoted figure")
    size = f"{model.hidden_size} × {model.num_hidden_layers}, T={model.max_position_embeddings}"
    table = Table(f"llama {size}, {rows} rows, vocabulary {model.vocab_size:,}, AdamW, fp32", columns)
    table.rows.append(("train-text-from-scratch (quoted)", f"about {QUOTED:.0f}", "–", "–", "–", "1"))
    data = {"quoted_tokens_per_second": QUOTED, "contenders": {}}
    for timing in race(loads, *TURNS[options.effort]):
        gain = Spread(tuple(speed / QUOTED for speed in timing.speeds)).show("{:.1f}×")
        table.rows.append((*timing.cells(), "–" if options.effort == "tiny" else gain))
        data["contenders"][timing.workload.name] = timing.facts()
    table.notes.append(
        "Whole step: forward, backward, clipping, AdamW on every parameter. Median (lowest–highest)."
    )
    table.notes.append(
        "The quoted figure was taken on 2 cores of the same kind, on another day: a scale, not a race."
    )
    return Report([table], data)
