"""Where congling's time goes while tuning: ``python benchmarks/tuning_profile.py METHOD [--effort full]``.

The same work as ``tuning`` measures, under torch's profiler: operators by their own CPU time.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

import tuning_ours
from measuring import Options
from tuning import METHODS
from tuning_data import SIZES, prepare


def main() -> None:
    """Train by one method under the profiler and print what took the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--effort", choices=tuple(SIZES), default="full")
    parser.add_argument("--operators", type=int, default=15, help="how many to list")
    given = parser.parse_args()
    sizes = SIZES[given.effort]
    with tempfile.TemporaryDirectory(prefix="tuning-") as name:
        folder = Path(name)
        corpora = os.environ.get("CONGLING_CORPORA")
        prepare(folder, sizes, Options(given.effort, Path(corpora) if corpora else None))
        order = {"method": given.method, "who": "congling", "folder": name, "sizes": sizes}
        sys.argv = [sys.argv[0], json.dumps(order)]
        with profile(activities=[ProfilerActivity.CPU]) as found:
            tuning_ours.main()
    table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=given.operators)
    print(table)


if __name__ == "__main__":
    main()
