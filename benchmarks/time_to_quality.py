"""Minutes from nothing to a held-out bits/character on 红楼梦: chapters 1-72 learnt, 73-80 held out.

Contenders run one after the other, each with both processors to itself and an empty compile cache; each
leaves a file and is not run again while that file is there. One at a time: ``python
benchmarks/time_to_quality.py tuned --budget 3m``.

congling is ``congling train book.txt --budget …`` as a person calls it. Its clock is the whole process:
start-up, reading, tokenizer, planning, compiling, its own held-out losses, samples, report. Scored is what
it hands on, once, at the end: one point a budget. The others are described in ``quality_peers.py``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from congling.core.units import seconds, show_seconds
from heldout import OVERRIDES, Curve, bits_per_character, book
from measuring import Options
from reporting import Report, Table

TARGETS = (6.6, 6.2, 6.0, 5.8)
RUNS: dict[str, tuple[tuple[str, float], ...]] = {
    "full": (
        ("congling", 60), ("congling", 180), ("congling", 780),
        ("usual", 780), ("tuned", 180), ("tuned", 780), ("plain", 780),
    ),
    "quick": (("congling", 60), ("tuned", 60)),
    "tiny": (),
}  # fmt: skip
"""Contender and budget in seconds."""
SWEPT_RATES = (1e-3, 2e-3, 3e-3, 5e-3)
SWEEP_BUDGET = 90.0


def run(options: Options) -> Report:
    """Run what has no result file yet and tabulate all of them.

    Raises:
        Skipped: the corpus is not there.
    """
    text, folder = book(options), options.results / "time_to_quality"
    for contender, budget in RUNS[options.effort]:
        file = folder / f"{contender}-{budget:.0f}s.json"
        if not file.is_file():
            compete(contender, text, budget, file)
    curves = [Curve.read(file) for file in sorted(folder.glob("*s.json"))]
    return Report([_table(curves), _speedups(curves)], {"curves": [vars(curve) for curve in curves]})


def compete(contender: str, text: Path, budget: float, out: Path, *flags: str) -> None:
    """Let one contender run for its budget, and keep its scores."""
    print(f"{contender}: {show_seconds(budget)}", file=sys.stderr, flush=True)
    if contender == "congling":
        congling(text, budget).write(out)
        return
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable,
            str(Path(__file__).with_name("quality_peers.py")),
            contender,
            str(text),
            str(out),
        ]
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        subprocess.run([*command, f"--budget={budget}s", *flags], env=environment, check=True)


def congling(text: Path, budget: float) -> Curve:
    """Train by the command a person would use, and score the model it leaves."""
    from congling.data.shards import open_shards
    from congling.model.checkpoint import load_model
    from congling.train.rundir import find_checkpoint

    curve = Curve("congling", budget)
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as cache:
        out = Path(place) / "run"
        command = [
            sys.executable,
            "-m",
            "congling",
            "train",
            str(text),
            *OVERRIDES,
            "--budget",
            f"{budget}s",
            "--out",
            str(out),
        ]
        start = time.time()
        subprocess.run(command, env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}, check=True)
        elapsed = time.time() - start
        model = load_model(find_checkpoint(next(out.rglob("LATEST")).parent))
        split = open_shards(next(out.rglob("shards.json")).parent)["validation"]
        bits = bits_per_character(lambda tokens: model.logits(model(tokens)), split, model.config.context)
    size = {"layers": model.config.layers, "width": model.config.width, "context": model.config.context}
    curve.settings = size | {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": split.vocab_size,
    }
    curve.points = [(elapsed, bits)]
    return curve


def sweep(text: Path, folder: Path) -> Table:
    """Scores of ``tuned`` at several rates, each for a minute and a half."""
    table = Table(f"transformers tuned, {show_seconds(SWEEP_BUDGET)}", ("peak rate", "bits/character"))
    for rate in SWEPT_RATES:
        file = folder / f"tuned-rate-{rate:g}.json"
        if not file.is_file():
            compete("tuned", text, SWEEP_BUDGET, file, f"--rate={rate}")
        table.rows.append((f"{rate:g}", f"{Curve.read(file).points[-1][1]:.3f}"))
    return table


def _table(curves: list[Curve]) -> Table:
    columns = (
        "contender",
        "budget",
        "parameters",
        "clock at the end",
        "bits/character",
        *(f"to {target}" for target in TARGETS),
    )
    table = Table("Held-out bits/character of 红楼梦 73-80", columns)
    for curve in sorted(curves, key=lambda curve: (curve.contender, curve.budget)):
        end, bits = curve.points[-1]
        reached = [_shown(curve.seconds_to(target)) for target in TARGETS]
        size = f"{curve.settings['parameters'] / 1e6:.1f} M"
        table.rows.append(
            (curve.contender, show_seconds(curve.budget), size, show_seconds(end), f"{bits:.3f}", *reached)
        )
    table.notes += [
        "The clock starts with the process: imports, tokenizer and compiling count. Held-out scores are off the "
        "clock, but those that congling takes during its run are on it.",
        "All are scored alike: every token of the held-out chapters once, in windows of the model's context that "
        "overlap by half; ends of chapters count as tokens, only characters divide.",
        "congling has one point a budget, its end; elsewhere times are interpolated between scores.",
    ]
    return table


def _speedups(curves: list[Curve]) -> Table:
    """How many times sooner congling is at each target; by each contender's best run."""
    names = sorted({curve.contender for curve in curves} - {"congling"})
    table = Table(
        "Time to the same bits/character, as a multiple of congling's", ("contender", *map(str, TARGETS))
    )
    ours = {target: _first([c for c in curves if c.contender == "congling"], target) for target in TARGETS}
    for name in names:
        theirs = [curve for curve in curves if curve.contender == name]
        longest = max(curve.points[-1][0] for curve in theirs)
        cells = []
        for target in TARGETS:
            mine, other = ours[target], _first(theirs, target)
            cells.append(
                "–" if mine is None else f"{other / mine:.1f}×" if other else f"> {longest / mine:.1f}×"
            )
        table.rows.append((name, *cells))
    table.notes.append("“>”: not reached within the contender's longest run. “–”: congling did not reach it.")
    return table


def _first(curves: list[Curve], target: float) -> float | None:
    times = [found for curve in curves if (found := curve.seconds_to(target)) is not None]
    return min(times, default=None)


def _shown(value: float | None) -> str:
    return "not reached" if value is None else show_seconds(value)


def main() -> None:
    """Run one contender, or the sweep of ``tuned``'s rate, and keep the result for the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contender", choices=("congling", "usual", "tuned", "plain", "sweep"))
    parser.add_argument("--budget", type=seconds, default=180.0)
    parser.add_argument("--corpus", type=Path, default=os.environ.get("CONGLING_CORPORA"))
    parser.add_argument("--results", type=Path, default=Options.results)
    given, flags = parser.parse_known_args()
    text = book(Options(corpora=given.corpus and Path(given.corpus)))
    folder = given.results / "time_to_quality"
    if given.contender == "sweep":
        print(sweep(text, folder).markdown())
        return
    compete(
        given.contender, text, given.budget, folder / f"{given.contender}-{given.budget:.0f}s.json", *flags
    )


if __name__ == "__main__":
    main()
