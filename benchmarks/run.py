"""Measure congling: ``python benchmarks/run.py [names …] [--quick] [--out FILE.json]``.

Each benchmark is a module beside this file with a ``run(options) -> Report`` and a first docstring line
that says what it measures. Without names all of them run, one after the other, since they share the
processors.
"""

import argparse
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console

from measuring import Options, circumstances
from reporting import Report, Skipped, write

NAMES = ("startup", "smallworld", "tokenizer", "memory", "spikes", "classic", "throughput", "lora",
         "adapters", "longlora", "length", "quantisation", "varlen", "budget", "tuning", "together",
         "time_to_quality")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the named benchmarks, print their tables, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"any of {', '.join(NAMES)}; all when left out"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions and smaller inputs: a first look"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="seconds only, meaningless figures: does it still run?"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench/results.json"), help="a .md is written beside it"
    )
    parser.add_argument("--corpus", type=Path, help="folder of real corpora (default: CONGLING_CORPORA)")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark named {unknown[0]!r}; there are {', '.join(NAMES)}")
    effort = "tiny" if given.tiny else "quick" if given.quick else "full"
    corpora = given.corpus or (
        Path(os.environ["CONGLING_CORPORA"]) if "CONGLING_CORPORA" in os.environ else None
    )
    options = Options(effort, corpora, given.out.parent)
    console, facts = Console(), circumstances()
    if not console.is_terminal:
        console.width = 160
    for key, value in facts.items():
        console.print(f"{key}: {value}", highlight=False, markup=False)
    reports: dict[str, Report | str] = {}
    for name in given.names or NAMES:
        console.rule(name)
        try:
            report = import_module(name).run(options)
            for table in report.tables:
                table.show(console)
            reports[name] = report
        except Skipped as reason:
            console.print(f"not measured: {reason}", markup=False)
            reports[name] = str(reason)
        write(given.out, reports, facts)
    console.print(f"written: {given.out} and {given.out.with_suffix('.md')}", highlight=False)


if __name__ == "__main__":
    main()
