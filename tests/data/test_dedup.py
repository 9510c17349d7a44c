import random

from congling.data.dedup import Overlap, content_hash, grams


def text(seed: int, length: int) -> str:
    rng = random.Random(seed)
    return "".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(length))


def overlap(*held: str, share: float = 0.5) -> Overlap:
    found = Overlap(share)
    for number, document in enumerate(held):
        found.add(document, f"v{number}")
    found.ready()
    return found


def test_layout_does_not_make_a_difference() -> None:
    assert content_hash("云 对\n雨") == content_hash("云对雨") != content_hash("云对雪")


def test_sequences_ignore_punctuation_and_case() -> None:
    assert grams("Hello, World! 123 abc").tolist() == grams("helloworld123abc").tolist()
    assert len(grams("helloworld123abc")) == 4
    assert len(grams("短")) == 0


def test_a_half_copy_is_found_and_a_third_is_not() -> None:
    held = overlap(text(1, 200), text(2, 200))
    assert held.near_copy(text(2, 200)) == ("v1", 1.0)
    found = held.near_copy(text(2, 200)[:120] + text(3, 80))
    assert found is not None
    assert found[0] == "v1"
    assert abs(found[1] - 108 / 188) < 1e-9
    assert held.near_copy(text(2, 200)[:70] + text(3, 130)) is None
    assert held.near_copy(text(3, 200)) is None


def test_a_long_document_that_holds_a_whole_validation_document() -> None:
    held = overlap(text(1, 100))
    assert held.near_copy(text(5, 3000) + text(1, 100) + text(6, 3000)) == ("v0", 1.0)


def test_overlap_is_with_one_document_not_with_all_together() -> None:
    held = overlap(*(text(seed, 100) for seed in range(4)))
    mixture = "".join(text(seed, 100)[:40] for seed in range(4))
    assert held.near_copy(mixture) is None


def test_sequences_shared_by_several_validation_documents() -> None:
    common = text(9, 60)
    held = overlap(common + text(1, 100), common + text(2, 20), common)
    assert held.near_copy(common + text(3, 300)) == ("v2", 1.0)


def test_nothing_held_out() -> None:
    assert overlap().near_copy(text(1, 100)) is None
