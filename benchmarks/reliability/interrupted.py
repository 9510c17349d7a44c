"""How runs come through being ended: at every operation on a file, twice at random ones, and by SIGKILL.

``python benchmarks/reliability/interrupted.py [--kills 200] [--twice 100] [--out FILE.json]`` prints a table.
Each try goes on with the same command, and everything that is left is compared with a run that nobody
disturbed: checkpoints, logs, pointers, settings. Needs Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
PROGRAM = TESTS / "faults" / "crash_points.py"


def tried(*arguments: str) -> dict[str, object]:
    """Results of one series of tries."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, str(PROGRAM), root, *arguments]
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    found.pop("trace")
    return found


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--twice", type=int, default=100)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    more = ("--twice", str(asked.twice), "--kills", str(asked.kills))
    series = {"a run": tried(*more), "made longer": tried("--longer", *more)}
    print("| | operations | ended at each | ended twice | killed | other than undisturbed | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, found in series.items():
        counts = [found[key] for key in ("operations", "tried", "twice", "kills")]
        print(f"| {name} | {' | '.join(map(str, counts))} | {len(found['different'])} | {found['seconds']} |")
    for name, found in series.items():
        for one in found["different"]:
            print(f"{name}: {one}")
    if asked.out is not None:
        asked.out.write_text(json.dumps(series, indent=1) + "\n")


if __name__ == "__main__":
    main()
