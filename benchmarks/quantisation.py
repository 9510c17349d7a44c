"""What quantised files lose in llama.cpp: ggml's search, with an importance matrix, and GPTQ on its grid.

A small base is written as every type three ways, of equal size; the unmodified llama.cpp's probabilities on
held-out text are compared with those of the model in floats. Q8_0's line is the floor: whatever the weights
are, llama.cpp rounds inputs to eight bits.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from congling.data.smallworld.config import SmallWorldConfig
from congling.data.smallworld.generator import Generator
from congling.evals.paired import paired
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf
from congling.interop.gguf.calibrated import Calibration, collect
from congling.interop.gguf.imatrix import ImportanceMatrix
from congling.interop.gguf.names import gguf_name
from congling.model.transformer import Transformer
from congling.quant import library
from congling.tokenizer.character import CharacterTokenizer
from measuring import Effort, Options
from reporting import Report, Skipped, Table
from small_base import Ids, shape, train, windows

LEARNING = {"full": (4, 256, 256, 1500, 400), "quick": (2, 256, 128, 300, 200), "tiny": (1, 256, 32, 2, 8)}
"""Layers, width and context of the base, its steps, documents."""
TYPES = {
    "full": ("Q8_0", "Q5_0", "Q4_0", "Q6_K", "Q5_K_S", "Q4_K_S", "Q3_K_M", "Q2_K"),
    "quick": ("Q8_0", "Q4_0", "Q4_K_S", "Q2_K"),
    "tiny": ("Q4_0",),
}
CODEBOOKS = {"full": ("IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XXS", "IQ1_S"), "quick": ("IQ3_S",), "tiny": ()}
CALIBRATION = {"full": 128, "quick": 64, "tiny": 2}
"""Rows of training text."""
HELD_OUT = {"full": 80, "quick": 20, "tiny": 2}
"""Rows of other documents."""
ROWS = 8


def run(options: Options) -> Report:
    """One table.

    Raises:
        Skipped: llama.cpp is not installed.
    """
    if not library.available():
        raise Skipped("needs llama.cpp: " + library.HINT)
    return Report([divergences(options.effort)])


def divergences(effort: Effort) -> Table:
    """Mean KL divergence in llama.cpp by type and way, with the share that is left of ggml's."""
    layers, width, context, steps, count = LEARNING[effort]
    made = Generator(SmallWorldConfig(seed=5))
    texts = [made.document(index).text for index in range(count)]
    tokenizer = CharacterTokenizer("".join(sorted(set("".join(texts)))))
    rows = windows([[tokenizer.bos_id, *tokenizer.encode(text)] for text in texts], context)
    held = [ids[:-1] for ids in rows[: HELD_OUT[effort]]]
    rows = rows[HELD_OUT[effort] :]
    base = Transformer(shape(tokenizer.vocab_size, context, layers, width))
    train(base, rows, steps, at_once=ROWS, rate=2e-3)
    model = ForeignModel(base.eval().config, base.state_dict(), tokenizer)
    wanted = [_log_probabilities(_ours(base, ids)) for ids in held]
    spread = rows[:: max(1, len(rows) // CALIBRATION[effort])]
    text = torch.from_numpy(np.stack([ids[:-1] for ids in spread]))
    found = {gguf_name(name, "llama"): entry for name, entry in collect(base, text).items()}
    matrix = ImportanceMatrix(found)
    table = Table(
        f"KL to float32 in llama.cpp, nats/token: {layers} × {width}, context {context}",
        ("type", "bytes", "ggml", "with matrix", "GPTQ on its grid", "of ggml's", "of that with matrix"),
    )
    ways = (None, Calibration(matrix), Calibration(matrix, text))
    for type in TYPES[effort]:
        lost = [_lost(model, type, way, held, wanted) for way in ways]
        plain, weighed, gptq = (part for part, _ in lost)
        assert len({size for _, size in lost}) == 1 or type in ("Q4_0", "Q5_0")
        table.rows.append((
            type, f"{lost[2][1]:,}", *(f"{part.mean():.5f}" for part in (plain, weighed, gptq)),
            f"{gptq.mean() / plain.mean():.2f}",
            f"{gptq.mean() / weighed.mean():.2f}: {_below(weighed, gptq)}",
        ))  # fmt: skip
    for type in CODEBOOKS[effort]:
        weighed, size = _lost(model, type, ways[1], held, wanted)
        table.rows.append((type, f"{size:,}", "–", f"{weighed.mean():.5f}", "–", "–", "–"))
    table.notes.append(
        f"Calibrated on {text.numel():,} tokens of training text; {len(held) * context:,} held-out tokens. "
        "Intervals of 95 % of GPTQ's less the matrix's are paired, over rows."
    )
    return table


def _lost(
    model: ForeignModel,
    type: str,
    way: Calibration | None,
    held: Sequence[Ids],
    wanted: Sequence[torch.Tensor],
) -> tuple[np.ndarray, int]:
    """Mean divergence of each row, and the size of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        gguf.write(model, path, type, calibration=way)
        with LlamaCpp(path, context=len(held[0])) as engine:
            found = [_log_probabilities(engine.logits(ids.tolist())) for ids in held]
        apart = [(one.exp() * (one - other)).sum(-1).mean() for one, other in zip(wanted, found, strict=True)]
        return np.array(apart, np.float64), path.stat().st_size


def _ours(model: Transformer, ids: Ids) -> np.ndarray:
    with torch.inference_mode():
        return model.logits(model(torch.from_numpy(ids[None, :])))[0].numpy()


def _log_probabilities(logits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(logits).double().log_softmax(-1)


def _below(weighed: np.ndarray, gptq: np.ndarray) -> str:
    found = paired(weighed.tolist(), gptq.tolist())
    if found.low is None or found.high is None:
        return f"{found.value:+.5f}"
    return f"{found.value:+.5f} [{found.low:+.5f}, {found.high:+.5f}]"
