"""Training time, memory and encoding speed of each kind of tokenizer, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.core import machine
from congling.core.config import build
from congling.core.units import show_bytes
from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import generate
from congling.tokenizer.config import TokenizerConfig
from measuring import Options
from reporting import Report, Table

SIZES = {"full": (20_000_000, 1_000_000_000), "quick": (5_000_000,), "tiny": (100_000,)}
"""Bytes of generated text, by effort; only ``bpe`` is trained on more than 100 MB."""
COLUMNS = ("kind", "corpus", "training", "peak memory", "vocabulary", "characters/token", "encoding MB/s")
LARGE = 100_000_000
VOCABULARY = 2000
ENCODED = 10_000_000  # characters


def run(options: Options) -> Report:
    """Train every kind on generated text, and on 红楼梦 where the corpora are at hand."""
    table, data = Table("Tokenizers", COLUMNS), []
    with tempfile.TemporaryDirectory() as folder:
        texts = [_written(Path(folder) / f"smallworld-{size}.txt", size) for size in SIZES[options.effort]]
        book = options.corpora and options.corpora / "hlm/hlm_001-080.txt"
        if book and book.is_file() and options.effort != "tiny":
            texts.append(book)
        for text in texts:
            for kind in ("bpe", "unigram", "character"):
                if kind == "bpe" or text.stat().st_size <= LARGE:
                    result = _measured(kind, text, Path(folder) / f"{kind}-{text.stem}")
                    table.rows.append(_row(kind, text, result))
                    data.append({"kind": kind, "corpus": text.name, "bytes": text.stat().st_size} | result)
    table.notes.append(
        "Peak memory is that of the whole process, which starts at about 60 MB; encoding on all cores."
    )
    return Report([table], {"tokenizers": data})


def _written(path: Path, size: int) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        for document in generate(SmallWorldConfig(size=size, seed=0)):
            stream.write(document.text + "\n\n")
    return path


def _measured(kind: str, text: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, kind, str(text), str(out)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])


def _row(kind: str, text: Path, result: dict[str, Any]) -> tuple[str, ...]:
    return (
        kind,
        f"{text.stem}, {show_bytes(text.stat().st_size)}",
        f"{result['training_seconds']:.1f} s",
        show_bytes(result["peak_bytes"]),
        f"{result['vocab_size']:,}",
        f"{result['characters_per_token']:.2f}",
        f"{result['megabytes_per_second']:.1f}",
    )


def measure(kind: str, text: Path, out: Path) -> dict[str, float]:
    """Train one tokenizer and encode the beginning of its text, in this process."""
    from congling.tokenizer.store import load
    from congling.tokenizer.training import train

    def texts() -> Iterator[str]:
        with text.open(encoding="utf-8") as stream:
            yield from stream

    start = time.perf_counter()
    vocab_size = (
        None if text.stat().st_size < LARGE and not text.stem.startswith("smallworld") else VOCABULARY
    )
    train(build(TokenizerConfig, {"kind": kind, "vocab_size": vocab_size}), texts, out)
    training = time.perf_counter() - start
    peak = machine.peak_memory_bytes()
    tokenizer = load(out)
    with text.open(encoding="utf-8") as stream:
        lines = stream.read(ENCODED).splitlines(keepends=True)
    start = time.perf_counter()
    ids = tokenizer.encode_batch(lines)
    seconds = time.perf_counter() - start
    return {
        "training_seconds": training,
        "peak_bytes": peak,
        "vocab_size": tokenizer.vocab_size,
        "characters_per_token": sum(map(len, lines)) / sum(map(len, ids)),
        "megabytes_per_second": sum(len(line.encode()) for line in lines) / 1e6 / seconds,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
