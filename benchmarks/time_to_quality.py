"""Minutes from nothing to a held-out bits/character on 红楼梦: chapters 1-72 learnt, 73-80 held out.

Contenders run one after the other, each with both processors to itself and an empty compile cache; each
leaves a file and is not run again while that file is there. One at a time: ``python
benchmarks/time_to_quality.py tuned --budget 3m``.

congling is ``congling train book.txt --budget …`` as a person calls it. Its clock is the whole process:
start-up, reading, tokenizer, planning, compiling, its own held-out losses, samples, report. Scored is what
it hands on, once, at the end: one point a budget. The others are described in ``peer_settings.py``.
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
from quality_tables import picture, scores, speedups
from reporting import Report, Table

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
    if curves:
        (folder / "curves.svg").write_text(picture(curves), encoding="utf-8")
    return Report([scores(curves), speedups(curves)], {"curves": [vars(curve) for curve in curves]})


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
    from congling.interop.source import locate_checkpoint
    from congling.model.checkpoint import load_model

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
        model = load_model(locate_checkpoint(out))
        split = open_shards(next(out.rglob("shards.json")).parent)["validation"]
        bits = bits_per_character(
            lambda tokens: model.logits(model(tokens)), split, model.config.max_position_embeddings
        )
    size = {
        "num_hidden_layers": model.config.num_hidden_layers,
        "hidden_size": model.config.hidden_size,
        "max_position_embeddings": model.config.max_position_embeddings,
    }
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
