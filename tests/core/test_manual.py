"""What help takes from a docstring."""

from congling.core.manual import examples, sentences

DOCSTRING = """First line, the summary.

Reads ``this``, writes that::

    book ─ drawing ─→ model
    congling train book.txt --out runs/book
    congling tokenizer runs/book/documents --out runs/book/tokenizer
        tokenizer.vocab_size=4096
    from congling import no_command

A second paragraph
over two lines.
"""


def test_sentences_are_what_is_not_indented():
    assert sentences(DOCSTRING) == [
        "First line, the summary.",
        "Reads this, writes that.",
        "A second paragraph over two lines.",
    ]


def test_examples_are_commands_and_go_on_where_indented_further():
    assert examples(DOCSTRING) == [
        "congling train book.txt --out runs/book",
        "congling tokenizer runs/book/documents --out runs/book/tokenizer tokenizer.vocab_size=4096",
    ]


def test_without_a_docstring_there_is_nothing():
    assert (sentences(None), examples(None)) == ([], [])
