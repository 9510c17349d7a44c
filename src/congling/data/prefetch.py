"""Batches made ahead of time by a background thread, in order, a few at most."""

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from congling.data.batches import Batch, Batches

_POLL = 0.1  # seconds after which a waiting thread looks whether it should end


class Prefetcher:
    """Iterator over ``batches(step, rank, world)`` for step = start, start + 1, …, made ahead of time.

    What it gives is what calling ``batches`` gives; an exception in the thread is raised where the batch is
    asked for. Use it in a ``with`` block, or ``close()`` it: the thread then ends.
    """

    def __init__(
        self, batches: Batches, start: int, stop: int | None, rank: int, world: int, depth: int
    ) -> None:
        self._queue: queue.Queue[list[Batch] | BaseException | None] = queue.Queue(max(1, depth))
        self._closing = threading.Event()
        self._ended = False
        arguments = (batches, start, stop, rank, world)
        self._thread = threading.Thread(target=self._produce, args=arguments, name="prefetch", daemon=True)
        self._thread.start()

    def _produce(self, batches: Batches, start: int, stop: int | None, rank: int, world: int) -> None:
        step = start
        try:
            while not self._closing.is_set() and (stop is None or step < stop):
                self._put(batches(step, rank, world))
                step += 1
            self._put(None)
        except BaseException as error:
            self._put(error)  # not handled here: the consumer raises it

    def _put(self, item: list[Batch] | BaseException | None) -> None:
        while not self._closing.is_set():
            try:
                return self._queue.put(item, timeout=_POLL)
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def __next__(self) -> list[Batch]:
        if self._ended or self._closing.is_set():
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, list):
            return item
        self._ended = True
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """End the thread and wait for it; further batches are not made."""
        self._closing.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prefetch(
    batches: Batches,
    start_step: int,
    stop_step: int | None = None,
    *,
    rank: int = 0,
    world: int = 1,
    depth: int = 2,
) -> Prefetcher:
    """Start making the batches of ``start_step``, ``start_step + 1``, … ahead of their use."""
    return Prefetcher(batches, start_step, stop_step, rank, world, depth)
