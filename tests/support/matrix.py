"""Every family in every format, every tokenizer in every format, measured in the real programs."""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import sentencepiece
import torch

from congling.core import artifact
from congling.core.errors import UserError
from congling.evals.conversion.parity import TEXT
from congling.evals.conversion.verdict import Report
from congling.interop import checkpoint_directory
from congling.interop.foreign import ForeignModel
from congling.methods import conversion
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.imported import read

SIZES: dict[str, Any] = {
    "max_position_embeddings": 128,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
}
CORPUS = (
    TEXT
    + "云对雨，雪对风，晚照对晴空。来鸿对去燕，宿鸟对鸣虫。The quick brown fox jumps over the lazy dog.\n" * 9
)
BEGIN, END = "<!-- matrix: written by the tests -->", "<!-- end of matrix -->"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    family: str
    format: str
    """Target of ``congling convert`` and, behind a space, the type or version."""
    tokenizer: str
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Sizes other than ``SIZES``."""

    @property
    def name(self) -> str:
        """Its first three cells."""
        return f"{self.family} | {self.format} | {self.tokenizer}"


_ALL = ("gguf F32", "hf F32", "llama2c version 0")
_WIDE = {"hidden_size": 256, "intermediate_size": 256}
CASES = (
    *(Case(family, "gguf F32", "bpe") for family in FAMILIES),
    *(Case(family, "hf F32", "bpe") for family in FAMILIES),
    *(Case("llama", f"llama2c version {version}", "bpe") for version in (0, 1, 2)),
    *(Case("llama", format, tokenizer) for tokenizer in ("character", "unigram") for format in _ALL),
    *(Case("llama", format, f"sentencepiece {kind}") for kind in ("bpe", "unigram") for format in _ALL),
    *(Case("qwen3", f"gguf {type}", "bpe", _WIDE) for type in ("F16", "BF16", "Q8_0", "Q4_K_M", "Q2_K")),
)


@cache
def tokenizer(kind: str) -> Tokenizer:
    """A vocabulary of a few hundred pieces."""
    if kind.startswith("sentencepiece"):
        return _sentencepiece(kind.split()[1])
    size = None if kind == "character" else 480
    with tempfile.TemporaryDirectory() as folder:
        training.train(
            TokenizerConfig(kind=kind, vocab_size=size), lambda: iter([CORPUS]), Path(folder) / "t"
        )  # type: ignore[arg-type]
        return store.load(Path(folder) / "t")


def _sentencepiece(algorithm: str) -> Tokenizer:
    """As ``spm_train`` makes it: unigram with its defaults, bpe with bytes."""
    options: dict[str, Any] = {"vocab_size": 230}
    if algorithm == "bpe":
        options = {"vocab_size": 520, "byte_fallback": True, "normalization_rule_name": "identity"}
        options |= {"remove_extra_whitespaces": False}
    written = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()),
        model_writer=written,
        model_type=algorithm,
        minloglevel=2,
        **options,
    )
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        Path(file.name).write_bytes(written.getvalue())
        return read.read(file.name)


def checkpoint(case: Case, folder: Path) -> Path:
    """A model with random weights large enough that every part moves the logits."""
    words = tokenizer(case.tokenizer)
    config = FAMILIES[case.family](vocab_size=words.vocab_size, **SIZES | dict(case.changes))
    if case.format.startswith("llama2c"):
        config = config.replace(norm={"eps": 1e-5})  # run.c has no other
    model = Transformer(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.randn(tensor.shape) * 0.15 + ("norm.weight" in name))
    with artifact.writing(folder / "checkpoint", "checkpoint") as inner:
        checkpoint_directory.write(ForeignModel(config, model.state_dict(), words), inner)
    return folder / "checkpoint"


def measure(case: Case, folder: Path) -> Report | str:
    """What the real program computes, or why it cannot."""
    target, _, kind = case.format.partition(" ")
    options: dict[str, Any] = {"version": int(kind[-1])} if target == "llama2c" else {"type": kind}
    out = folder / ("model.gguf" if target == "gguf" else "export")
    try:
        report = conversion.run(checkpoint(case, folder), target, out, verify=True, **options).report
    except UserError as error:
        return error.what
    assert report is not None
    return report


def rows(results: Mapping[str, Report | str]) -> list[str]:
    """Lines of the table, without its head."""
    return [f"| {name} | {_cells(result)} |" for name, result in results.items()]


def _cells(result: Report | str) -> str:
    if isinstance(result, str):
        return "– | – | – | –"
    found = result.parity
    change = found.engine_perplexity / (result.original_perplexity or found.perplexity) - 1
    tie = " (tie)" if result.accuracy and found.equal_greedy < found.greedy and not result.misses else ""
    cells = (
        f"{found.equal_ids / found.ids:.0%}",
        f"{found.largest_difference:.0e}",
        f"{found.equal_greedy}/{found.greedy}{tie}",
        f"{change:+.2%}" if abs(change) >= 5e-5 else "0",
    )
    return " | ".join(cells)


def written(page: str) -> dict[str, str]:
    """Rows of a page's table by their first three cells."""
    table = re.search(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), page, re.S)
    assert table, f"the page should have a place for the table: {BEGIN} … {END}"
    lines = [line.strip("| ") for line in table[1].splitlines() if line.startswith("|")][2:]
    return {" | ".join(line.split(" | ")[:3]): line for line in lines}


def rewritten(page: str, head: str, lines: Iterable[str]) -> str:
    """The page with another table in its place."""
    table = "\n".join((BEGIN, "", head, "|---|---|---|---|---|---|---|", *lines, "", END))
    replace: Callable[[re.Match[str]], str] = lambda _: table  # noqa: E731 - no escapes in a function
    return re.sub(re.escape(BEGIN) + r".*?" + re.escape(END), replace, page, flags=re.S)
