"""Tokens/s and peak memory of SFT, DPO, GRPO and reward models, beside TRL (and PEFT) on the same rows.

One random Llama-shaped model, written by our Hugging Face export and read by both; rows of real data with
their own lengths, turned into ids once. Float32, AdamW, no gradient checkpointing. Every measurement is a
process of its own; contenders alternate within a round.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from congling.core.units import show_bytes, show_count
from measuring import Options, Spread, ratios
from reporting import Report, Skipped, Table
from tuning_data import SIZES, prepare

METHODS = ("sft", "sft-lora", "dpo", "dpo-lora", "grpo", "reward")
TITLES = {
    "sft": "SFT, full", "sft-lora": "SFT, LoRA 8", "dpo": "DPO, full", "dpo-lora": "DPO, LoRA 8",
    "grpo": "GRPO, full", "reward": "reward model, full",
}  # fmt: skip
PEERS = {
    "sft": ("TRL", "TRL, by length", "TRL, packed"), "sft-lora": ("TRL", "TRL, by length"),
    "dpo": ("TRL", "TRL, reference first"), "dpo-lora": ("TRL", "TRL, reference first"),
    "grpo": ("TRL",), "reward": ("TRL", "TRL, by length"),
}  # fmt: skip
"""The library's defaults first, then what its options do for it on a CPU."""
CHOSEN = {"full": METHODS, "quick": ("sft", "dpo", "grpo"), "tiny": ("dpo-lora", "grpo")}
ROUNDS = {"full": 3, "quick": 1, "tiny": 1}

COLUMNS = ("method", "contender", "tokens/s", "tokens/CPU s", "peak above imports", "speed of congling to it",
           "CPU speed", "memory")  # fmt: skip
NOTES = (
    "Tokens are those of the rows, padding not counted; of a pair, those of both texts; for GRPO, prompts "
    "and answers, once for each answer. Median (lowest–highest) over processes; ratios are congling's to the "
    "contender's in the same round. A busy machine changes tokens/s of the clock more than those of a CPU "
    "second.",
    "DPO's reference is part of everybody's time: congling scores the rows once, as it does before a run, "
    "and the whole of that is charged to one pass; TRL runs the reference in every step, or once beforehand "
    "(“reference first”, which also orders rows by length).",
    "Memory is the highest resident set less what the process held after its imports.",
)


@dataclass
class Contender:
    """Who trains by which method, and what its processes measured."""

    method: str
    who: str
    found: list[dict[str, float]] = field(default_factory=list)

    def measure(self, folder: Path, sizes: Mapping[str, Any]) -> None:
        """Train in a process of its own.

        Raises:
            RuntimeError: it failed.
        """
        order = {"method": self.method, "who": self.who, "folder": str(folder), "sizes": dict(sizes)}
        script = "tuning_ours.py" if self.who == "congling" else "tuning_peers.py"
        command = [sys.executable, str(Path(__file__).with_name(script)), json.dumps(order)]
        # Without progress bars and look-ups: the folder is all there is to load.
        quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
        if done.returncode:
            raise RuntimeError(f"{self.who} failed at {self.method}:\n{done.stderr[-3000:]}")
        self.found.append(json.loads(done.stdout.splitlines()[-1]))

    def values(self, name: str) -> tuple[float, ...]:
        """One measure of every process."""
        return tuple(found[name] for found in self.found)


def run(options: Options) -> Report:
    """Measure the methods of this effort.

    Raises:
        Skipped: the peer is not installed, or there are no rows.
    """
    if importlib.util.find_spec("trl") is None:
        raise Skipped("needs trl and peft: pip install trl 'congling[hf]'")
    sizes = SIZES[options.effort]
    with tempfile.TemporaryDirectory(prefix="tuning-") as name:
        folder = Path(name)
        facts = prepare(folder, sizes, options)
        contenders = [
            Contender(method, who)
            for method in CHOSEN[options.effort]
            for who in ("congling", *(PEERS[method][:1] if options.effort == "tiny" else PEERS[method]))
        ]
        for _ in range(ROUNDS[options.effort]):
            for contender in contenders:
                contender.measure(folder, sizes)
    data = [{"method": c.method, "who": c.who, "found": c.found} for c in contenders]
    return Report([_table(contenders, facts)], {"facts": facts, "contenders": data})


def _table(contenders: Sequence[Contender], facts: Mapping[str, Any]) -> Table:
    threads = os.environ.get("OMP_NUM_THREADS", f"{os.cpu_count()}")
    size = f"{show_count(facts['parameters'])} parameters, {facts['vocab_size']:,} pieces"
    table = Table(f"Tuning beside TRL: {size}, {threads} thread(s)", COLUMNS, notes=list(NOTES))
    table.notes += [f"{key}: {value}" for key, value in facts["rows"].items()]
    for contender in contenders:
        ours = next(c for c in contenders if c.who == "congling" and c.method == contender.method)
        names = ("tokens_per_second", "tokens_per_cpu_second", "peak_above_imports")
        to_it = [ratios(ours.values(name), contender.values(name)).show("{:.2f}×") for name in names]
        table.rows.append(
            (
                TITLES[contender.method],
                contender.who,
                Spread(contender.values("tokens_per_second")).show(),
                Spread(contender.values("tokens_per_cpu_second")).show(),
                show_bytes(Spread(contender.values("peak_above_imports")).median),
                *(["–"] * 3 if contender is ours else to_it),
            )
        )
    return table
