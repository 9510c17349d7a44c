"""How well the plan foresees putting a model in fewer bits: planned against measured, random weights.

Each line is a process of its own with one thread. Time is that of the processor, of the work and of the
matrix multiplication that it is planned by, so that other programs disturb little; memory is what the process
holds at most beyond what it held just before.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from congling.core import machine
from congling.core.units import show_bytes
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.plan.quantisation import AT_ONCE, plan_quantisation
from congling.quant.config import GptqConfig, RtnConfig
from measuring import Options
from reporting import Table

SHAPES: dict[str, dict[str, int]] = {
    "5 M": {"vocab_size": 4000, "max_position_embeddings": 256, "num_hidden_layers": 5, "hidden_size": 256},
    "100 M": {
        "vocab_size": 16_000,
        "max_position_embeddings": 512,
        "num_hidden_layers": 12,
        "hidden_size": 768,
    },
    "tiny": {"vocab_size": 100, "max_position_embeddings": 32, "num_hidden_layers": 1, "hidden_size": 64},
}
MEASURED = {
    "full": (("rtn", "5 M", 0), ("gptq", "5 M", 32_768), ("rtn", "100 M", 0), ("gptq", "100 M", 32_768)),
    "quick": (("rtn", "5 M", 0), ("gptq", "5 M", 32_768)),
    "tiny": (("gptq", "tiny", 2048),),
}
"""Method, shape, tokens of calibration."""
METHODS = {"rtn": RtnConfig(), "gptq": GptqConfig()}
MISSES = 10
"""Sizes of a page are seen by the system alone: below so many MB nothing is said of memory."""


def foreseen(options: Options) -> Table:
    """One line a method and shape."""
    columns = ("model", "method", "tokens", "planned time", "measured", "planned ÷ measured",
               "planned memory", "measured", "planned ÷ measured")  # fmt: skip
    table = Table("Fewer bits", columns)
    for method, name, tokens in MEASURED[options.effort]:
        found = measured(method, name, tokens)
        planned = plan_quantisation(shape(name), METHODS[method], peak=found["peak"], tokens=tokens)
        memory = planned.memory / found["bytes"] if found["bytes"] > MISSES * 2**20 else None
        late = f"{planned.seconds / found['seconds']:.2f}"
        held = show_bytes(planned.memory), show_bytes(found["bytes"])
        read = f"{tokens:,}" if tokens else "–"
        spent = f"{planned.seconds:.1f} s", f"{found['seconds']:.1f} s", late
        table.rows.append((name, method, read, *spent, *held, "–" if memory is None else f"{memory:.2f}"))
    table.notes.append("Seconds of one processor; memory besides the model in floats.")
    return table


def shape(name: str) -> ModelConfig:
    """A Llama of this size."""
    return FAMILIES["llama"](**SHAPES[name])  # type: ignore[arg-type]


def measured(method: str, name: str, tokens: int) -> dict[str, float]:
    """Seconds, bytes and the speed of a matrix multiplication, in a process of its own."""
    words = [sys.executable, str(Path(__file__)), method, name, str(tokens)]
    found = subprocess.run(
        words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(found.stdout.splitlines()[-1])


def _work(method: str, name: str, tokens: int) -> dict[str, float]:
    import torch

    from congling.model.transformer import Transformer
    from congling.quant.apply import quantise

    for one, read in (("tiny", AT_ONCE), (name, tokens)):  # the first loads what the work needs
        config = shape(one)
        model, length = Transformer(config), config.max_position_embeddings
        rows: list[Any] = []
        for _ in range(read // AT_ONCE):
            rows.append((torch.randint(0, config.vocab_size, (AT_ONCE // length, length)), None, None))
        peak = _speed()
        _forget_peak()
        before, begun = machine.memory_used(), time.process_time()
        quantise(model, METHODS[method], rows)
        seconds = time.process_time() - begun
    held = _peak_memory() - before
    return {"seconds": seconds, "bytes": held, "peak": max(peak, _speed())}


def _speed() -> float:
    """Float32 operations a second of the processor's time, the best of some multiplications."""
    import torch

    square, best = torch.ones(1024, 1024), 0.0
    for _ in range(8):
        begun = time.process_time()
        torch.mm(square, square)
        best = max(best, 2 * 1024**3 / (time.process_time() - begun))
    return best


def _forget_peak() -> None:
    """Count the peak of memory from here on, where the system can."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(_work(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
