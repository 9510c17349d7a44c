"""Needles: models whose answers are known, texts of the length asked for, and what cannot be measured."""

from collections import Counter
from dataclasses import replace

import pytest

from congling.core.errors import UserError
from congling.data.smallworld.needles import NEEDLE_KINDS, NeedleKind, needle
from congling.evals import needle_grid, needles, tasks
from congling.evals.bench import Bench
from congling.evals.fitting import SLACK, Fitting
from congling.evals.needle_prompts import asked, check_characters
from congling.evals.needle_scores import Answered, Cell, effective_length, scores
from congling.evals.score_tables import score_tables
from congling.evals.scores import Score, share, wilson
from congling.infer.checkpoints import Loaded
from congling.tokenizer.bpe import train
from congling.tokenizer.character import CharacterTokenizer
from support.copiers import Copying

TRAINED, CONTEXT = 128, 256


@pytest.fixture(scope="module")
def tokenizer() -> CharacterTokenizer:
    texts = [
        one.prompt + "".join(one.candidates)
        for kind in NEEDLE_KINDS
        for one in (needle(kind, filler_characters=900, depth=0.5, seed=seed) for seed in range(40))
    ]
    return CharacterTokenizer("".join(sorted(set("".join(texts)))))


def of(loaded: Loaded, tokenizer: CharacterTokenizer, sight: int) -> Bench:
    config = loaded.model.config.replace(max_position_embeddings=CONTEXT, vocab_size=tokenizer.vocab_size + 3)
    checkpoint = replace(loaded.checkpoint, facts={"extended": {"from": TRAINED}})
    return Bench(Loaded(Copying(config, sight, order=6), tokenizer, checkpoint), limit=4)


def measured(bench: Bench) -> dict[str, Score]:
    return {score.name.removeprefix("needles/"): score for score in tasks.run(bench, ["needles"])}


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind that the model can find, one that it cannot."""
    monkeypatch.setattr(needles, "NEEDLE_KINDS", ("single", "variables"))


@pytest.mark.usefixtures("kinds")
def test_a_model_that_finds_what_was_told_is_right_in_every_cell(
    loaded: Loaded, tokenizer: CharacterTokenizer
):
    found = measured(replace(of(loaded, tokenizer, sight=999), limit=8))
    for length in (64, 128, 256):
        for depth in (0, 25, 50, 75, 100):
            for name in (f"single/{length}/{depth}", f"single/{length}/{depth}/written"):
                assert (found[name].value, found[name].n, found[name].low) == (1.0, 2, wilson(2, 2)[0]), name
        assert found[f"single/{length}"].n == 10 and found[f"single/{length}"].chance == 1 / 64
    assert found["single/effective-length"].value == CONTEXT
    # It copies one statement: nothing that needs several. And only sees the last L tokens through the window.
    assert found["variables/256"].value == found["variables/256/written"].value == 0.0
    assert (found["all/256"].n, found["all/256"].value) == (20, 0.5)
    assert found["single/256/0/window"].value == 0.0 and found["single/256/0/window"].reference
    assert found["single/256/100/window"].value == 1.0 and "single/128/0/window" not in found


@pytest.mark.usefixtures("kinds")
def test_one_that_sees_the_last_tokens_finds_what_lies_there(loaded: Loaded, tokenizer: CharacterTokenizer):
    found = measured(replace(of(loaded, tokenizer, sight=TRAINED), limit=8))
    assert [found[f"single/256/{depth}"].value for depth in (0, 25, 100)] == [0.0, 0.0, 1.0]
    assert found["single/effective-length"].value == TRAINED
    for depth in needles.DEPTHS:
        assert found[f"single/256/{depth}/window"].value == found[f"single/256/{depth}"].value


@pytest.mark.usefixtures("kinds")
def test_equal_seeds_give_equal_scores_and_others_other_problems(
    loaded: Loaded, tokenizer: CharacterTokenizer
):
    bench = replace(of(loaded, tokenizer, sight=100), limit=4)
    assert needles.run(bench) == needles.run(bench)
    one, other = (replace(bench, seed=seed) for seed in (1, 2))
    texts = [needles.fitted(bench, Fitting(200), "single", 50, 0) for bench in (one, other, one)]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize("kind", NEEDLE_KINDS)
@pytest.mark.parametrize("length", [160, 600])
def test_texts_are_as_long_as_their_cell(
    loaded: Loaded, tokenizer: CharacterTokenizer, kind: NeedleKind, length: int
):
    bench = of(loaded, tokenizer, sight=1)
    fitting = Fitting(length)
    for number in range(2):
        found = needles.fitted(bench, fitting, kind, 50, number)
        assert found is not None and length - SLACK <= found.tokens <= length
        assert bench.loaded.tokenizer.decode(found.ids, skip_special=True) == found.needle.prompt


def test_the_search_counts_tokens_not_characters(loaded: Loaded, tokenizer: CharacterTokenizer):
    texts = [needle("single", filler_characters=2000, depth=0.5, seed=seed).prompt for seed in range(20)]
    counts = Counter("".join(texts))
    learnt = train(texts, vocab_size=1200, characters=counts, digits=1, longest_token=8)
    bench = replace(of(loaded, tokenizer, 1), loaded=replace(loaded, tokenizer=learnt))
    found = needles.fitted(bench, Fitting(400), "single", 50, 0)
    assert found is not None and 384 <= found.tokens <= 400 < len(found.needle.prompt)
    assert all(ids[-1] == found.candidates[0][-1] for ids in found.candidates)


def test_what_is_one_token_with_the_answer_belongs_to_it(loaded: Loaded, tokenizer: CharacterTokenizer):
    class Pairs(CharacterTokenizer):
        """The word 是4 is one token, that of 井."""

        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("是4", "井"))

        def piece(self, index: int) -> bytes:
            return super().piece(index).replace("井".encode(), "是4".encode())

    pairs = Pairs(tokenizer.characters + "井")
    bench = replace(of(loaded, tokenizer, 1), loaded=replace(loaded, tokenizer=pairs))
    some = (needle("variables", filler_characters=20, depth=0, seed=seed) for seed in range(40))
    one = asked(bench, next(one for one in some if one.answer.startswith("4")))
    assert one.held == 1 and pairs.decode(one.candidates[0]) == f"是{one.needle.answer}"
    assert one.answer(pairs, one.candidates[0]) == one.needle.answer


def test_a_model_tuned_for_chat_is_asked_through_its_template(loaded: Loaded, tokenizer: CharacterTokenizer):
    bench = replace(of(loaded, tokenizer, 999), chat=True, limit=4)
    made = needle("single", filler_characters=60, depth=0.5, seed=1)
    one = asked(bench, made)
    text = tokenizer.decode(one.ids)
    assert text.startswith("<|endoftext|><|im_start|>user\n") or text.startswith("<|im_start|>user\n")
    assert "问：" not in text and f"<|im_end|>\n<|im_start|>assistant\n{one.begun}" in text
    assert not text.endswith("答：")
    assert needles.answers(bench, [one]) == [Answered(True, True)]


def test_texts_that_fill_the_context_are_read_beside_others(loaded: Loaded, tokenizer: CharacterTokenizer):
    """A long text with a short answer beside a shorter one with a long answer took more than the context."""
    bench = of(loaded, tokenizer, 999)
    one, other = (
        asked(bench, needle(kind, filler_characters=60, depth=0, seed=2))
        for kind in ("single", "multi-value")
    )
    assert one.room < other.room
    full = [
        replace(some, ids=[*tokenizer.encode("小" * (CONTEXT - some.tokens)), *some.ids])
        for some in (one, other)
    ]
    assert len(full[0].ids) + other.room > CONTEXT == full[0].tokens == full[1].tokens
    assert needles.answers(bench, full) == [
        answer for some in full for answer in needles.answers(bench, [some])
    ]


def test_an_answer_ends_with_its_line(loaded: Loaded, tokenizer: CharacterTokenizer):
    one = asked(of(loaded, tokenizer, 1), needle("single", filler_characters=0, depth=0, seed=1))
    written = tokenizer.encode(f"{one.needle.answer}\n问：")
    assert one.answer(tokenizer, written) == one.needle.answer
    assert needles.ending(tokenizer) >= {*tokenizer.encode("\n"), tokenizer.eos_id}


def test_a_tokenizer_of_another_language_is_refused_by_name(loaded: Loaded, tokenizer: CharacterTokenizer):
    bench = of(loaded, tokenizer, 1)
    english = replace(bench, loaded=replace(bench.loaded, tokenizer=CharacterTokenizer("abc。：\n")))
    with pytest.raises(UserError, match="does not know .* characters of the small world") as refused:
        needles.run(english)
    assert "问" in str(refused.value.value) or "…" in str(refused.value.value)
    missing = CharacterTokenizer(tokenizer.characters.replace("午", ""))
    bench = replace(bench, loaded=replace(bench.loaded, tokenizer=missing))
    check_characters(bench, ["上午，小荷在家。问：几号？"])
    assert bench.findings.notes == ["characters of the small world that the tokenizer does not know: 午"]


@pytest.mark.usefixtures("kinds")
def test_a_context_without_room_is_refused(loaded: Loaded, tokenizer: CharacterTokenizer):
    bench = of(loaded, tokenizer, 1)
    config = bench.loaded.model.config.replace(max_position_embeddings=24)
    short = replace(bench.loaded, model=Copying(config, 1), checkpoint=loaded.checkpoint)
    bench = replace(bench, loaded=short)
    with pytest.raises(UserError, match="no needle fits into the context"):
        needles.run(bench)
    assert bench.findings.counts["needles longer than their cell"] == 20


def cells(shares: dict[int, float], n: int = 50) -> list[Cell]:
    return [
        Cell("single", length, 50, [Answered(i < value * n, False) for i in range(n)], chance=1 / 64)
        for length, value in shares.items()
    ]


@pytest.mark.parametrize(
    ("shares", "length"),
    [
        ({128: 1.0, 256: 1.0, 512: 1.0, 1024: 0.98}, 1024),  # 49 of 50 is no certain loss
        ({128: 1.0, 256: 1.0, 512: 0.6, 1024: 1.0}, 256),  # what comes behind a loss does not count
        ({128: 1.0, 256: 0.5, 512: 0.5, 1024: 0.1}, 512),  # measured against its own
        ({128: 0.0, 256: 0.02, 512: 0.02}, 0),  # chance
        ({256: 0.9}, 256),
    ],
)
def test_the_effective_length_is_the_longest_as_good_as_its_own(shares: dict[int, float], length: int):
    found = {score.name: score for score in scores(cells(shares), 256)}
    assert found["needles/single/effective-length"].value == length
    assert found["needles/all/effective-length"].value == length
    assert found["needles/single/effective-length/written"].value == 0


def test_a_share_is_compared_by_its_interval():
    def of_50(hits: int) -> Score:
        return share("needles/single/1", [i < hits for i in range(50)], "", chance=1 / 64)

    assert effective_length({256: of_50(50), 512: of_50(45)}, 256) == 256
    assert effective_length({256: of_50(50), 512: of_50(47)}, 256) == 512


def test_the_grid_stands_in_a_table_of_depth_by_length():
    given = scores(cells({128: 1.0, 256: 0.5}, n=10), 128)
    window = replace(given[0], name="needles/single/256/50/window", value=0.1, protocol="a window")
    head, rows, notes = needle_grid.rows([*given, window])
    assert head == ("needles", "depth", "128", "256")
    assert rows[0] == ("single", "50 %", "100% · 0%", "50% · 0%")
    assert rows[1] == ("", "all", "100% · 0%", "50% · 0%")
    assert rows[2] == ("  window", "50 %", "", "10%")
    assert any(note.startswith("single: 100.0% (72.2% … 100.0%) at its trained length") for note in notes)
    assert needle_grid.rows([replace(given[0], name="needles/x/y/z")]) == (("needles", "depth"), [], [])
    (table,) = score_tables(given)
    assert [column.header for column in table.columns] == list(head)
