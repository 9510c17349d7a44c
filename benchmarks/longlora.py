"""Time, memory and held-out loss of attention in shifted groups (S²-Attn) against full attention.

Both ways take turns on the same batch in one process (ABAB), so that what else the machine does meets both;
memory is that of a process for each. What is learnt is compared on a small base, see ``longlora_quality.py``.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from congling.data.batches import Batch
from congling.model.counts import flops_per_token
from congling.model.transformer import Transformer
from congling.train.objectives.next_token import next_token
from congling.transform import longlora, lora
from congling.transform.config import LongLoRAConfig
from longlora_quality import ADAPTERS, GROUPS, Task, compare
from measuring import Effort, Options, Spread, peak_memory, ratios
from reporting import Report, Table
from small_base import documents, shape, train, windows

SHAPE = {"full": (4, 192), "quick": (4, 192), "tiny": (1, 32)}
"""Layers and width of the model whose steps are timed; 4 heads."""
CONTEXTS = {"full": (1024, 2048, 4096), "quick": (1024, 4096), "tiny": (64,)}
TURNS = {"full": 7, "quick": 3, "tiny": 1}
PROCESSES = {"full": 3, "quick": 1, "tiny": 1}
"""For each way and context, to see its memory."""
VOCABULARY = 2048
LEARNING = {
    "full": (2, 128, 256, 1024, 800, 150),
    "quick": (2, 96, 128, 512, 300, 60),
    "tiny": (1, 32, 16, 64, 2, 1),
}
"""Layers, width, context of the base, longer one, steps of the base, steps at the longer context."""


def run(options: Options) -> Report:
    """Three tables."""
    return Report([step_times(options.effort), memory(options.effort), quality(options.effort)])


def step_times(effort: Effort) -> Table:
    """CPU seconds of a step, forward and backward, with the ratio turn by turn."""
    layers, width = SHAPE[effort]
    columns = ("context", "full, s", "S²-Attn, s", "ratio", "arithmetic left", "attention alone, ratio")
    table = Table(f"A step of {layers} × {width}, 1 row, {GROUPS} groups", columns)
    for context in CONTEXTS[effort]:
        model, batch = _model(effort, context), _batch(context)
        ways = {grouped: [] for grouped in (False, True)}
        alone = {grouped: [] for grouped in (False, True)}
        for turn in range(TURNS[effort] + 1):
            for grouped in ways:
                _group(model, grouped)
                start = time.process_time()
                next_token(model, batch).total.backward()
                seconds = time.process_time() - start, _attention(model, context)
                if turn:
                    ways[grouped].append(seconds[0])
                    alone[grouped].append(seconds[1])
        table.rows.append(
            (
                f"{context:,}",
                Spread(tuple(ways[False])).show("{:.2f}"),
                Spread(tuple(ways[True])).show("{:.2f}"),
                ratios(ways[True], ways[False]).show("{:.2f}"),
                f"{_arithmetic(model, context):.2f}",
                ratios(alone[True], alone[False]).show("{:.2f}"),
            )
        )
    table.notes.append(
        "Learnt are factors of attention, embedding and norms. Arithmetic left: of the whole step, every "
        "score counted; the kernel skips most of those that a token must not see, so attention has a smaller "
        "part of the time than of the count."
    )
    return table


def _arithmetic(model: Transformer, context: int) -> float:
    """Share of a step's operations that groups leave."""
    config = model.config
    channels = config.attention.num_attention_heads * config.attention.head_dim
    scores = 12 * config.num_hidden_layers * channels * context
    whole = flops_per_token(config, context)
    return (whole - scores + scores / GROUPS) / whole


def _attention(model: Transformer, context: int) -> float:
    """CPU seconds of one block's attention_fn, forward and backward."""
    from congling.model.attention import Attention, causal_context

    attention = next(one for one in model.modules() if isinstance(one, Attention))
    heads, width = model.config.attention.num_attention_heads, model.config.attention.head_dim
    made = [torch.randn(1, context, heads, width, requires_grad=True) for _ in range(3)]
    seen = causal_context(torch.zeros(1, context, dtype=torch.long), None, None)
    start = time.process_time()
    query, key, value = (one.transpose(1, 2) for one in made)
    attention.attention_fn(query, key, value, seen).sum().backward()
    return time.process_time() - start


def memory(effort: Effort) -> Table:
    """Peak of a process above that of the model at rest, and what is kept from forward for backward."""
    columns = ("context", "attention", "peak", "ratio", "kept for backward", "ratio")
    table = Table("Memory of such a step", columns)
    for context in CONTEXTS[effort]:
        found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(PROCESSES[effort]):
            for grouped in found:
                order = json.dumps({"effort": effort, "context": context, "grouped": grouped})
                command = [sys.executable, __file__, order]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[grouped].append(json.loads(done.stdout.splitlines()[-1]))
        for grouped, values in found.items():
            cells = []
            for name in ("peak", "kept"):
                own, full = ([one[name] for one in each] for each in (values, found[False]))
                cells += [Spread(tuple(one / 1e6 for one in own)).show("{:.0f} MB")]
                cells += [ratios(own, full).show("{:.2f}")]
            table.rows.append((f"{context:,}", "S²-Attn" if grouped else "full", *cells))
    table.notes.append(
        "The kernel on CPUs keeps no scores, only outputs and a number for each token and head: nothing "
        "grows with the square of the context, so groups save time and no memory."
    )
    return table


def main() -> None:
    """Make the step that is ordered on the command line and print its memory."""
    order = json.loads(sys.argv[1])
    model, batch = _model(order["effort"], order["context"]), _batch(order["context"])
    _group(model, order["grouped"])
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return value

    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    rest = _peak()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        loss = next_token(model, batch).total
    held = sum(size for place, size in kept.items() if place not in weights)
    loss.backward()
    print(json.dumps({"peak": max(1, _peak() - rest), "kept": max(1, held)}))


def _peak() -> int:
    """Most memory of this program so far; on Linux without what the process that started it held."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else peak_memory("cpu")


def _model(effort: Effort, context: int) -> Transformer:
    model = Transformer(shape(VOCABULARY, context, *SHAPE[effort]))
    adapter = ADAPTERS["LoRA + both"]
    assert adapter is not None
    lora.attach(model, adapter)
    longlora.shift(model, LongLoRAConfig(groups=GROUPS), context)
    return model


def _group(model: Transformer, on: bool) -> None:
    """Attend in groups, or as when evaluated."""
    model.train()
    for module in model.modules():
        if isinstance(module, longlora.ShiftedGroups):
            module.train(on)


def _batch(context: int) -> Batch:
    tokens = torch.randint(0, VOCABULARY, (1, context), generator=torch.Generator().manual_seed(0))
    return Batch(tokens, tokens)  # type: ignore[arg-type]  # tensors, as on a device


def quality(effort: Effort) -> Table:
    """What a small base learns at four times its context, from long documents of the small world."""
    layers, width, trained, context, base_steps, steps = LEARNING[effort]
    texts, vocabulary = documents(4 if effort == "tiny" else 60, 4 * context)
    split = len(texts) * 3 // 4
    base = Transformer(shape(vocabulary, trained, layers, width))
    train(base, windows(texts[:split], trained), base_steps, at_once=8, rate=2e-3)
    held = [row for text in texts[split:] for row in windows([text], context)]
    rates = (1.0,) if effort == "tiny" else (1.0, 3.0)
    return compare(Task(base, context, windows(texts[:split], context), held, steps, 2, rates))


if __name__ == "__main__":
    main()
