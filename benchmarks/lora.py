"""Tokens/s and peak memory of LoRA on a Q8_0 base in GGUF, beside PEFT on the dequantised base.

Rank 8 on every linear layer of the blocks, batch 4 × 64, AdamW, float32 products, with and without gradient
checkpointing, and once with DoRA. Every measurement is a process of its own; contenders alternate within a
round.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch

from congling.core import machine
from congling.core.units import show_bytes, show_count
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.families import llama
from congling.model.transformer import Transformer
from measuring import Options, Spread, peak_memory, ratios
from reporting import Report, Skipped, Table

ROWS, CONTEXT, RANK = 4, 64, 8
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 256,
        "max_position_embeddings": CONTEXT,
        "num_hidden_layers": 1,
        "hidden_size": 64,
    },
    "110 M": {
        "vocab_size": 32_000,
        "max_position_embeddings": CONTEXT,
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_attention_heads": 12,
    },
    "500 M": {
        "vocab_size": 32_000,
        "max_position_embeddings": CONTEXT,
        "num_hidden_layers": 24,
        "hidden_size": 1280,
        "intermediate_size": 3456,
        "num_attention_heads": 20,
    },
}
CHOSEN = {"full": ("110 M", "500 M"), "quick": ("110 M",), "tiny": ("tiny",)}
EFFORT = {"full": (3, 8), "quick": (2, 4), "tiny": (1, 1)}
"""Rounds, timed steps of each process."""
WARM_UP = 2

COLUMNS = ("contender", "checkpointing", "tokens/s", "tokens/CPU s", "peak memory", "above imports",
           "of the GGUF file", "speed to PEFT", "CPU speed to PEFT", "memory to PEFT")  # fmt: skip
NOTES = (
    "Median (lowest–highest) over processes; ratios are of processes of the same round. A busy machine "
    "changes tokens/s of the clock, hardly those of a CPU second.",
    "Peak memory is the resident set, mapped file pages included; 'above imports' is less what the process "
    "held after importing its libraries; 'of the GGUF file' is that as a share of the file (aim: 135 %).",
    "PEFT's base has the same shapes in float32 from the start: nothing is read or dequantised for it.",
)


def run(options: Options) -> Report:
    """Measure every shape of this effort.

    Raises:
        Skipped: the peer is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise Skipped("needs peft: pip install 'congling[hf]'")
    report = Report([])
    for shape in CHOSEN[options.effort]:
        with tempfile.TemporaryDirectory(prefix="lora-") as folder:
            base = Path(folder) / "base.gguf"
            config = llama(**SHAPES[shape])
            gguf_model.write(ForeignModel(config, _RandomWeights(config)), base, type="Q8_0")
            report.tables.append(_measured(shape, config, base, *EFFORT[options.effort], data=report.data))
    return report


@dataclass
class Contender:
    """Who trains, and what its processes measured."""

    who: str
    recompute: bool
    dora: bool = False
    found: list[dict[str, float]] = field(default_factory=list)

    def measure(self, base: Path, config: ModelConfig, steps: int) -> None:
        """Train in a process of its own.

        Raises:
            RuntimeError: it failed.
        """
        order = {"who": self.who, "recompute": self.recompute, "dora": self.dora, "base": str(base)}
        order["steps"] = steps
        order["config"] = config.model_dump(mode="json")
        command = [sys.executable, __file__, json.dumps(order)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.who} failed:\n{done.stderr[-3000:]}")
        self.found.append(json.loads(done.stdout.splitlines()[-1]))

    def values(self, name: str) -> tuple[float, ...]:
        """One measure of every process."""
        return tuple(found[name] for found in self.found)


def _measured(
    shape: str, config: ModelConfig, base: Path, rounds: int, steps: int, data: dict[str, Any]
) -> Table:
    ways = ((False, False), (True, False), (False, True))
    contenders = [Contender(who, *way) for way in ways for who in ("congling", "PEFT")]
    for _ in range(rounds):
        for contender in contenders:
            contender.measure(base, config, steps)
    size = base.stat().st_size
    title = f"LoRA on {shape}: {show_count(parameters(config))} parameters, Q8_0 file of {show_bytes(size)}"
    table = Table(f"{title}, {os.cpu_count()} cores", COLUMNS, notes=list(NOTES))
    for contender in contenders:
        way = (contender.recompute, contender.dora)
        peer = next(c for c in contenders if c.who == "PEFT" and (c.recompute, c.dora) == way)
        to_peer = [
            ratios(contender.values(name), peer.values(name)).show("{:.2f}×")
            for name in ("tokens_per_second", "tokens_per_cpu_second", "peak_above_imports")
        ]
        above = Spread(contender.values("peak_above_imports"))
        name = f"{contender.who}, DoRA" if contender.dora else contender.who
        table.rows.append(
            (
                name,
                "on" if contender.recompute else "off",
                Spread(contender.values("tokens_per_second")).show(),
                Spread(contender.values("tokens_per_cpu_second")).show(),
                show_bytes(Spread(contender.values("peak")).median),
                show_bytes(above.median),
                f"{above.median / size:.0%}",
                *to_peer,
            )
        )
    data[shape] = {
        "gguf_bytes": size,
        "contenders": [
            {"who": c.who, "recompute": c.recompute, "dora": c.dora, "found": c.found} for c in contenders
        ],
    }
    return table


class _RandomWeights(Mapping[str, torch.Tensor]):
    """Weights drawn when they are asked for."""

    def __init__(self, config: ModelConfig) -> None:
        with torch.device("meta"):
            state = Transformer(config).state_dict()
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        shape = self.shapes[name]
        return torch.ones(shape) if "norm" in name else torch.randn(shape) * shape[-1] ** -0.5

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


# --- the contenders' own processes


def _congling(order: dict[str, Any]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    from congling.interop.gguf.packed import load_packed
    from congling.train.objectives.next_token import next_token
    from congling.transform import lora
    from congling.transform.config import AdapterConfig

    _note_imports()
    model = load_packed(order["base"])
    lora.attach(model, AdapterConfig(r=RANK, target_modules=("linear",), use_dora=order["dora"]))
    model.checkpoint_blocks(order["recompute"])
    if order["recompute"]:
        machine.return_freed_memory()
    _trained.extend(parameter for parameter in model.train().parameters() if parameter.requires_grad)

    def loss(tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        batch: Any = SimpleNamespace(
            tokens=tokens,
            targets=targets,
            weights=None,
            positions=None,
            documents=None,
            uncounted=None,
            count=float(targets.numel()),
        )
        return next_token(model, batch).total / targets.numel()

    return loss


def _peft(order: dict[str, Any]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    from peft import LoraConfig, get_peft_model

    import peers
    from congling.core.config import build

    _note_imports()
    base = peers.build(build(ModelConfig, order["config"]))
    adapter = LoraConfig(
        r=RANK, lora_alpha=RANK, use_dora=order["dora"], target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, adapter)
    if order["recompute"]:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    _trained.extend(parameter for parameter in model.train().parameters() if parameter.requires_grad)
    return lambda tokens, targets: model(input_ids=tokens, labels=tokens).loss


_trained: list[torch.nn.Parameter] = []
_imported: list[int] = []


def _note_imports() -> None:
    """Note the memory that imports alone take."""
    _imported.append(psutil.Process().memory_info().rss)


def main() -> None:
    """Train as ordered on the command line and print what was measured."""
    order = json.loads(sys.argv[1])
    torch.set_flush_denormal(True)
    loss = {"congling": _congling, "PEFT": _peft}[order["who"]](order)
    optimizer = torch.optim.AdamW(_trained, lr=2e-4)
    vocabulary, generator = order["config"]["vocab_size"], torch.Generator().manual_seed(0)

    def step() -> None:
        ids = torch.randint(0, vocabulary, (ROWS, CONTEXT + 1), generator=generator)
        loss(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM_UP):
        step()
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in range(order["steps"]):
        step()
    tokens = ROWS * CONTEXT * order["steps"]
    peak = peak_memory("cpu")
    found = {
        "tokens_per_second": tokens / (time.perf_counter() - clock),
        "tokens_per_cpu_second": tokens / (time.process_time() - cpu),
        "peak": peak,
        "peak_above_imports": peak - _imported[0],
        "trained": sum(parameter.numel() for parameter in _trained),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
