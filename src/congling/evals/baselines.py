"""The model's bits per character beside those of models anybody can have: n-grams and compressors.

All are fitted on the training documents and measured on the same held-out ones, ends of documents included;
denominators count characters.
"""

import math

from congling.core.progress import track
from congling.evals.bench import Bench
from congling.evals.compression import COMPRESSORS, WINDOW, compressed_bits, tail
from congling.evals.kneser_ney import ORDERS, KneserNey
from congling.evals.likelihood import text_nats
from congling.evals.scores import Score, ratio


def run(bench: Bench) -> list[Score]:
    """``baselines/model``, ``…/perplexity``, ``…/kneser-ney-N`` and a line for each compressor.

    Raises:
        UserError: there is no held-out text, or the training documents are not known.
    """
    texts = [document.text for document in bench.held_out()]
    characters = list(map(len, texts))
    measured = text_nats(
        bench.loaded.model,
        bench.loaded.tokenizer,
        texts,
        context=bench.loaded.reading.context,
        label="this model",
    )
    nats, tokens = [nats for nats, _ in measured], sum(count for _, count in measured)
    bits = [value / math.log(2) for value in nats]
    found = [
        ratio(
            "baselines/model",
            bits,
            characters,
            "bits/character",
            "held-out documents, ends included",
            seed=bench.seed,
        ),
        Score(
            "baselines/perplexity",
            math.exp(min(700.0, sum(nats) / tokens)),
            len(texts),
            "per token",
            "exp of the mean nats of a token; depends on the tokenizer",
        ),
    ]
    for fitted in track(KneserNey.all_orders(bench.training()), "n-grams", total=ORDERS):
        costs = [fitted.bits(text) for text in texts]
        protocol = f"interpolated Kneser-Ney over characters, order {fitted.order}, "
        protocol += f"fitted on {fitted.characters:,} characters of training text"
        name = f"baselines/kneser-ney-{fitted.order}"
        found.append(
            ratio(name, costs, characters, "bits/character", protocol, reference=True, seed=bench.seed)
        )
    before = tail(bench.training())
    for name in track(COMPRESSORS, "compressors", total=len(COMPRESSORS)):
        value = compressed_bits(name, before, texts) / sum(characters)
        protocol = f"size behind at most the last {WINDOW >> 20} MB of training text"
        found.append(
            Score(f"baselines/{name}", value, len(texts), "bits/character", protocol, reference=True)
        )
    return found
