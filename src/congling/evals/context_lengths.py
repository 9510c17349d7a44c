"""At which lengths a model is asked: multiples of the one it was trained at, as far as it reads."""

from congling.core.numbers import whole
from congling.evals.bench import Bench
from congling.infer.checkpoints import Loaded
from congling.infer.reading import extension_of


def original_length(loaded: Loaded) -> int:
    """Tokens that the model read before its context was extended; else all that it reads.

    A checkpoint says so that was extended, or trained since (``from``); of others the scaling of their
    positions does.
    NTK-aware scaling is only a larger base, which nobody can see in a configuration.
    """
    told = whole(extension_of(loaded.checkpoint.facts).get("from"))
    context = loaded.model.config.max_position_embeddings
    return min(told or loaded.model.config.trained_length, context)


def cases(bench: Bench) -> int:
    """Cases of each length, depth or distance: a quarter of the bench's limit, 50 by default."""
    return max(1, bench.limit // 4)


def doublings(first: int, most: int) -> list[int]:
    """``first`` and twice each before it, up to ``most``.

    >>> doublings(64, 300), doublings(64, 10)
    ([64, 128, 256], [])
    """
    found = []
    while 1 <= first <= most:
        found.append(first)
        first *= 2
    return found
