"""Every command in front of a disk that takes no more: one error, and nothing left behind."""

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from congling.core import artifact
from congling.core.disk import Refused
from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.data.inspection import inspect
from congling.data.smallworld import rows as small_rows
from congling.data.smallworld.rows import RowsConfig
from congling.interop import adapter_directory
from congling.interop.adapters import write as write_adapter
from congling.methods import conversion, importing, prune
from congling.report import record
from congling.report.writing import write_report
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig
from congling.transform.config import AdapterConfig
from congling.transform.lora import adapter_of, attach
from congling.transform.prune_sizes import Sizes
from support import tiny_checkpoint

LINES = ["云对雨，雪对风，晚照对晴空。" + chr(0x4E00 + i) * 20 for i in range(200)]


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """No file may become larger: as on a full disk, the bytes after that are refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    (root / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    corpus.make(DataConfig(sources=(str(root / "text.txt"),), documents="line"), root / "documents")
    training.train(TokenizerConfig(kind="character"), lambda: iter(LINES), root / "tokenizer")
    tiny_checkpoint.write(root / "checkpoint")
    (root / "run").mkdir()
    (root / "run" / "metrics.jsonl").write_text('{"step": 1, "tokens": 2, "loss": 3.0}\n')
    return root


def adapted(made: Path, out: Path) -> None:
    from congling.infer.checkpoints import load_checkpoint

    loaded = load_checkpoint(made / "checkpoint", "cpu")
    attach(loaded.model, AdapterConfig(r=4), seed=0)
    adapter = adapter_of(loaded.model, facts={})
    if out.name == "own":
        base = adapter_directory.Base(loaded.checkpoint.fingerprint, "base", loaded.model.config)
        adapter_directory.write(out, adapter, base)
    else:
        write_adapter(adapter, loaded.model.config, out.name, out)  # type: ignore[arg-type]


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "documents": lambda made, out: corpus.make(
        DataConfig(sources=(str(made / "text.txt"),), documents="line"), out
    ),
    "tokenizer": lambda made, out: training.train(
        TokenizerConfig(kind="character"), lambda: iter(LINES), out
    ),
    "bpe": lambda made, out: training.train(
        TokenizerConfig(kind="bpe", vocab_size=320), lambda: iter(LINES), out
    ),
    "shards": lambda made, out: shards.write(made / "documents", made / "tokenizer", out),
    "inspect": lambda made, out: inspect(DataConfig(sources=(str(made / "text.txt"),), documents="line")),
    "rows": lambda made, out: small_rows.write(RowsConfig.model_validate({"count": 50}), out),
    "gguf": lambda made, out: conversion.run(made / "checkpoint", "gguf", out, verify=False),
    "hf": lambda made, out: conversion.run(made / "checkpoint", "hf", out, verify=False),
    "llama2c": lambda made, out: conversion.run(made / "checkpoint", "llama2c", out, verify=False),
    "own": adapted,
    "peft": adapted,
    "ggla": adapted,
    "gguf-lora": adapted,
    "report": lambda made, out: write_report(made / "run", out),
    "results": lambda made, out: record.add_result(made / "run", "a", "x" * 200_000),
}


@pytest.mark.parametrize("size", [60, 3_000])
@pytest.mark.parametrize("what", WRITERS)
def test_what_takes_no_more_is_one_error_and_nothing_stays(
    made: Path, tmp_path: Path, what: str, size: int
) -> None:
    before = sorted(path.name for path in made.rglob("*"))
    try:
        with limited(size):
            WRITERS[what](made, tmp_path / "folder" / what)
    except Refused as error:
        assert "File too large" in str(error) and "ulimit -f" in str(error)
    else:
        assert size == 3_000  # small enough after all
    assert what == "report" or not (tmp_path / "folder").exists() or size == 3_000
    assert [path for path in tmp_path.rglob(".*")] == []
    assert sorted(path.name for path in made.rglob("*")) == before


def test_a_failed_overwrite_leaves_what_was_there(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "documents"
    shutil.copytree(made / "documents", out)
    config = DataConfig(sources=(str(made / "text.txt"),), documents="line", smallest=30)
    with limited(500), pytest.raises(UserError, match="File too large"):
        corpus.make(config, out, overwrite=True)
    assert (
        artifact.opened(out, "documents", verify=True).files
        == artifact.opened(made / "documents", "documents").files
    )
    assert [path.name for path in tmp_path.iterdir()] == ["documents"]


def test_an_import_and_a_pruned_model(made: Path, tmp_path: Path) -> None:
    conversion.run(made / "checkpoint", "hf", tmp_path / "hf", verify=False)
    for write in (
        lambda: importing.run(tmp_path / "hf", tmp_path / "imported"),
        lambda: prune.run(made / "checkpoint", tmp_path / "pruned", Sizes(num_hidden_layers=1)),
    ):
        with limited(5_000), pytest.raises(UserError, match="File too large"):
            write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]
