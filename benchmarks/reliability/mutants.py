"""Thousands of hostile files of every format that is opened: how each ended, in what time and memory.

::

    python benchmarks/reliability/mutants.py --each 320 --out mutants.json

Every mutant is made of a small whole file by a seeded generator, and opened in a process of its own as the
commands open it. Each must be used or refused with one error, within ten seconds, its own size and 64 MiB.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])

from support.opening import MEMORY, Opener, Program, mutant_of, size_of  # noqa: E402
from support.victims import FORMATS, reseal  # noqa: E402

HANG = 10.0  # seconds of wall clock


def tried(kind: str, folder: Path, program: Program, each: int, first: int) -> dict[str, Any]:
    """Open so many mutants of one format."""
    place = folder / kind
    place.mkdir()
    whole = FORMATS[kind](place)
    reseal(place)
    opener, target = Opener(program, kind, whole), folder / "mutant" / whole.name
    ended: Counter[str] = Counter()
    slowest, largest, kept = 0.0, 0, list[str]()
    for seed in range(first, first + each):
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        mutant_of(whole, target, random.Random(f"{kind} {seed}"))
        started = time.monotonic()
        answer = opener.open(target)
        taken, beyond = time.monotonic() - started, answer["growth"] - size_of(target)
        slowest, largest = max(slowest, taken), max(largest, beyond)
        how = answer["outcome"] if taken <= HANG else "hang"
        ended[how if beyond <= MEMORY else "memory"] += 1
        if how not in ("used", "refused") or beyond > MEMORY:
            kept.append(f"seed {seed}, {how}, {taken:.1f} s, {beyond >> 20} MiB: {answer['message'][-1500:]}")
    return {"format": kind, "mutants": each, **ended, "slowest": slowest, "growth": largest, "harm": kept}


def main() -> None:
    """Try every format and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--each", type=int, default=320, help="mutants of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first, as the tests count them")
    parser.add_argument("--formats", nargs="*", default=sorted(FORMATS), choices=sorted(FORMATS))
    parser.add_argument("--out", type=Path, help="a JSON file of everything")
    asked = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        program = Program(Path(name))
        for kind in asked.formats:
            one = tried(kind, Path(name), program, asked.each, asked.first)
            found.append(one)
            harm = sum(one.get(how, 0) for how in ("error", "died", "hang", "memory"))
            print(
                f"{kind:<22} {asked.each:>6} {one.get('used', 0):>6} used {one.get('refused', 0):>6} refused "
                f"{harm:>4} harmful  slowest {one['slowest']:.2f} s  {one['growth'] / 2**20:5.1f} MiB",
                flush=True,
            )
            for text in one["harm"][:3]:
                print(f"    {text}", flush=True)
        program.close()
    total = sum(one["mutants"] for one in found)
    harm = sum(one.get(how, 0) for one in found for how in ("error", "died", "hang", "memory"))
    slowest, growth = max(one["slowest"] for one in found), max(one["growth"] for one in found)
    print(
        f"{total} mutants, {harm} harmful; slowest {slowest:.2f} s, at most {growth / 2**20:.1f} MiB beyond"
    )
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
