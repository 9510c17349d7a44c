"""Samples, their order and the rows made of them."""

import numpy as np
import pytest

from congling.core.errors import UserError
from congling.llamacpp_trainers.name_hash import libstdcxx_hash
from congling.llamacpp_trainers.rows import Filling, RowSource, straight_rows
from congling.llamacpp_trainers.samples import Samples, Splitting, read_text, split
from congling.llamacpp_trainers.shuffle import seeded, shuffled

BOS, EOS = 1001, 1002
SIZES = np.array([64, 10, 64, 64, 7, 64, 64, 1])


class Characters:
    """A vocabulary of code points, the longest of 4 bytes."""

    vocab_size = 300

    def encode(self, text):
        return [ord(character) % 1000 for character in text]

    def token_bytes(self, index):
        return b"wide" if index == 7 else b"x"


def samples(*parts):
    sizes = np.array([len(part) for part in parts], np.int64)
    return Samples(
        np.concatenate([np.array(part, np.int32) for part in parts]), np.cumsum(sizes) - sizes, sizes
    )


def cut(text, context, **how):
    told = []
    found = split(text, Characters(), context, Splitting(**how), told.append)
    return ["".join(map(chr, found.sample(i))) for i in range(len(found))], told


def test_shuffle_has_the_published_order_and_offsets():
    first = shuffled(seeded(1), SIZES)
    assert first.order.tolist() == [4, 5, 6, 0, 2, 3, 1, 7]
    assert first.offsets.tolist() == [0, 14, 5, 24, 11, 24, 3, 0]
    second = shuffled(first.following, SIZES)
    assert second.order.tolist() == [5, 0, 4, 7, 2, 6, 3, 1]
    assert second.offsets.tolist() == [12, 27, 5, 0, 1, 33, 42, 8]


def test_shuffle_state_is_that_of_the_generator_as_text():
    words = seeded(1).split()
    assert len(words) == 625
    assert (words[0], words[-1]) == ("1", "624")
    draws = np.random.RandomState(1).randint(0, 2**32, 3, dtype=np.uint32)
    assert draws.tolist() == [1791095845, 4282876139, 3093770124]
    assert seeded(-1) == seeded(2**32 - 1)


def test_samples_have_the_former_programs_hash():
    """Numbers of ``std::hash<std::string>`` in GNU's library, and of a checkpoint of build 1446."""
    names = {
        "": 6142509188972423790,
        "a": 4993892634952068459,
        "text.txt": 3570974511528473150,
        "红楼梦.txt": 6858366953231027954,
        "12345678": 10113836418918046885,
        "1234567890abcdef": 9534007772931588010,
    }
    assert {name: libstdcxx_hash(name.encode()) for name in names} == names
    starts, sizes = np.arange(260, dtype=np.int64), np.full(260, 16, np.int64)
    everywhere = Samples(np.zeros(276, np.int32), starts, sizes)
    assert everywhere.fingerprint("shakespeare.txt") == 2383937669184074369
    assert everywhere.fingerprint("./shakespeare.txt") != 2383937669184074369


@pytest.mark.parametrize("state", ["", "1 2 3", " ".join(["-1"] * 625), " ".join(["9" * 400] * 625)])
def test_a_broken_state_is_named(state):
    with pytest.raises(UserError, match="shuffle state"):
        shuffled(state, SIZES)


def test_without_a_pattern_every_token_starts_a_sample():
    assert cut("abcdefg", 4)[0] == ["abcd", "bcde", "cdef"]
    assert cut("abc", 4)[0] == ["abc"]
    assert cut("abcd", 4)[0] == ["abcd"]
    assert cut("abcdefghij", 3, stride=3)[0] == ["abc", "def", "ghi"]


def test_with_a_pattern_its_occurrences_do():
    assert cut("xx#ab#cdefg#", 4, pattern="#", include_pattern=True)[0] == ["#ab", "#cdefg", "#"]
    found, told = cut("xx#ab#cdefg#", 4, pattern="#")
    assert found == ["ab", "cdefg", ""]
    assert [line.split()[2:4] for line in told] == [["exceed", "the"], ["are", "shorter"], ["are", "empty"]]


def test_occurrences_do_not_overlap_and_none_is_one_sample():
    assert cut("aaaaa", 4, pattern="aa", include_pattern=True)[0] == ["aa", "aaa"]
    found, told = cut("abc", 4, pattern="#")
    assert found == ["abc"]
    assert "not found" in told[0]


def test_overlapping_samples_run_on_by_the_longest_token():
    text = "#" + "a" * 5 + "#" + "b" * 20
    assert cut(text, 2, pattern="#", overlapping=True)[0] == ["aaaaa#bb", "bbbbbbbb"]


def test_an_end_inside_a_character_moves_behind_it():
    found = split("#天地玄黄", Characters(), 1, Splitting(pattern="#", overlapping=True), lambda line: None)
    assert found.sizes.tolist() == [2]  # 4 bytes end inside the second character


def test_escaped_pattern():
    how = {"escape": True, "include_pattern": False, "overlapping": False, "stride": 1}
    assert Splitting.of(r"\n", **how).pattern == "\n"
    assert Splitting.of(r"\n", **(how | {"escape": False})).pattern == r"\n"


def test_a_text_without_tokens_is_refused():
    with pytest.raises(UserError, match="no tokens"):
        cut("#", 4, pattern="#")


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "empty"), (b"\xff\xfe\xfa", "UTF-8"), (None, "cannot read")]
)
def test_texts_that_cannot_be_read(tmp_path, content, what):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=what):
        read_text(str(tmp_path / "a.txt"))


def source(parts, seed=1, **how):
    return RowSource(samples(*parts), Filling(4, BOS, EOS, **how), seeded(seed))


def test_a_row_begins_with_bos_and_predicts_from_the_first_token():
    batch = source([[5, 6, 7, 8]], rows=1).next_batch()
    assert batch.tokens.tolist() == [[BOS, 5, 6, 7]]
    assert batch.targets.tolist() == [[5, 6, 7, 8]]
    assert (batch.weights, batch.count) == (None, 4)


def test_short_samples_are_filled_with_eos_which_counts():
    batch = source([[5]], rows=1).next_batch()
    assert batch.targets.tolist() == [[5, EOS, EOS, EOS]]
    assert batch.count == 4


def test_padding_can_be_left_out_of_the_loss():
    batch = source([[5]], rows=1, train_on_padding=False).next_batch()
    assert batch.weights.tolist() == [[1, 1, 0, 0]]
    assert batch.count == 2


def test_short_samples_are_filled_with_the_next_ones():
    order = shuffled(seeded(1), np.array([1, 1, 1])).order
    tokens = [[10], [20], [30]]
    first, second, third = (tokens[i][0] for i in order)
    every = {"rows": 1, "fill": True}
    assert source(tokens, **every).next_batch().targets.tolist() == [[first, BOS, second, BOS]]
    both = source(tokens, separate_eos=True, **every)
    assert both.next_batch().targets.tolist() == [[first, EOS, BOS, second]]
    assert (both.place, both.samples_seen) == (2, 2)
    none = source(tokens, separate_bos=False, **every)
    assert none.next_batch().targets.tolist() == [[first, second, third, first]]
    assert (none.place, none.epochs, none.samples_seen) == (0, 1, 4)


def test_random_offsets_are_the_shuffled_ones():
    parts = [list(range(100 * i, 100 * i + size)) for i, size in enumerate(SIZES)]
    rows = source(parts, rows=8, random_offsets=True).next_batch().targets
    epoch = shuffled(seeded(1), SIZES)
    expected = [100 * i + offset for i, offset in zip(epoch.order, epoch.offsets, strict=True)]
    assert rows[:, 0].tolist() == expected


def test_epochs_follow_one_another_and_can_be_taken_up_again():
    parts = [[i, i, i, i] for i in range(8)]
    one, told = source(parts, rows=3), []
    seen = [one.next_batch(told.append).targets[:, 0].tolist() for _ in range(6)]
    epoch = shuffled(seeded(1), np.full(8, 4))
    assert [index for rows in seen[:3] for index in rows] == [
        *epoch.order,
        epoch.order[0],
    ]  # the last row goes round
    assert told == [1, 2]
    two = source(parts, rows=3)
    for _ in range(4):
        two.next_batch()
    again = RowSource(two.samples, two.filling, two.state, place=two.place, epochs=two.epochs)
    assert [again.next_batch().targets[:, 0].tolist() for _ in range(2)] == seen[4:]


def test_held_out_rows_have_each_token_once():
    batches = list(straight_rows(np.arange(10, 20), BOS, 4, rows=2))
    assert [batch.count for batch in batches] == [8, 2]
    assert batches[0].tokens.tolist() == [[BOS, 10, 11, 12], [BOS, 14, 15, 16]]
    assert batches[1].weights.tolist() == [[1, 1, 0, 0]]


def test_ids_outside_the_model_are_clamped():
    found = RowSource(samples([5, 900]), Filling(2, BOS, EOS, rows=1), seeded(1), vocab_size=300).next_batch()
    assert found.targets.tolist() == [[5, 299]]


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        ("天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。" * 9, "iconv -f GB18030"),
        ("天地玄黄，宇宙洪荒。的是了在人有我他" * 9, "iconv -f UTF-16LE"),
        ("天地玄黄，宇宙洪荒。" * 9, "damaged"),
    ],
)
def test_a_text_that_is_not_utf8_is_refused_with_its_cure(tmp_path, content, cure):
    codec = {"iconv -f GB18030": "gb18030", "iconv -f UTF-16LE": "utf-16", "damaged": "utf-8"}[cure]
    (file := tmp_path / "book.txt").write_bytes(content.encode(codec)[: -1 if cure == "damaged" else None])
    with pytest.raises(UserError, match=cure):
        read_text(str(file))
