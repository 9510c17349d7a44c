"""Names of what a save writes, and the writing of equal files under two names."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from congling.core.output import replacing
from congling.llamacpp_trainers.options import TrainerOptions


def output_names(pattern: str, options: TrainerOptions, iteration: int) -> list[Path]:
    """The files a save writes for one output name: with the iteration in it, and the latest."""
    if not pattern:
        return []
    place = options.pattern_fn_it
    names = [
        pattern.replace(place, text, 1) if place else pattern for text in (str(iteration), options.fn_latest)
    ]
    return [Path(name) for name in dict.fromkeys(names)]


def write_copies(names: Sequence[Path], write: Callable[[Path], None]) -> None:
    """Write the first file, and copy it to the other names; each appears whole or not at all."""
    for name in names:
        if name == names[0]:
            write(name)
        else:
            with replacing(name, overwrite=True) as temporary:
                shutil.copyfile(names[0], temporary)
