"""Needles: facts of the small world hidden in ever longer texts, asked for at their end.

::

    depth ╲ tokens    128     256 (L)    512    1024       of each cell, by two measures:
      0 %             98 %    97 %       91 %   40 %         likeliest   the answer among 64 of its form
     25 %             …                                      written     greedy text, by exact rule
    100 %

The rows of RULER (Hsieh et al. 2024) in a language that small models can learn. Its effective length: the
longest at which a model is as good as at the length it was trained at, L.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from congling.core.errors import UserError
from congling.core.progress import track
from congling.core.seeds import mixed
from congling.data.final_answer import same
from congling.data.smallworld.long.hiding import NeedleKind
from congling.data.smallworld.needles import NEEDLE_KINDS, Needle, needle
from congling.evals.bench import Bench
from congling.evals.context_lengths import cases, doublings, original_length
from congling.evals.fitting import Fitting
from congling.evals.needle_prompts import Asked, asked, check_characters
from congling.evals.needle_scores import Answered, Cell, scores
from congling.evals.scores import Score
from congling.evals.shared_prompt import followed
from congling.evals.unextended import require_same_tokens, unextended
from congling.infer.checkpoints import load_checkpoint
from congling.model.transformer import Transformer
from congling.tokenizer.base import Tokenizer

DEPTHS = (0, 25, 50, 75, 100)
"""Where a needle lies, in per cent of the filler before it."""
FURTHEST = 16
"""Longest text, in trained lengths."""
WINDOWED = "single"
"""Kind of needle that is also asked for with only the last trained length of each text to read."""
_SEED = 1_000_003  # far from the small numbers people train on
_BATCH_TOKENS, _ROWS = 16_384, 64


def run(bench: Bench) -> list[Score]:
    """``needles/KIND/LENGTH/DEPTH`` and ``…/written``, those of all depths, and effective lengths.

    Raises:
        UserError: the tokenizer does not know the language, or no needle fits into the context.
    """
    trained = original_length(bench.loaded)
    context = bench.loaded.model.config.max_position_embeddings
    furthest = min(context, FURTHEST * trained)
    lengths = [one for one in (trained // 2, *doublings(trained, furthest)) if one]
    texts = [_made(bench, kind, 0, 0, seed).prompt for kind in NEEDLE_KINDS for seed in range(8)]
    check_characters(bench, texts)
    window = _window(bench, trained)
    cells = [cell for kind in NEEDLE_KINDS for cell in _of_kind(bench, kind, lengths, window)]
    if not cells:
        hint = "they are for contexts of a hundred tokens and more"
        raise UserError("no needle fits into the context", value=f"{context} tokens", hint=hint)
    return scores(cells, trained, window.told)


@dataclass(frozen=True)
class _Window:
    """A model that reads only the last ``trained`` tokens of a text, as one that was not extended must."""

    model: Transformer
    trained: int
    told: str

    def cut(self, problems: Sequence[Asked]) -> list[Asked]:
        """Problems as it reads them; none where its window has no room for an answer."""
        room = max(one.room for one in problems)
        return [one.cut(self.trained - room) for one in problems] if room < self.trained else []


def _window(bench: Bench, trained: int) -> _Window:
    """The model before it was extended where it is known, else this one."""
    base = None if bench.base is None else load_checkpoint(bench.base)
    if base is not None:
        text = _made(bench, WINDOWED, 200, 50, 0).prompt
        require_same_tokens(base, [(text, bench.loaded.tokenizer.encode(text))])
    before = unextended(base or bench.loaded)
    if before is None:
        return _Window(bench.loaded.model, trained, "this model")
    return _Window(before, trained, "the model before it was extended")


def _of_kind(bench: Bench, kind: NeedleKind, lengths: Sequence[int], window: _Window) -> Iterator[Cell]:
    """Every cell of a kind whose texts fit into their length."""
    grid = [(length, depth) for length in lengths for depth in DEPTHS]
    for length, depth in track(grid, f"needles, {kind}"):
        fitting = Fitting(length)
        problems = [
            found
            for number in range(cases(bench))
            if (found := fitted(bench, fitting, kind, depth, number)) is not None
        ]
        if len(problems) < cases(bench):
            where = f"{kind} in {length} tokens, {depth} %"
            bench.problem("needles longer than their cell", where, f"{len(problems)} fit")
        if not problems:
            continue
        windowed: list[Answered] = []
        if kind == WINDOWED and length > window.trained:
            windowed = answers(bench, window.cut(problems), window.model)
        chance = sum(one.needle.chance for one in problems) / len(problems)
        yield Cell(kind, length, depth, answers(bench, problems), windowed, chance=chance)


def fitted(bench: Bench, fitting: Fitting, kind: NeedleKind, depth: int, number: int) -> Asked | None:
    """The problem of this number of a cell."""
    seed = mixed(_SEED, bench.seed, NEEDLE_KINDS.index(kind), fitting.length, depth, number)
    return fitting.fitted(lambda characters: asked(bench, _made(bench, kind, characters, depth, seed)))


def _made(bench: Bench, kind: NeedleKind, characters: int, depth: int, seed: int) -> Needle:
    script = bench.small_world().get("script", "hans")
    return needle(kind, filler_characters=characters, depth=depth / 100, seed=seed, script=script)


def answers(bench: Bench, problems: Sequence[Asked], model: Transformer | None = None) -> list[Answered]:
    """Whether the right answer is the likeliest, and whether it is what greedy decoding writes.

    ``model`` answers in place of the bench's own.
    """
    if not problems:
        return []
    model, tokenizer = model or bench.loaded.model, bench.loaded.tokenizer
    found: dict[int, Answered] = {}
    for batch in _batches(problems, model.config.max_position_embeddings):
        read = followed(
            model,
            [problems[number].ids for number in batch],
            [problems[number].candidates for number in batch],
            new=max(problems[number].room for number in batch),
            ends=ending(tokenizer),
            undrawable=tokenizer.undrawable(model.config.vocab_size),
        )
        for number, one in zip(batch, read, strict=True):
            said = problems[number].answer(tokenizer, one.written)
            found[number] = Answered(one.right, same(said, problems[number].needle.answer))
    return [found[number] for number in range(len(problems))]


def _batches(problems: Sequence[Asked], context: int) -> Iterator[list[int]]:
    """Numbers of problems of like length whose longest text leaves room for their longest answer."""
    batch: list[int] = []
    for number in sorted(range(len(problems)), key=lambda number: len(problems[number].ids)):
        length = len(problems[number].ids)  # the longest so far
        room = max(problems[other].room for other in (*batch, number))
        full = len(batch) >= min(_ROWS, _BATCH_TOKENS // length) or length + room > context
        if batch and full:
            yield batch
            batch = []
        batch.append(number)
    yield batch


def ending(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end an answer: those that end a text, special ones, and line breaks."""
    special = set(tokenizer.special.values()) - set(tokenizer.inner_marks.values())
    breaks = tokenizer.encode_rest("\n")
    return frozenset({*tokenizer.stop_ids, *special, *(breaks if len(breaks) == 1 else ())})
