"""The files beside a vocabulary say the same here as in transformers, on folders in which they differ."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from congling.core.errors import UserError
from congling.evals.conversion.provoking import TEXTS
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.vocabulary import fields, tokenizer_from
from congling.interop.hf import tokenizer as exported
from congling.tokenizer.imported import read
from congling.tokenizer.imported.side_files import template_notes

from .test_tokenizer_gguf import model_file

transformers = pytest.importorskip("transformers")
DECODER = {str(256 + i): {"content": text, "special": True} for i, text in enumerate(("<s>", "</s>"))}
BASE = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
ONE, TWO = "one {{ messages[0]['content'] }}", "two {{ messages[0]['content'] }}"


def folder_of(path: Path, begins: bool = False, **files: Any) -> Path:
    """A byte-level vocabulary with three special tokens; further files by name, ``__`` for the dot."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = ("<s>", "</s>", "<end>")
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in texts])
    if begins:
        made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 256)])
    path.mkdir()
    made.save(str(path / "tokenizer.json"))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return path


def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("stated", [None, True, False])
@pytest.mark.parametrize("begins", [True, False])
def test_the_file_itself_says_whether_texts_begin_with_a_token(
    begins: bool, stated: bool | None, tmp_path: Path
):
    settings = BASE | ({} if stated is None else {"add_bos_token": stated})
    folder = folder_of(tmp_path / "a", begins, tokenizer_config__json=settings)
    ours = read.read(folder)
    assert [*ours.prefix_ids, *ours.encode("a")] == theirs(folder).encode("a")
    assert ours.adds_bos == begins


@pytest.mark.parametrize("adds", [True, False])
def test_a_gguf_file_that_begins_texts_does_so_in_a_folder(adds: bool, tmp_path: Path):
    keys = fields(read.read(folder_of(tmp_path / "a", adds, tokenizer_config__json=BASE)))
    file = model_file(tmp_path / "m.gguf", keys)
    found = tokenizer_from(GGUFFile.open(file).fields, file)
    (tmp_path / "b").mkdir()
    exported.write(found, tmp_path / "b", 64)
    assert theirs(tmp_path / "b").encode("a") == [*found.prefix_ids, *found.encode("a")]
    assert read.read(tmp_path / "b").adds_bos == found.adds_bos == adds


@pytest.mark.parametrize("decoder", [True, False])
def test_the_map_of_special_tokens_wins_where_it_is_read(decoder: bool, tmp_path: Path):
    settings = BASE | ({"added_tokens_decoder": DECODER} if decoder else {})
    folder = folder_of(
        tmp_path / "a", tokenizer_config__json=settings, special_tokens_map__json={"eos_token": "<end>"}
    )
    ours, other = read.read(folder), theirs(folder)
    assert ours.eos_id == other.eos_token_id == (257 if decoder else 258)


@pytest.mark.parametrize("where", ["decoder", "added_tokens"])
def test_tokens_that_only_a_file_beside_adds_have_ids(where: str, tmp_path: Path):
    new = {
        "259": {"content": "<a>", "special": True, "normalized": False},
        "260": {"content": "<b>", "special": False, "normalized": False},
    }
    if where == "decoder":
        files: dict[str, Any] = {"tokenizer_config__json": BASE | {"added_tokens_decoder": DECODER | new}}
    else:
        files = {"tokenizer_config__json": BASE, "added_tokens__json": {"<b>": 260, "<a>": 259}}
    folder = folder_of(tmp_path / "a", **files)
    ours, other = read.read(folder), theirs(folder)
    assert ours.vocab_size == len(other) == 261
    assert other.convert_tokens_to_ids(["<a>", "<b>"]) == [259, 260]
    for text in ("x<b>y", "<b>", "a <b> c"):
        assert ours.encode(text) == other.encode(text, split_special_tokens=where == "decoder")
    assert ("<a>" in ours.special) == (where == "decoder")


def test_an_end_that_is_no_token_is_named(tmp_path: Path):
    folder = folder_of(tmp_path / "a", tokenizer_config__json=BASE | {"eos_token": "<none>"})
    with pytest.raises(UserError, match="eos_token is no token of this vocabulary.*<none>"):
        read.read(folder)


def test_the_template_called_default_is_taken_and_others_are_named(tmp_path: Path):
    listed = [{"name": "tool_use", "template": TWO}, {"name": "default", "template": ONE}]
    a = folder_of(tmp_path / "a", tokenizer_config__json=BASE | {"chat_template": listed})
    b = folder_of(tmp_path / "b", tokenizer_config__json=BASE, chat_template__jinja=ONE)
    (b / "additional_chat_templates").mkdir()
    (b / "additional_chat_templates" / "tool_use.jinja").write_text(TWO)
    for folder in (a, b):
        assert read.read(folder).chat_template == theirs(folder).get_chat_template() == ONE
        assert template_notes(folder) == [
            "of the chat templates the one called default is used; left out: tool_use"
        ]
    c = folder_of(
        tmp_path / "c",
        tokenizer_config__json=BASE | {"chat_template": [listed[0], {"name": "rag", "template": ONE}]},
    )
    with pytest.raises(ValueError, match="no default"):
        theirs(c).get_chat_template()
    assert template_notes(c) == [
        "none of the chat templates is called default, so none is used: rag, tool_use"
    ]
    assert (
        template_notes(folder_of(tmp_path / "d", tokenizer_config__json=BASE, chat_template__jinja=ONE)) == []
    )


@pytest.mark.parametrize(
    ("name", "settings", "model"),
    [
        ("GPT2Tokenizer", {"tokenizer_class": "GPT2Tokenizer"}, {"model_type": "gpt2"}),
        ("GPT2Tokenizer", {}, {"model_type": "gpt2"}),
        ("Qwen2Tokenizer", {"tokenizer_class": "Qwen2TokenizerFast"}, {"model_type": "qwen2"}),
        ("Qwen2Tokenizer", {}, {"model_type": "qwen2"}),
    ],
)
def test_a_vocabulary_in_two_files(
    name: str, settings: dict[str, Any], model: dict[str, Any], tmp_path: Path
):
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: index for index, text in enumerate([*symbols, "ab", "Ġa", "##", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nĠ a\n# #\n", encoding="utf-8")
    if settings:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps(model))
    ours, other = read.read(tmp_path), theirs(tmp_path)
    assert type(other).__name__ == name
    for text in (*TEXTS, "ab ab a ##", "e\u0301", "12345", "<|endoftext|>"):
        assert ours.encode(text) == other.encode(text, add_special_tokens=False, split_special_tokens=True), (
            text
        )
    assert ours.eos_id == other.eos_token_id == vocabulary["<|endoftext|>"]
    assert read.read(tmp_path / "vocab.json").encode("ab a") == ours.encode("ab a")
