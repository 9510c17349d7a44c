import json
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data import corpus
from congling.data.config import DataConfig
from congling.evals.bench import Bench, draw
from congling.evals.domains import domain
from congling.infer.checkpoints import Loaded


def test_draws_are_even_and_in_order():
    counts = [0] * 10
    for seed in range(2000):
        drawn = draw(range(10), 3, seed)
        assert drawn == sorted(drawn) and len(drawn) == 3
        for item in drawn:
            counts[item] += 1
    assert min(counts) > 500 and max(counts) < 700  # 600 each
    assert draw(range(4), 9, 0) == [0, 1, 2, 3] and draw(iter("abc"), 2, 5) == draw("abc", 2, 5)


def test_without_files_the_held_out_documents_are_taken(bench: Bench, documents: Path):
    known = {document.text for document in corpus.documents(documents, "validation")}
    held_out = bench.held_out()
    assert 0 < len(held_out) <= bench.limit
    assert {document.text for document in held_out} <= known


def test_a_text_seen_in_training_is_left_out_and_named(loaded: Loaded, documents: Path, tmp_path: Path):
    seen = next(iter(corpus.documents(documents, "train"))).text
    (tmp_path / "texts.jsonl").write_text(
        f'{{"text": "{seen}"}}\n{{"text": "日月盈昃。"}}\n', encoding="utf-8"
    )
    bench = Bench(loaded, [str(tmp_path / "texts.jsonl")], documents)
    assert [document.text for document in bench.held_out()] == ["日月盈昃。"]
    assert bench.findings.counts == {"seen in training": 1}
    assert (bench.findings.examples[0].file, bench.findings.examples[0].line) == ("texts.jsonl", 1)


def test_any_field_of_a_record_tells_domains_apart(loaded: Loaded, tmp_path: Path):
    rows = ['{"text": "天地。", "ward": "a/b"}', '{"text": "玄黄。"}', '{"text": "宇宙。", "ward": 3}']
    (tmp_path / "texts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    bench = Bench(loaded, [str(tmp_path / "texts.jsonl")], by="ward")
    assert [domain(document, "ward") for document in bench.held_out()] == ["a∕b", "(none)", "3"]
    assert {domain(document, "file") for document in bench.held_out()} == {"texts.jsonl"}


def test_nothing_to_measure_with_is_an_error(loaded: Loaded, tmp_path: Path):
    with pytest.raises(UserError, match="documents of this model are not known"):
        Bench(loaded).held_out()
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no held-out text"):
        Bench(loaded, [str(tmp_path / "empty.jsonl")]).held_out()


def test_texts_are_cleaned_as_those_of_training_were(loaded: Loaded, tmp_path: Path):
    """A dictionary learnt with its reading marks, cleaned without them, passed for a text never seen."""
    rows = [
        {"text": f"&&天ㄊㄧㄢ&&地{letter}玄黄宇宙洪荒\n\n\n\n日月"} for letter in "从零开始学写字而时习之不"
    ]
    (tmp_path / "mini.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = str(tmp_path / "mini.jsonl")
    config = DataConfig(sources=(source,), ruby="keep", collapse_blank_lines=False, overlap=1.0)
    made = corpus.make(config, tmp_path / "documents").path
    bench = Bench(loaded, files=[source], documents=made)
    kept = len(list(corpus.documents(made, "train")))
    texts = [document.text for document in bench.held_out()]
    assert bench.findings.counts == {"seen in training": kept} and len(texts) == len(rows) - kept > 0
    assert all("ㄊㄧㄢ" in text and "\n\n\n\n" in text for text in texts)
