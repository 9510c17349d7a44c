"""How fast the embedded corpus is generated, by kind of document, on one core."""

import time

from congling.core.units import show_bytes
from congling.data.smallworld.config import KINDS, Kind, SmallWorldConfig
from congling.data.smallworld.generator import generate
from measuring import Options, Spread
from reporting import Report, Table

SIZE = {"full": 20_000_000, "quick": 4_000_000, "tiny": 50_000}
"""Bytes generated a repetition, by effort."""
REPETITIONS = {"full": 5, "quick": 3, "tiny": 1}


def run(options: Options) -> Report:
    """Generate the default mix, then each kind of document alone."""
    table = Table(
        f"Small world, {show_bytes(SIZE[options.effort])}",
        ("documents", "MB/s of UTF-8", "characters/document"),
    )
    data = {}
    for name in ("default mix", *KINDS):
        mix: dict[Kind, float] | None = None if name == "default mix" else {name: 1.0}
        size = SIZE[options.effort] // (1 if mix is None else 5)
        runs = [_generate(size, mix, seed) for seed in range(REPETITIONS[options.effort])]
        speed = Spread(tuple(megabytes / seconds for megabytes, seconds, _ in runs))
        table.rows.append((name, speed.show("{:.1f}"), f"{runs[0][2]:.0f}"))
        data[name] = {"megabytes_per_second": speed.values, "characters_per_document": runs[0][2]}
    table.notes.append("One process; median (lowest–highest); building the grammar once is included.")
    return Report([table], data)


def _generate(size: int, mix: dict[Kind, float] | None, seed: int) -> tuple[float, float, float]:
    """Megabytes, seconds, and characters a document."""
    config = (
        SmallWorldConfig(size=size, seed=seed)
        if mix is None
        else SmallWorldConfig(size=size, seed=seed, mix=mix)
    )
    start = time.perf_counter()
    count = characters = written = 0
    for document in generate(config):
        count += 1
        characters += len(document.text)
        written += len(document.text.encode())
    return written / 1e6, time.perf_counter() - start, characters / count
