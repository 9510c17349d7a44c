"""Streams of text: whole characters, nothing of a stop string, the same text however it is cut."""

from hypothesis import given
from hypothesis import strategies as st

from congling.infer.text import TextStream


@given(
    st.text(alphabet="从零。ab😀\n", max_size=20),
    st.lists(st.text(alphabet="零。ab", max_size=3), max_size=2),
)
def test_cutting_bytes_anywhere_changes_nothing(text: str, stop: list[str]):
    stream, at_once = TextStream(stop), TextStream(stop)
    pieces = [stream.feed(bytes([byte])) for byte in text.encode()] + [stream.close()]
    complete = [(at + len(mark), at) for mark in stop if mark and (at := text.find(mark)) >= 0]
    assert "".join(pieces) == text[: min(complete)[1] if complete else len(text)]
    assert "".join(pieces) == at_once.feed(text.encode()) + at_once.close()
    assert all("\ufffd" not in piece for piece in pieces)
    assert stream.done


def test_a_character_comes_when_it_is_whole():
    stream = TextStream()
    first, second, third = "从".encode()[:1], "从".encode()[1:2], "从".encode()[2:]
    assert [stream.feed(first), stream.feed(second), stream.feed(third)] == ["", "", "从"]


def test_what_may_become_a_stop_string_is_held_back():
    stream = TextStream(["。\n"])
    assert [stream.feed("好。".encode()), stream.feed(b"a"), stream.feed("。".encode())] == ["好", "。a", ""]
    assert stream.feed(b"\n") == "" and stream.done
    assert stream.feed("更多".encode()) == "" and stream.close() == ""


def test_broken_bytes_become_a_replacement_character_and_an_unfinished_end_nothing():
    stream = TextStream()
    assert stream.feed(b"\xe4a") == "\ufffda"
    assert stream.feed(b"\xe4\xbb") + stream.close() == ""
