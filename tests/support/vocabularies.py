"""Vocabularies as other programs make them, learnt from a few made-up stories, and texts to try them on."""

import io
import json
import random
from functools import cache
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

PARTS = (
    "小明", "去", "学校", "，", "。", "“", "”", "带着", "苹果", "下雨了", "一本旧书", "他说：", "\n", "　　",
    " ", "2026", "年", "It's", " a", " story", " of", " rivers", "了", "的", "！", "山上", "河边", "图书馆",
    "灯笼", "风筝",
)  # fmt: skip
ODD = (
    " ", "  ", "\n", "\r\n", "\t", "　", "12", "3456", "，", "。", "▁", "你好", "word", " Word",
    "'s", "don't", "'LL", "😀",
    "👩‍👩‍👧", "é", "e\u0301", "𠀀", "ﬁ", "１２", "ＡＢ", "<0x0A>", "\u200b", "\u00a0", "\x01", "한국",
    "かな", "…", "$", "~", "`", "ſ", "ß", "\u2028", "½", "²", "小明", "苹果",
)  # fmt: skip
SPECIAL_TEXTS = ("<|im_end|>", "<s>", "</s>", "<unk>", "<|endoftext|>", "[PAD3]")
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
WORDS += r"|\s*[\r\n]+|\s+(?!\S)|\s+"


def stories(count: int = 200) -> list[str]:
    """Prose with a little of everything that is common."""
    draw = random.Random(7)
    return ["".join(draw.choices(PARTS, k=60)) for _ in range(count)]


def provoking(count: int = 300, extra: tuple[str, ...] = ()) -> list[str]:
    """Texts of what tokenizers treat specially, side by side at random."""
    draw = random.Random(11)
    return ["", *("".join(draw.choices(ODD + extra, k=draw.randint(1, 12))) for _ in range(count))]


CLASSIC = {"model_type": "unigram", "vocab_size": 90}
"""What ``spm_train --model_type=unigram`` makes: folded widths, one space, no fallback to bytes."""
PLAIN = {
    "model_type": "bpe",
    "vocab_size": 420,
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}
SENTENCEPIECE = {
    "unigram": CLASSIC,
    "unigram-plain": CLASSIC | {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "unigram-users": CLASSIC
    | {
        "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
        "user_defined_symbols": ["\n", "<x>"],
    },
    "bpe": PLAIN,
    "bpe-no-space": PLAIN | {"add_dummy_prefix": False},
    "bpe-folding": {"model_type": "bpe", "vocab_size": 160},
    "unigram-bytes": CLASSIC | {"vocab_size": 350, "byte_fallback": True},
}  # fmt: skip


@cache
def sentencepiece_model(name: str) -> bytes:
    """A ``.model`` file."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(line for story in stories() for line in story.split("\n")),
        model_writer=model,
        minloglevel=2,
        num_threads=1,
        **SENTENCEPIECE[name],
    )
    return model.getvalue()


BYTE_LEVEL = {
    "gpt2": (None, ["<|endoftext|>"], {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}),
    "llama3": (
        WORDS,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|end_of_text|>"}},
    ),
    "qwen2": (
        WORDS.replace("{1,3}", ""),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None},
    ),
}


def hugging_face(name: str, folder: Path) -> Path:
    """A folder with ``tokenizer.json`` and ``tokenizer_config.json``."""
    words, special, settings = BYTE_LEVEL[name]
    inner = tokenizers.Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    symbols = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words is None)
    splits = [pre_tokenizers.Split(Regex(words), "isolated")] if words else []
    inner.pre_tokenizer = pre_tokenizers.Sequence([*splits, symbols])
    inner.decoder = decoders.ByteLevel()
    if name == "qwen2":
        inner.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, initial_alphabet=alphabet)
    inner.train_from_iterator(stories(), trainer)
    inner.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    inner.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    if name == "llama3":
        first = (special[0], inner.token_to_id(special[0]))
        inner.post_processor = processors.TemplateProcessing(f"{first[0]} $A", special_tokens=[first])
    folder.mkdir(exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
