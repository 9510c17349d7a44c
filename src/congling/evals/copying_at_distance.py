"""Copying what stood long before: a segment of random tokens, others between, and the segment again.

::

    raw       BOS │ S₁ … S₁₆ │ random tokens … │ S₁ S₂ S₃ S₄ │ S₅ … S₁₆     the last 12 are asked for
              ╰──────────── distance ──────────╯
    world     a line of the small world, scenes, and the line asked for again, where its tokens are known
    control   the same, but another segment stands first: what is asked for was never said

Ids are drawn evenly, so that nothing but the first S tells how the second one goes on. Two layers of
attention learn to find it (induction heads, Olsson et al. 2022), where positions are understood.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from random import Random

from congling.core.errors import UserError
from congling.core.seeds import mixed
from congling.data.smallworld.needles import copy_problem
from congling.evals.bench import Bench
from congling.evals.context_lengths import cases, doublings, original_length
from congling.evals.fitting import SLACK, Fitting
from congling.evals.likelihood import score_rows
from congling.evals.needle_prompts import unknown_characters
from congling.evals.scores import Score, mean, share
from congling.evals.windows import Row
from congling.infer.prompts import prompt_ids
from congling.tokenizer.base import Tokenizer

NAME = "copying-at-distance"
SEGMENT, CUE = 16, 4
"""Tokens of the segment, and how many of them are given again."""
_BATCH_TOKENS = 16_384
_FEWEST = 24  # ordinary tokens: a segment's, and some for what stands between


def run(bench: Bench) -> list[Score]:
    """``copying-at-distance/raw/D`` for each distance D, ``…/tokens`` and ``…/control``.

    Raises:
        UserError: the context is too short, or the vocabulary too small.
    """
    loaded = bench.loaded
    config, tokenizer = loaded.model.config, loaded.tokenizer
    ordinary = ordinary_ids(tokenizer, config.vocab_size)
    if len(ordinary) < _FEWEST:
        raise UserError(
            "too few ordinary tokens to copy", value=len(ordinary), hint=f"{_FEWEST} are needed at least"
        )
    found: list[Score] = []
    start = list(tokenizer.prefix_ids) or [tokenizer.bos_id]
    for distance in distances(original_length(loaded), config.max_position_embeddings, len(start)):
        problems = [
            raw_problem(ordinary, distance, mixed(bench.seed, distance, number))
            for number in range(cases(bench))
        ]
        found += _scores(bench, f"{NAME}/raw/{distance}", [one.opened(start) for one in problems], _RAW)
    return found + _world(bench)


_RAW = (
    f"{SEGMENT} random tokens, others, the first {CUE} again: the other {SEGMENT - CUE} by greedy decoding; "
    "the distance is that from a token to its copy"
)


_WORLD = (
    f"a line of {SEGMENT} random characters of the small world, its scenes, and the line asked for again, by "
    f"greedy decoding; the distance is at most {SLACK} tokens less"
)


@dataclass(frozen=True)
class Copying:
    """A text that ends with what it asks for, and the same without its first saying."""

    ids: Sequence[int]
    control: Sequence[int]
    """Another segment stands first; what is asked for is the same."""
    asked: int
    """Ids at the end that are asked for."""

    def opened(self, start: Sequence[int]) -> "Copying":
        """With ids before it that begin a text."""
        return Copying([*start, *self.ids], [*start, *self.control], self.asked)


def raw_problem(ordinary: Sequence[int], distance: int, seed: int) -> Copying:
    """Random tokens, ``distance + SEGMENT`` of them; what stands between has none of the segment's.

    Args:
        ordinary: ids to draw from, at least 24.
        distance: tokens from one of the segment to its copy, at least the segment's own.
        seed: equal seeds give equal problems.
    """
    random = Random(seed)
    segment = random.sample(ordinary, SEGMENT)
    inside = set(segment)
    others = [index for index in ordinary if index not in inside]
    between = random.choices(others, k=distance - SEGMENT)
    unsaid = random.choices(others, k=SEGMENT)
    return Copying([*segment, *between, *segment], [*unsaid, *between, *segment], SEGMENT - CUE)


def _world(bench: Bench) -> list[Score]:
    """The same in the language of the small world, where the tokenizer knows it."""
    texts = [prompt + answer for prompt, answer in (copy_problem(400, 900, seed) for seed in range(4))]
    if unknown_characters(bench, texts)[1]:
        bench.note("copying in the language of the small world is left out: the tokenizer does not know it")
        return []
    prompt, answer = copy_problem(SEGMENT, 0, 0)
    before = len(prompt_ids(bench.loaded.tokenizer, prompt.partition(answer)[0]))
    context, found = bench.loaded.model.config.max_position_embeddings, list[Score]()
    if context < before + 3 * SEGMENT:
        return []
    for distance in distances(original_length(bench.loaded), context, before):
        fitting = Fitting(distance)
        problems = [
            one.copying
            for number in range(cases(bench))
            if (one := world_problem(bench, fitting, mixed(bench.seed, distance, number))) is not None
            and len(one.copying.ids) <= context + 1
        ]
        if problems:
            found += _scores(bench, f"{NAME}/world/{distance}", problems, _WORLD)
    return found


@dataclass(frozen=True)
class _Told:
    """A text of the small world that quotes a line of its own."""

    copying: Copying
    tokens: int
    """From the line to its copy."""
    characters: int


def world_problem(bench: Bench, fitting: Fitting, seed: int) -> _Told | None:
    """A line said, scenes, and the line asked for as far behind as fits; none where it cannot be so near."""
    tokenizer, script = bench.loaded.tokenizer, bench.small_world().get("script", "hans")
    _, unsaid = copy_problem(SEGMENT, 0, mixed(seed, 1), script)

    def made(characters: int) -> _Told:
        prompt, answer = copy_problem(SEGMENT, characters, seed, script)
        own, whole = prompt_ids(tokenizer, prompt), prompt_ids(tokenizer, prompt + answer)
        control = prompt_ids(tokenizer, prompt.replace(answer, unsaid, 1) + answer)
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, whole, strict=False)))
        before = prompt_ids(tokenizer, prompt.partition(answer)[0])
        return _Told(Copying(whole, control, len(whole) - kept), len(own) - len(before), len(prompt))

    return fitting.fitted(made)


def ordinary_ids(tokenizer: Tokenizer, rows: int) -> list[int]:
    """Ids that stand for visible text of whole characters: no special tokens, no bytes, no holes."""
    barred = {
        *tokenizer.undrawable(rows),
        *tokenizer.special.values(),
        *tokenizer.inner_marks.values(),
        *tokenizer.open_marks.values(),
        *tokenizer.roles.ids(),
    }
    return [
        index
        for index in range(min(rows, tokenizer.vocab_size))
        if index not in barred and not tokenizer.is_byte(index) and _visible(tokenizer.token_bytes(index))
    ]


def _visible(data: bytes) -> bool:
    try:
        return bool(data.decode().strip())
    except UnicodeDecodeError:
        return False


def distances(trained: int, context: int, before: int) -> list[int]:
    """A quarter of the trained length, and twice each before it, as far as a copy fits into the context.

    The last is what fits where a whole context does not. ``before`` ids stand before the segment.

    Raises:
        UserError: not even a segment and its copy fit.

    >>> distances(256, 1024, 1)
    [64, 128, 256, 512, 1008]
    """
    most = context - before - SEGMENT + 1  # the last id is only foretold
    found = sorted({min(one, most) for one in doublings(max(1, trained // 4), context)})
    found = [one for one in found if one >= 2 * SEGMENT]
    if not found:
        hint = f"{2 * SEGMENT + before + SEGMENT - 1} tokens are needed"
        raise UserError("the context is too short to copy over a distance", value=context, hint=hint)
    return found


def _scores(bench: Bench, name: str, problems: Sequence[Copying], protocol: str) -> list[Score]:
    """Whole segments, tokens, and the control of one distance."""
    right = _copied(bench, problems, name, lambda one: one.ids)
    control = _copied(bench, problems, f"{name}, control", lambda one: one.control)
    tokens = f"{protocol}; mean share of its tokens that are the likeliest behind the right ones"
    unsaid = f"{protocol}; but another segment stood first, so what is asked for cannot be known"
    return [
        share(name, [all(one) for one in right], protocol),
        mean(f"{name}/tokens", [sum(one) / len(one) for one in right], "share", tokens, seed=bench.seed),
        share(f"{name}/control", [all(one) for one in control], unsaid, reference=True),
    ]


def _copied(
    bench: Bench, problems: Sequence[Copying], label: str, ids: Callable[[Copying], Sequence[int]]
) -> list[list[bool]]:
    """Of each problem which of the ids asked for are the likeliest, each behind the right ones."""
    model = bench.loaded.model
    scored = score_rows(
        model,
        [Row(ids(one), len(ids(one)) - one.asked) for one in problems],
        label=label,
        batch_tokens=_BATCH_TOKENS,
        undrawable=bench.loaded.tokenizer.undrawable(model.config.vocab_size),
    )
    return [one.top.tolist() for one in scored]
