"""The copy rate finds verbatim spans, exactly, in bounded blocks."""

import random

import pytest

from congling.evals import copying
from congling.evals.copying import copy_report

BOOK = "".join(chr(0x4E00 + value) for value in random.Random(2).choices(range(3000), k=5000))


def test_a_recited_passage_is_found_with_its_length():
    generated = "全新的话" + BOOK[1000:1050] + "后面也是新的"
    report = copy_report([generated], [BOOK], span=20)
    assert (report.copied, report.longest, report.longest_text) == (50, 50, BOOK[1000:1050])
    assert report.rate == pytest.approx(50 / len(generated))


def test_new_text_and_short_spans_do_not_count():
    assert copy_report(["甲乙丙丁" * 10], [BOOK]).rate == 0
    assert copy_report([BOOK[10:29]], [BOOK], span=20).copied == 0
    assert copy_report([], [BOOK]).rate == 0


def test_two_passages_side_by_side_are_two_spans():
    report = copy_report([BOOK[100:130] + BOOK[3000:3040]], [BOOK], span=20)
    assert (report.copied, report.longest) == (70, 40)


def test_a_span_over_the_border_of_two_documents_does_not_count():
    assert copy_report([BOOK[90:110]], [BOOK[:100], BOOK[100:]], span=20).copied == 0


def test_blocks_do_not_cut_spans(monkeypatch):
    monkeypatch.setattr(copying, "_BLOCK", 128)
    samples = [BOOK[at : at + 60] for at in (0, 100, 777, 4940)]
    report = copy_report(samples, [BOOK], span=20)
    assert (report.rate, report.longest) == (1.0, 60)


def test_repeated_characters_end_soon():
    report = copy_report(["“" * 300], ["“" * 200_000], span=20)
    assert (report.rate, report.longest) == (1.0, 300)


def test_odd_characters_are_text_like_any_other():
    text = "\0\ud800" + "𠀀" * 3 + BOOK[:40]
    assert copy_report([text], [text], span=20).rate == 1.0
