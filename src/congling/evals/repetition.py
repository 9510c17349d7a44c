"""How much a model repeats itself, and how much a person does in as long a text.

distinct-n   different n-grams of characters, as a share of all those of all texts together (Li et al. 2016)
repeated     share of a text's 8-grams that stood before in the same text
looping      share of texts with a loop of 20 characters or more: one piece again and again
longest      length of the longest such loop

    从前有一只小猫，小猫，小猫，小猫，小猫，小猫，小猫，
                   ■■■■■■■■■■■■■■■■■■■■■ a loop of 21 characters, period 3
"""

from collections.abc import Sequence

import numpy as np

from congling.data.counts import codes
from congling.data.repetition import GRAM, repeated_share
from congling.evals.bench import Bench
from congling.evals.scores import Score, mean, share
from congling.evals.writing import GREEDY, written
from congling.infer.sampler import SamplingConfig

LOOP = 20
TOKENS = 200
"""Written behind each prompt."""
_PROMPT = 8  # tokens of a held-out document that are given
_MOST = 64  # texts
_PERIOD = 50  # longest piece whose return is a loop
SAMPLED = SamplingConfig(temperature=0.8)


def run(bench: Bench) -> list[Score]:
    """``repetition/sampled/…`` and ``…/greedy/…``, and ``…/held-out/…`` of the real texts cut to one length.

    Raises:
        UserError: there is no held-out text.
    """
    documents = bench.held_out()[:_MOST]
    tokenizer = bench.loaded.tokenizer
    encoded = [tokenizer.encode(document.text) for document in documents]
    prompts = [[*(tokenizer.prefix_ids or (tokenizer.bos_id,)), *ids[:_PROMPT]] for ids in encoded]
    real = [tokenizer.decode(ids[_PROMPT : _PROMPT + TOKENS]) for ids in encoded]
    found: list[Score] = []
    sampled = SAMPLED.replace(seed=bench.seed)
    for name, sampling in (("sampled", sampled), ("greedy", GREEDY)):
        texts = written(bench.loaded, prompts, tokens=TOKENS, sampling=sampling, label=f"{name} texts")
        heat = f"temperature {sampling.temperature:g}"
        found += measured(name, texts, f"{TOKENS} tokens behind {_PROMPT} of a held-out text, {heat}")
    return found + measured("held-out", real, "the real texts behind the same beginnings", reference=True)


def measured(name: str, texts: Sequence[str], protocol: str, *, reference: bool = False) -> list[Score]:
    """The scores of some texts; none where all are empty."""
    texts = [text for text in texts if text.strip()]
    if not texts:
        return []
    name = f"repetition/{name}"
    loops = [longest_loop(text) for text in texts]
    pooled = [
        Score(
            f"{name}/distinct-{n}",
            distinct(texts, n),
            len(texts),
            "share",
            f"{protocol}; different {n}-grams of characters among all",
            reference=reference,
        )
        for n in (2, 4)
    ]
    return [
        *pooled,
        mean(
            f"{name}/repeated",
            [repeated_share(text) for text in texts],
            "share",
            f"{protocol}; {GRAM}-grams that stood before in the same text",
            reference=reference,
        ),
        share(
            f"{name}/looping",
            [loop >= LOOP for loop in loops],
            f"{protocol}; texts with a loop of {LOOP} characters or more",
            reference=reference,
        ),
        Score(
            f"{name}/longest",
            float(max(loops)),
            len(texts),
            "characters",
            f"{protocol}; the longest loop",
            reference=reference,
        ),
    ]


def distinct(texts: Sequence[str], n: int) -> float:
    """Different n-grams of characters as a share of all; 0 without any."""
    grams = [text[start : start + n] for text in texts for start in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def longest_loop(text: str) -> int:
    """Characters of the longest stretch that is one piece at least twice over; 0 without one.

    >>> longest_loop("天地玄黄玄黄玄黄宇宙")
    6
    """
    points, best = codes(text), 0
    for period in range(1, min(_PERIOD, len(points) // 2) + 1):
        equal = np.concatenate([[False], points[period:] == points[:-period], [False]])
        edges = np.flatnonzero(equal[1:] != equal[:-1])  # where runs begin and end, alternating
        runs = edges[1::2] - edges[::2]
        longest = int(runs.max(initial=0))
        if longest >= period:
            best = max(best, longest + period)
    return best
