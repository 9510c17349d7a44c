"""Program of one of two processes that tune together."""

import sys
from pathlib import Path

from tuning_doubles import tune

if __name__ == "__main__":
    for name in sys.argv[3:]:
        tune(Path(sys.argv[1]), Path(sys.argv[2]) / name, name)
