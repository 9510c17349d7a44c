"""The order of samples in an epoch: a Mersenne Twister whose state is kept as text between runs.

The numbers are those of a C++ ``std::mt19937`` seeded with one integer, which NumPy's legacy ``RandomState``
draws too, and the text is what that generator writes to a stream: 624 words and the position, so a state
moves between programs.
"""

# N samples

from dataclasses import dataclass

import numpy as np

from congling.core.errors import UserError

_WORDS, _LARGEST = 624, 2**32 - 1


@dataclass(frozen=True)
class Shuffle:
    """One epoch's order."""

    order: np.ndarray
    """(N,) int64, sample indices."""
    offsets: np.ndarray
    """(N,) int64, a random place inside each sample, in that order."""
    following: str
    """State from which the next epoch is shuffled."""


def seeded(seed: int) -> str:
    """State of a generator right after seeding; of a negative seed the lower 32 bits count."""
    return _text(np.random.RandomState(seed & _LARGEST))


def shuffled(state: str, sizes: np.ndarray) -> Shuffle:
    """Shuffle samples of ``sizes`` (N,) tokens: one draw a sample for the order, then one for its offset.

    Raises:
        UserError: the text is not the state of such a generator.
    """
    generator = _generator(state)
    draws = _draw(generator, len(sizes))
    order = np.argsort(draws, kind="stable")
    share = _draw(generator, len(sizes)).astype(np.float64) / (_LARGEST - 1)
    last = np.maximum(sizes[order].astype(np.float64) - 1, 0)
    return Shuffle(order, (last * share).astype(np.int64), _text(generator))


def _draw(generator: np.random.RandomState, count: int) -> np.ndarray:
    return generator.randint(0, 2**32, size=count, dtype=np.uint32)


def _text(generator: np.random.RandomState) -> str:
    state = generator.get_state(legacy=False)["state"]
    return " ".join(map(str, [*state["key"].tolist(), state["pos"]]))


def _generator(state: str) -> np.random.RandomState:
    words = state.split()
    legal = len(words) == _WORDS + 1 and all(word.isascii() and word.isdigit() for word in words)
    numbers = [int(word) for word in words] if legal and max(map(len, words)) <= 10 else []
    if not numbers or max(numbers) > _LARGEST or numbers[-1] > _WORDS:
        raise UserError(
            "the shuffle state is not that of a 32-bit Mersenne Twister: 625 numbers",
            value=state[:40],
            hint="--force-reshuffle does without it",
        )
    generator = np.random.RandomState()
    key, place = np.array(numbers[:-1], np.uint32), numbers[-1]
    generator.set_state({"bit_generator": "MT19937", "state": {"key": key, "pos": place}})
    return generator
