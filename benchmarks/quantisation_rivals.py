"""Mean KL on held-out text of congling's methods and of other programs', from the same model and text.

``python benchmarks/quantisation_rivals.py BASE --train TEXT --held TEXT --llm-compressor PYTHON``: BASE is a
run or checkpoint, PYTHON that of an environment with ``llmcompressor``; AutoRound is taken from the extra
``quant``. What is not installed is left out and named. All get the model as our Hugging Face folder, in
float32, and the same 128 rows of ids; the folders they write are read by congling and compared with the model
in floats. Folders that are there already are not made again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from congling.core.artifact import Artifact
from congling.data.token_split import TokenSplit
from congling.evals.damage import HeldOutRows, held_out_rows, summary, token_damage
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.interop.assembly import transformer
from congling.interop.foreign import ForeignModel
from congling.interop.hf import model as hf
from congling.methods.quantize import chosen
from congling.quant.apply import quantise
from measuring import Options, circumstances
from reporting import Report, Table, write

ROWS = 128
HELD_OUT = 20_000
GRIDS = ((4, 32, True), (4, 32, False), (4, -1, True), (4, -1, False))
"""Bits, group size and whether zeros are in the middle."""
OURS = ("rtn", "gptq", "awq", "awq+gptq")
RIVALS = {"llm-compressor": ("rtn", "gptq", "awq"), "AutoRound": ("rtn", "tuned")}


@dataclass(frozen=True)
class Made:
    """One quantised model."""

    program: str
    method: str
    grid: tuple[int, int, bool]
    seconds: float
    kl: float = float("nan")


def run(options: Options, base: Path, train: Path, held: Path, pythons: dict[str, Path]) -> Report:
    """One table: a line a grid, a column a program and method."""
    loaded = load_checkpoint(base)
    folder = options.results / "rivals"
    floats, rows = folder / "floats", _rows(loaded, train)
    if not floats.exists():
        folder.mkdir(parents=True, exist_ok=True)
        hf.write(ForeignModel(loaded.model.config, loaded.model.state_dict(), loaded.tokenizer), floats)
    np.save(folder / "rows.npy", rows)
    scored = _held_out(loaded, held)
    found = list(_ours(base, rows, scored, loaded))
    for program, methods in RIVALS.items():
        jobs = [_job(folder, program, method, grid) for grid in GRIDS for method in methods]
        if program in pythons:
            _make(pythons[program], program, folder, jobs)
        found += [made for job in jobs if (made := _scored(program, job, scored, loaded)) is not None]
    (folder / "found.json").write_text(json.dumps([vars(one) for one in found], indent=1), encoding="utf-8")
    return Report([_table(found)])


def _rows(loaded: Loaded, train: Path) -> np.ndarray:
    """(R, T) ids, evenly spread over the text."""
    ids = np.array(loaded.tokenizer.encode(train.read_text(encoding="utf-8")), np.int64)
    length = loaded.model.config.max_position_embeddings
    whole = ids[: len(ids) // length * length].reshape(-1, length)
    return whole[np.linspace(0, len(whole) - 1, min(ROWS, len(whole))).astype(int)]


def _held_out(loaded: Loaded, held: Path) -> HeldOutRows:
    ids = np.array(loaded.tokenizer.encode(held.read_text(encoding="utf-8")), np.uint16)
    size = np.array([len(ids)])
    split = TokenSplit(
        ids, size, size, size, eos_id=loaded.tokenizer.eos_id, vocab_size=loaded.model.config.vocab_size
    )
    return held_out_rows(split, loaded.model.config.max_position_embeddings, limit_tokens=HELD_OUT)


def _ours(base: Path, rows: np.ndarray, scored: HeldOutRows, floats: Loaded) -> Iterator[Made]:
    for grid in GRIDS:
        bits, group, sym = grid
        settings = [f"bits={bits}", f"group_size={group}", f"sym={str(sym).lower()}"]
        for method in OURS:
            loaded = load_checkpoint(base)
            begun = time.perf_counter()
            batches = [(torch.from_numpy(part), None, None) for part in np.array_split(rows, 16)]
            quantise(loaded.model, chosen(method, settings), () if method == "rtn" else batches)
            seconds = time.perf_counter() - begun
            yield Made("congling", method, grid, seconds, _kl(floats, loaded, scored))


def _job(folder: Path, program: str, method: str, grid: tuple[int, int, bool]) -> dict[str, Any]:
    bits, group, sym = grid
    name = f"{program}-{method}-{bits}-{group}-{'sym' if sym else 'asym'}"
    return {
        "out": str(folder / name), "method": method, "bits": bits, "group_size": group, "sym": sym,
    }  # fmt: skip


def _make(python: Path, program: str, folder: Path, jobs: Sequence[dict[str, Any]]) -> None:
    """Let the rival make the folders that are missing; what it says goes to a file beside them."""
    missing = [job for job in jobs if not Path(f"{job['out']}.json").exists()]
    order = {"program": program, "model": str(folder / "floats"), "rows": str(folder / "rows.npy")}
    order |= {"jobs": missing, "threads": torch.get_num_threads()}
    script = Path(__file__).with_name("rival_quantisers.py")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with (folder / f"{program}.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [python, script],
            input=json.dumps(order),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
            env=clean | {"HF_HUB_OFFLINE": "1"},
        )
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        Path(f"{answer['out']}.json").write_text(line, encoding="utf-8")


def _scored(program: str, job: dict[str, Any], scored: HeldOutRows, floats: Loaded) -> Made | None:
    """A rival's folder read here and compared; None: it was not made."""
    told = Path(f"{job['out']}.json")
    answer = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
    if "seconds" not in answer:
        return None
    (place,) = [file.parent for file in Path(job["out"]).rglob("config.json")]
    model = transformer(hf.read(place))
    other = replace(floats, model=model, checkpoint=Artifact(place, "checkpoint", "", {}, {}, {}))
    grid = (job["bits"], job["group_size"], job["sym"])
    return Made(program, job["method"], grid, answer["seconds"], _kl(floats, other, scored))


def _kl(floats: Loaded, other: Loaded, scored: HeldOutRows) -> float:
    return summary(token_damage(floats, other, scored), scored).kl.value


def _table(found: Sequence[Made]) -> Table:
    columns = [("congling", method) for method in OURS]
    columns += [(program, method) for program, methods in RIVALS.items() for method in methods]
    table = Table(
        "mean KL to the model in floats, nats per token (seconds)",
        ("grid", *(f"{program} {method}" for program, method in columns)),
    )
    for grid in GRIDS:
        made = {(one.program, one.method): one for one in found if one.grid == grid}
        cells = [
            f"{made[column].kl:.5f} ({made[column].seconds:.0f})" if column in made else "–"
            for column in columns
        ]
        bits, group, sym = grid
        name = f"{bits} bits {'a row' if group == -1 else f'g{group}'} {'sym' if sym else 'asym'}"
        table.rows.append((name, *cells))
    return table


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--llm-compressor", type=Path, help="the Python of its environment")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/quantisation_rivals.json"))
    given = parser.parse_args()
    pythons = {"AutoRound": Path(sys.executable)} if find_spec("auto_round") else {}
    pythons |= {} if given.llm_compressor is None else {"llm-compressor": given.llm_compressor}
    console = Console(width=200)
    for program in RIVALS.keys() - pythons.keys():
        console.print(f"not measured: {program} is not installed, or its Python was not named", markup=False)
    options = Options("full", None, given.out.parent)
    report = run(options, given.base, given.train, given.held, pythons)
    report.tables[0].show(console)
    write(given.out, {"quantisation_rivals": report}, circumstances())


if __name__ == "__main__":
    main()
