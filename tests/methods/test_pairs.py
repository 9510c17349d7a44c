"""Preferences of a model's own answers: the best and the worst of each prompt, as rows that `dpo` reads."""

import json
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig, SplitConfig
from congling.data.tuning.preferences import read_pairs
from congling.infer.checkpoints import load_checkpoint
from congling.methods import pairs
from support.tuning_doubles import make_base

SAME = "def same(row, text):\n    return 1.0\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_base(tmp_path_factory.mktemp("pairs"))
    (root / "same.py").write_text(SAME, encoding="utf-8")
    return root


def plain(row, text):
    """The rule of ``tuning_doubles``, once more."""
    return sum(ord(c) > 127 for c in text) / max(1, len(text)) - 0.2


def made(base: Path, out: Path, reward: str, **options) -> tuple[int, int]:
    return pairs.run(
        base / "base",
        [str(base / "prompts.jsonl")],
        [f"{base}/{reward}"],
        out,
        answers=24,
        max_new_tokens=4,
        temperature=0.7,
        **options,
    )


def test_the_better_answer_earned_more_and_dpo_reads_the_rows(base: Path, tmp_path: Path):
    kept, asked = made(base, tmp_path / "own.jsonl", "rules.py:plain")
    rows = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text("utf-8").splitlines()]
    assert 0 < kept == len(rows) <= asked == 12
    for row in rows:
        best, worst = (plain(row, side) for side in (row["chosen"], row["rejected"]))
        assert row["rewards"] == pytest.approx([best, worst])
        assert best > worst
    config = DataConfig(sources=(str(tmp_path / "own.jsonl"),), split=SplitConfig(validation=1))
    read = read_pairs(config, load_checkpoint(base / "base", "cpu").tokenizer, 48)
    assert len(read.train) + len(read.validation) == kept
    assert not read.findings.counts


def test_equal_seeds_give_equal_files_and_others_do_not(base: Path, tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made(base, tmp_path / name, "rules.py:plain", seed=seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_mistakes_leave_no_file(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no prompt gives a pair"):
        made(base, tmp_path / "own.jsonl", "same.py:same")
    with pytest.raises(UserError, match="answers fill the whole context"):
        pairs.run(
            base / "base", [str(base / "prompts.jsonl")], ["exact"], tmp_path / "own.jsonl", max_new_tokens=99
        )
    assert not list(tmp_path.iterdir())
