"""How well the plan foresees memory and time: planned against measured, for shapes small and large."""

from typing import Any, Literal

from congling.core.units import show_bytes, show_count
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.plan.corpus_facts import CorpusFacts, this_machine
from congling.plan.cost import estimate
from congling.train.measurement import Probe
from contenders import training
from measuring import Options, matmul_peak
from pacing import Contender, Workload
from quantising import foreseen
from reporting import Report, Table

COLUMNS = (
    "model",
    "rows × T",
    "optimizer",
    "planned memory",
    "measured",
    "off by",
    "planned step",
    "measured",
    "off by",
)
BOOK = {"vocab_size": 4600, "tie_word_embeddings": False}
SHAPES: tuple[tuple[str, int, dict[str, Any], Literal["adamw", "muon"], bool], ...] = (
    (
        "qwen3",
        8,
        {**BOOK, "max_position_embeddings": 64, "num_hidden_layers": 2, "hidden_size": 128},
        "muon",
        False,
    ),
    (
        "qwen3",
        16,
        {**BOOK, "max_position_embeddings": 128, "num_hidden_layers": 4, "hidden_size": 192},
        "muon",
        False,
    ),
    (
        "qwen3",
        16,
        {**BOOK, "max_position_embeddings": 256, "num_hidden_layers": 6, "hidden_size": 256},
        "muon",
        False,
    ),
    (
        "qwen3",
        16,
        {**BOOK, "max_position_embeddings": 256, "num_hidden_layers": 6, "hidden_size": 256},
        "muon",
        True,
    ),
    (
        "qwen3",
        16,
        {"vocab_size": 8192, "max_position_embeddings": 512, "num_hidden_layers": 8, "hidden_size": 384},
        "adamw",
        False,
    ),
    (
        "llama",
        16,
        {
            "vocab_size": 64_000,
            "max_position_embeddings": 64,
            "num_hidden_layers": 16,
            "hidden_size": 256,
            "tie_word_embeddings": False,
        },
        "adamw",
        False,
    ),
    (
        "gpt2",
        8,
        {"vocab_size": 4600, "max_position_embeddings": 256, "num_hidden_layers": 6, "hidden_size": 256},
        "adamw",
        False,
    ),
    (
        "qwen3-moe",
        8,
        {"vocab_size": 4600, "max_position_embeddings": 256, "num_hidden_layers": 4, "hidden_size": 256},
        "adamw",
        False,
    ),
)
"""Family, rows, sizes, optimizer, compiled."""
CHOSEN = {"full": SHAPES, "quick": SHAPES[:3], "tiny": SHAPES[:1]}
STEPS = {"full": 10, "quick": 5, "tiny": 1}


def run(options: Options) -> Report:
    """Train each shape for some steps in a process of its own and compare."""
    table, data = Table("Plan and measurement", COLUMNS), []
    for family, rows, sizes, optimizer, compiled in CHOSEN[options.effort]:
        model = FAMILIES[family](**sizes)
        load = Workload(
            who="congling",
            model=model,
            rows=rows,
            optimizer=optimizer,
            compile=compiled,
        )
        planned, measured = compare(load, STEPS[options.effort])
        name = f"{family} {model.num_hidden_layers} × {model.hidden_size}, {show_count(parameters(model))}"
        table.rows.append(
            (
                name,
                f"{rows} × {model.max_position_embeddings}",
                load.name.partition(", ")[2],
                *_cells(planned, measured),
            )
        )
        data.append({"model": name, "workload": load.name, "planned": planned, "measured": measured})
    table.notes.append(
        "Memory is the peak of the training process. The planned step time rests on the matmul peak measured "
        "just before, not on a calibration with the model itself, which `congling train` adds."
    )
    return Report([table, foreseen(options)], {"shapes": data})


def compare(load: Workload, steps: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(bytes, seconds a step) as planned and as measured."""
    with Contender(load) as contender:
        peak = matmul_peak()
        result = contender.run(steps)
    cost = estimate(load.model, training(load), _corpus(load.model), this_machine(found=Probe(peak, "fp32")))
    return (sum(cost.memory.values()), cost.seconds_per_step), (
        result["peak_bytes"],
        result["seconds"] / steps,
    )


def _corpus(model: ModelConfig) -> CorpusFacts:
    return CorpusFacts(
        characters=10**6,
        tokens=10**6,
        documents=100,
        median_tokens=10**4,
        vocab_size=model.vocab_size,
        validation_tokens=10**5,
        validation_documents=10,
    )


def _cells(planned: tuple[float, float], measured: tuple[float, float]) -> tuple[str, ...]:
    off = [f"{(plan / real - 1):+.0%}" for plan, real in zip(planned, measured, strict=True)]
    memory = show_bytes(planned[0]), show_bytes(measured[0]), off[0]
    return (*memory, f"{planned[1] * 1e3:.0f} ms", f"{measured[1] * 1e3:.0f} ms", off[1])
