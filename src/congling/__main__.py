"""``python -m congling`` is the same as ``congling``."""

from congling.cli import main

main()
