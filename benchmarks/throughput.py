"""Tokens/s and share of the matmul peak of whole training steps, beside the same model in transformers.

A step is forward, backward, clipping and optimizer. Contenders run in processes of their own, a few steps
by turns; before and after each turn the matmul peak is measured, and the turn's utilisation is against the
mean of the two.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from congling.core import machine
from congling.core.units import show_bytes, show_count
from congling.model.config import ModelConfig
from congling.model.counts import flops_per_token
from congling.model.families import qwen3
from congling.model.presets import preset
from measuring import Effort, Options, Spread, matmul_peak, ratios
from pacing import Contender, Workload
from reporting import Report, Table

COLUMNS = (
    "contender",
    "tokens/s",
    "MFU",
    "start to first steps",
    "peak memory",
    "to eager fp32 peer",
    "to compiled fp32 peer",
)
TURNS = {"full": (7, 5), "quick": (3, 3), "tiny": (1, 1)}
"""By effort: turns of every contender, steps of a turn."""

NOTES = (
    "One step = forward, backward, gradient clipping, optimizer; T tokens of a row count for everybody.",
    "FLOPs per token = 6 × parameters in matrix products (output head included, embedding lookup not) "
    "+ 12 × layers × heads × head width × T; MFU = FLOPs/s over the mean of the matmul peaks "
    "measured before and after each turn: the fp32 peak on a CPU, also for products in bf16, which may pass "
    "100 %; the bf16 peak on a GPU.",
    "Median (lowest–highest) over turns; on a CPU in rotation, and ratios compare turns of one round. "
    "Start = from the start of the process to the end of its third step: imports, building, compiling with "
    "an empty cache.",
)


def run(options: Options) -> Report:
    """Measure on the CPU, and on a GPU where there is one."""
    import torch

    model = qwen3(vocab_size=4096, max_position_embeddings=256, num_hidden_layers=4, hidden_size=384)
    rows = 16
    if options.effort == "tiny":
        model, rows = (
            qwen3(vocab_size=256, max_position_embeddings=32, num_hidden_layers=1, hidden_size=64),
            2,
        )
    report = compare("CPU", model, rows, "cpu", options.effort)
    if not torch.cuda.is_available():
        report.tables[0].notes.append("GPU (124M and 300M presets, bf16): not measured, there is none here.")
        return report
    for name, vocab_size in (("124m", 50304), ("300m", 32768)):
        size = preset(name, vocab_size=vocab_size, max_position_embeddings=1024)
        on_gpu = compare(f"{name} on {torch.cuda.get_device_name()}, bf16", size, 32, "cuda", options.effort)
        report.tables += on_gpu.tables
        report.data[name] = on_gpu.data
    return report


def contenders(model: ModelConfig, rows: int, device: str, effort: Effort) -> list[Workload]:
    """Ours by optimizer, eager and compiled, beside the peer, eager and compiled."""

    def way(
        who: Literal["congling", "transformers"],
        compiled: bool,
        optimizer: Literal["adamw", "muon"] = "adamw",
        precision: Literal["fp32", "bf16"] = "fp32" if device == "cpu" else "bf16",
    ) -> Workload:
        return Workload(
            who=who,
            model=model,
            rows=rows,
            compile=compiled,
            optimizer=optimizer,
            device=device,
            precision=precision,
        )

    if effort == "tiny":
        return [way("congling", False, "muon"), way("transformers", False)]
    found = [way("congling", False), way("congling", True), way("congling", True, "muon")]
    found += [way("transformers", False), way("transformers", True)]
    if device == "cpu" and machine.has_bf16_units():
        found += [way(who, True, precision="bf16") for who in ("congling", "transformers")]
        found.append(way("congling", True, "muon", "bf16"))
    return found


def compare(title: str, model: ModelConfig, rows: int, device: str, effort: Effort) -> Report:
    """Run all contenders by turns and tabulate them.

    Raises:
        RuntimeError: a contender failed, or has another number of parameters than the first.
    """
    workloads = contenders(model, rows, device, effort)
    if device == "cpu":
        timings = race(workloads, *TURNS[effort])
    else:  # one after the other: a GPU's speed is steady, and its memory does not hold all of them
        timings = [timing for load in workloads for timing in race([load], *TURNS[effort])]
    sizes = {timing.parameters for timing in timings}
    if len(sizes) != 1:
        raise RuntimeError(f"the contenders do not train the same model: {sizes} parameters")
    shape = f"{show_count(sizes.pop())} parameters, T={model.max_position_embeddings}, {rows} rows"
    table = Table(f"Training speed, {title}: {shape}", COLUMNS, notes=list(NOTES))
    plain = "fp32" if device == "cpu" else "bf16"
    peers = {
        timing.workload.compile: timing
        for timing in timings
        if timing.workload.who == "transformers" and timing.workload.precision == plain
    }
    for timing in timings:
        against = [
            ratios(timing.speeds, peers[compiled].speeds).show("{:.2f}×") if compiled in peers else "–"
            for compiled in (False, True)
        ]
        table.rows.append((*timing.cells(), *against))
    facts = {"model": model.model_dump(mode="json"), "rows": rows}
    return Report(
        [table], facts | {"contenders": {timing.workload.name: timing.facts() for timing in timings}}
    )


@dataclass
class Timing:
    """One contender's turns."""

    workload: Workload
    start_seconds: float
    parameters: int
    speeds: list[float] = field(default_factory=list)
    """Tokens/s by turn."""
    shares: list[float] = field(default_factory=list)
    """Share of the matmul peak by turn."""
    peak_bytes: float = 0.0

    def cells(self) -> tuple[str, ...]:
        """The contender's own columns."""
        speed, share = Spread(tuple(self.speeds)).show(), Spread(tuple(self.shares)).show("{:.1%}")
        return self.workload.name, speed, share, f"{self.start_seconds:.0f} s", show_bytes(self.peak_bytes)

    def facts(self) -> dict[str, Any]:
        """The same as numbers."""
        turns = {"tokens_per_second": self.speeds, "mfu": self.shares}
        return turns | {"start_seconds": self.start_seconds, "peak_bytes": self.peak_bytes}


def race(workloads: list[Workload], turns: int, steps: int) -> list[Timing]:
    """Let contenders advance by turns, with the matmul peak measured between any two turns."""
    with ExitStack() as stack:
        running = [stack.enter_context(Contender(load)) for load in workloads]
        timings = [
            Timing(contender.workload, contender.ready["seconds"], int(contender.ready["parameters"]))
            for contender in running
        ]
        before = matmul_peak(workloads[0].device)
        for _ in range(turns):
            for contender, timing in zip(running, timings, strict=True):
                load = contender.workload
                result = contender.run(steps)
                after = matmul_peak(load.device)
                timing.speeds.append(steps * load.tokens_per_step / result["seconds"])
                timing.shares.append(timing.speeds[-1] * flops_per_token(load.model) / ((before + after) / 2))
                timing.peak_bytes, before = result["peak_bytes"], after
        return timings
