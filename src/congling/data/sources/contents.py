"""What sources hold, as one fingerprint: the same text under another name or path is the same text."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from congling.core.artifact import file_hash
from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.config import SMALL_WORLD
from congling.data.sources.reading import files_of, reader_of


def contents(sources: Sequence[str]) -> str | None:
    """SHA-256 over the bytes and kinds of all files that are read, in their order; their names do not count.

    ``None`` where that cannot be said: a source is missing, or is no file that can be read a second time.
    """
    found: list[tuple[str, str]] = []
    try:
        for source in sources:
            if source == SMALL_WORLD and not Path(source).exists():
                found.append((SMALL_WORLD, ""))
                continue
            files = [Path(file) for file in files_of([source])]
            if not all(file.is_file() for file in files):
                return None
            tracked = track(files, "checking", total=len(files))
            found += [(reader_of(str(file)), file_hash(file)) for file in tracked]
    except (OSError, UserError):
        return None
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def same_sources(before: Sequence[str], fingerprint: str | None, now: Sequence[str]) -> bool | None:
    """Whether sources hold what those read before held.

    Args:
        before: sources read before, as they were named.
        fingerprint: :func:`contents` of them then; ``None`` where nobody wrote it down.
        now: sources named now.

    Returns:
        None where nothing can be said but by their names.
    """
    found = contents(now)
    if found is not None and fingerprint is not None:
        return found == fingerprint
    if [Path(one).resolve() for one in before] == [Path(one).resolve() for one in now]:
        return True
    if found is not None and (then := contents(before)) is not None:
        return found == then
    return None
