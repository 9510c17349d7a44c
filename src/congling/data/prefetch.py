"""Batches made ahead of time by a background thread, in order, a few at most."""

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from congling.data.batches import Batch, Batches


@contextlib.contextmanager
def prefetch(
    batches: Batches,
    start_step: int,
    stop_step: int | None = None,
    *,
    rank: int = 0,
    world: int = 1,
    depth: int = 2,
) -> Iterator[Iterator[Sequence[Batch]]]:
    """What ``batches(step, rank, world)`` gives for step = start, start + 1, …, made ``depth`` steps ahead.

    An exception in the thread is raised where its batch is asked for, and ends the iterator. The thread ends
    with the block, after the batch it is at.
    """
    steps = itertools.count(start_step) if stop_step is None else iter(range(start_step, stop_step))
    pool = ThreadPoolExecutor(1, "prefetch")
    ahead = deque(pool.submit(batches, step, rank, world) for step in itertools.islice(steps, depth))

    def made() -> Iterator[Sequence[Batch]]:
        while ahead:
            found = ahead.popleft().result()
            ahead.extend(pool.submit(batches, step, rank, world) for step in itertools.islice(steps, 1))
            yield found

    try:
        yield made()
    finally:
        pool.shutdown(cancel_futures=True)
