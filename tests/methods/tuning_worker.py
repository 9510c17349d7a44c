"""Program of one of two processes that tune together."""

import sys
from pathlib import Path

from support.tuning_doubles import tune

if __name__ == "__main__":
    tune(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
