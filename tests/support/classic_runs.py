"""A small text, a vocabulary of its pieces, and short runs of the former trainers' commands."""

import contextlib
import io
from pathlib import Path

import sentencepiece

from congling.llamacpp_trainers import export, finetune, inputs, scratch
from congling.llamacpp_trainers.adapter_options import ExportOptions, FinetuneOptions
from congling.llamacpp_trainers.arguments import parse
from congling.llamacpp_trainers.options import ScratchOptions

TEXT = """云对雨，雪对风，晚照对晴空。
来鸿对去燕，宿鸟对鸣虫。
三尺剑，六钧弓，岭北对江东。
人间清暑殿，天上广寒宫。
两岸晓烟杨柳绿，一园春雨杏花红。
两鬓风霜，途次早行之客；
一蓑烟雨，溪边晚钓之翁。
春对夏，秋对冬，暮鼓对晨钟。
观山对玩水，绿竹对苍松。
冯妇虎，叶公龙，舞蝶对鸣蛩。
衔泥双紫燕，课蜜几黄蜂。
春日园中莺恰恰，秋天塞外雁雍雍。
"""
SIZES = "--ctx 16 --embd 32 --head 2 --layer 2 --ff 64 -t 1 -b 4 --seed 1 --warmup 3 --adam-alpha 1e-2"
TUNING = "--ctx 16 -t 1 -b 4 --seed 3 --warmup 2 --adam-alpha 2e-2"


def make_inputs(folder: Path, kind: str = "unigram") -> None:
    """Write ``text.txt``, ``other.txt`` and ``vocab.model``."""
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "other.txt").write_text("绿竹对苍松，宿鸟对鸣虫。\n" * 6, encoding="utf-8")
    model = io.BytesIO()
    settings: dict[str, object] = {"vocab_size": 150}
    if kind == "bpe":  # as llama.cpp can tokenise too
        settings = {"vocab_size": 420, "byte_fallback": True, "normalization_rule_name": "identity"}
        settings |= {"remove_extra_whitespaces": False}
    with contextlib.redirect_stderr(io.StringIO()):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT.splitlines() * 4),
            model_writer=model,
            model_type=kind,
            hard_vocab_limit=False,
            minloglevel=3,
            **settings,
        )
    (folder / "vocab.model").write_bytes(model.getvalue())


def train(words: str, *more: str) -> list[str]:
    """Run ``train-text-from-scratch`` at the small sizes; the printed lines."""
    lines: list[str] = []
    arguments = [
        *SIZES.split(),
        "--vocab-model",
        "vocab.model",
        "--train-data",
        "text.txt",
        *words.split(),
        *more,
    ]
    options = parse(ScratchOptions, arguments)
    inputs.require(options)  # as the command does, before it imports torch
    scratch.run(options, lines.append)
    return lines


def tune(words: str, *more: str) -> list[str]:
    """Run ``finetune``; the printed lines."""
    lines: list[str] = []
    arguments = [*TUNING.split(), "--train-data", "other.txt", *words.split(), *more]
    options = parse(FinetuneOptions, arguments)
    inputs.require(options)
    finetune.run(options, lines.append)
    return lines


def merge(words: str) -> list[str]:
    """Run ``export-lora``; the printed lines."""
    lines: list[str] = []
    export.run(parse(ExportOptions, words.split()), lines.append)
    return lines


def losses(lines: list[str]) -> list[float]:
    """Losses of the iteration lines, without the first, which has none."""
    return [
        float(line.split("loss=")[1].split()[0]) for line in lines if " iter=" in line and "sched=" in line
    ][1:]
