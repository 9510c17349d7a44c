"""One model in two programs: the same ids, the same logits, the same greedy text?

The other program is an ``Engine`` (the real llama.cpp, transformers, or a reader that follows run.c). Both
sides get equal inputs, so a difference is one of the conversion or of rounding, never of sampling.
"""

# P positions compared, V vocabulary

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from congling.infer.generate import tokens
from congling.infer.sampler import SamplingConfig
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer

TEXT = """从零开始，学而时习之，不亦说乎？人间清暑殿，天上广寒宫。
雲對雨，雪對風，晚照對晴空。來鴻對去燕，宿鳥對鳴蟲。說文解字：「龍」的解釋是什麼？
  In 2026, a small model wrote its first line:  "Hello, 世界!"\tIt's 3.14159 × 10^8 — isn't it?
价格：￥1,234.50（约 12345678 元）；电话 010-8888 6666。温度−3℃～25℃，第１２３章……
def f(x):
    return [x ** 2 for _ in range(100)]  # 注释
😀👍🏽 👨‍👩‍👧 ①②③ ㍿ é ñ ß Ω Жы العربية हिन्दी 한국어 日本語のテスト
却说那日天气晴和，众人在园中闲坐说话，只见一个小丫头笑嘻嘻地走来，说道：“老太太请姑娘们过去呢。”
"""
"""Simplified and Traditional Chinese, English, digits, code, emoji: what tokenizers differ on."""

WINDOW, POSITIONS, PROMPT, GREEDY = 128, 384, 8, 200
_ROWS = 512  # positions whose logits are compared at once


@dataclass(frozen=True)
class Lengths:
    """How long the texts are that two programs are compared on."""

    context: int
    """Tokens up to which both should compute the same."""
    long: int = 0
    """Tokens of one long text more: stretched positions show far from a text's beginning. 0: none."""


class Engine(Protocol):
    """Another program with the same model in it."""

    @property
    def name(self) -> str:
        """Program and version."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text, without a beginning-of-text id."""
        ...

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """(T, V) float32: scores after each of ``ids``."""
        ...

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The likeliest continuation of ``ids``, at most ``count`` ids."""
        ...


@dataclass(frozen=True)
class Parity:
    """What was compared, and how far apart the two programs are."""

    engine: str
    ids: int
    """Tokens of the test text."""
    equal_ids: int
    """Those in lines that both programs cut alike."""
    different_line: str | None
    """First line that they cut differently."""
    positions: int
    largest_difference: float
    """Of any logit at any position."""
    mean_difference: float
    perplexity: float
    """Of the test text, here."""
    engine_perplexity: float
    greedy: int
    """Tokens continued greedily."""
    equal_greedy: int
    """Those before each text's first difference."""
    margin: float | None
    """Largest distance of the two choices' logits where the texts part: below the accuracy it is a tie."""

    def to_json(self) -> dict[str, Any]:
        """Return the plain fields."""
        return asdict(self)

    def misses(self, accuracy: float | None, perplexity_within: float | None = None) -> list[str]:
        """What is not as it should be, in sentences.

        Ids must be equal and logits finite always. ``accuracy`` is the largest allowed difference of logits,
        ``None`` where the other program computes with rounded activations, so that the numbers are told but
        not judged, except by ``perplexity_within``, the largest relative difference of perplexity. Texts that
        part at a tie within the accuracy are equal.
        """
        found = []
        if self.equal_ids < self.ids:
            found.append(
                f"{self.ids - self.equal_ids} of {self.ids} ids of the test text differ, first in the line "
                f"{self.different_line!r}"
            )
        if not math.isfinite(self.largest_difference):
            return [*found, "logits are not finite"]
        change = abs(self.engine_perplexity / self.perplexity - 1)
        if perplexity_within is not None and change > perplexity_within:
            found.append(f"the perplexity differs by {change:.2%}, more than {perplexity_within:.0%}")
        if accuracy is None:
            return found
        if not self.largest_difference <= accuracy:
            found.append(f"logits differ by up to {self.largest_difference:.2e}, more than {accuracy:.0e}")
        if self.margin is not None and not self.margin <= 2 * accuracy:
            found.append(f"the greedy texts part after {self.equal_greedy} of {self.greedy} tokens")
        return found


def compare(
    model: Transformer,
    tokenizer: Tokenizer,
    engine: Engine,
    text: str = TEXT,
    more: Sequence[str] = (),
    lengths: Lengths | None = None,
) -> Parity:
    """Compare a model here with the same one in ``engine``, on ``text``; of ``more`` texts the ids alone.

    Without ``lengths`` texts are as long as the model's context allows.
    """
    lengths = lengths or Lengths(model.config.max_position_embeddings)
    cut = [(line, tokenizer.encode(line), engine.tokenize(line)) for line in (*_lines(text), *more)]
    unlike = [line for line, ours, theirs in cut if ours != theirs]
    ids = _ids(tokenizer, text)
    return Parity(
        engine=engine.name,
        ids=sum(len(ours) for _, ours, _ in cut),
        equal_ids=sum(len(ours) for _, ours, theirs in cut if ours == theirs),
        different_line=unlike[0].strip() if unlike else None,
        **_logits(model, engine, list(_windows(lengths, tokenizer.bos_id, ids))),
        **_greedy(model, tokenizer, engine, ids, lengths.context),
    )


def divergence(
    model: Transformer, tokenizer: Tokenizer, engine: Engine, text: str = TEXT, lengths: Lengths | None = None
) -> float:
    """Mean KL divergence in nats per token, at the windows that ``compare`` looks at: of the other program's
    probabilities from those of ``model``."""
    lengths = lengths or Lengths(model.config.max_position_embeddings)
    summed, count = 0.0, 0
    for window in _windows(lengths, tokenizer.bos_id, _ids(tokenizer, text)):
        both = logits_of(model, window), np.asarray(engine.logits(window), np.float32)
        for start in range(0, len(window), _ROWS):
            ours, theirs = (
                torch.from_numpy(each[start : start + _ROWS]).double()[:, : both[0].shape[1]].log_softmax(-1)
                for each in both
            )
            summed += float((ours.exp() * (ours - theirs)).sum())
        count += len(window)
    return summed / max(1, count)


def perplexity(
    model: Transformer, tokenizer: Tokenizer, text: str = TEXT, lengths: Lengths | None = None
) -> float:
    """Perplexity of the windows of ``text`` that ``compare`` looks at."""
    lengths = lengths or Lengths(model.config.max_position_embeddings)
    cost = count = 0.0
    for window in _windows(lengths, tokenizer.bos_id, _ids(tokenizer, text)):
        cost, count = cost + _cost(logits_of(model, window), window[1:]), count + len(window) - 1
    return _perplexity(cost, count)


@torch.inference_mode()
def logits_of(model: Transformer, ids: Sequence[int]) -> np.ndarray:
    """(T, V) float32: our scores after each of ``ids``."""
    row = torch.tensor([list(ids)], device=next(model.parameters()).device)
    return model.logits(model(row))[0].float().cpu().numpy()


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return [index for line in _lines(text) for index in tokenizer.encode(line)]


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if line.strip()]


def _logits(model: Transformer, engine: Engine, windows: list[list[int]]) -> dict[str, Any]:
    largest, summed, values, positions, predicted = 0.0, 0.0, 0, 0, 0
    cost = engine_cost = 0.0
    for window in windows:
        all_ours, all_theirs = logits_of(model, window), np.asarray(engine.logits(window), np.float32)
        width = min(all_ours.shape[1], all_theirs.shape[1])  # some programs pad the vocabulary
        for start in range(0, len(window), _ROWS):
            rows, following = slice(start, start + _ROWS), window[start + 1 : start + 1 + _ROWS]
            ours, theirs = all_ours[rows], all_theirs[rows]
            difference = np.abs(ours[:, :width] - theirs[:, :width])
            largest = float(np.maximum(largest, difference.max()))  # stays NaN once it is
            summed, values = summed + float(difference.sum(dtype=np.float64)), values + difference.size
            cost, engine_cost = cost + _cost(ours, following), engine_cost + _cost(theirs, following)
        positions, predicted = positions + len(window), predicted + len(window) - 1
    return {
        "positions": positions,
        "largest_difference": largest,
        "mean_difference": summed / max(1, values),
        "perplexity": _perplexity(cost, predicted),
        "engine_perplexity": _perplexity(engine_cost, predicted),
    }


def _perplexity(cost: float, count: float) -> float:
    return math.exp(min(700.0, cost / max(1, count)))


def _windows(lengths: Lengths, begin: int, ids: list[int]) -> Iterator[list[int]]:
    """Pieces of the text, each as long as the context allows, until enough positions are covered; then the
    long text, for which the text is read again and again."""
    length = max(1, min(WINDOW, lengths.context) - 1)
    for start in range(0, min(len(ids), POSITIONS), length):
        yield [begin, *ids[start : start + length]]
    if ids and (rest := min(lengths.long, lengths.context) - 1) > length:
        yield [begin, *itertools.islice(itertools.cycle(ids), rest)]


def _cost(logits: np.ndarray, following: Sequence[int]) -> float:
    """Summed -log p of the ids that follow the rows (P, V); the last row of a text has none."""
    scores = logits[: len(following)].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    logs = np.log(np.exp(scores).sum(axis=-1))
    return float((logs - scores[np.arange(len(following)), np.asarray(following, int)]).sum())


def _greedy(
    model: Transformer, tokenizer: Tokenizer, engine: Engine, ids: list[int], context: int
) -> dict[str, Any]:
    """Continue beginnings taken from the text until enough tokens are written, and look where they part."""
    written = equal = 0
    margins: list[float] = []
    stops = set(tokenizer.special.values())
    for start in itertools.islice(range(0, len(ids), PROMPT), 40):
        prompt = [tokenizer.bos_id, *ids[start : start + PROMPT]]
        count = min(GREEDY - written, context - len(prompt))
        if count <= 0:
            break
        ours = _until_stop(_continued(model, prompt, count), stops)
        theirs = _until_stop(engine.greedy(prompt, count), stops)
        same = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))
        )
        written, equal = written + len(ours), equal + same
        if same < len(ours):
            margins.append(_margin(model, prompt + ours[:same], ours[same], theirs[same : same + 1]))
    return {"greedy": written, "equal_greedy": equal, "margin": max(margins, default=None)}


def _continued(model: Transformer, prompt: list[int], count: int) -> list[int]:
    greedy = SamplingConfig(temperature=0)
    return [row[0] for row in tokens(model, [prompt], max_new_tokens=count, sampling=greedy)]


def _until_stop(ids: list[int], stops: set[int]) -> list[int]:
    """Up to and with the first special token: some programs end a text there."""
    end = next((place for place, index in enumerate(ids) if index in stops), len(ids))
    return ids[: end + 1]


def _margin(model: Transformer, ids: list[int], ours: int, theirs: list[int]) -> float:
    """How much likelier our choice is than theirs, as a difference of logits; infinite if they had none."""
    if not theirs or not 0 <= theirs[0] < model.config.vocab_size:
        return math.inf
    last = logits_of(model, ids)[-1]
    return float(last[ours] - last[theirs[0]])
