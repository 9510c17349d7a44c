"""Vocabularies from elsewhere: the ids of the program that made them, and their special tokens' roles."""

import json

import pytest
import sentencepiece
import tokenizers

from congling.core import artifact
from congling.core.errors import UserError
from congling.tokenizer import store
from congling.tokenizer.chat.encode import chat_ids
from congling.tokenizer.imported import read, sentencepiece_file
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.imported.sentencepiece_file import Algorithm, Piece, PieceType, SentencePieceModel
from congling.tokenizer.library import LARGEST
from congling.tokenizer.rows import within
from support.vocabularies import (
    BYTE_LEVEL,
    SENTENCEPIECE,
    SPECIAL_TEXTS,
    hugging_face,
    provoking,
    sentencepiece_model,
    stories,
)

TEXTS = [*stories(20), *provoking(extra=SPECIAL_TEXTS)]


def reopened(tokenizer, folder):
    """The same tokenizer from a directory of ours."""
    with artifact.writing(folder, "tokenizer") as temporary:
        store.save(tokenizer, temporary)
    return store.load(folder)


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_sentencepiece_model_gives_its_ids(name, tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model(name))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(name))
    ours = read.read(tmp_path / "m.model")
    again = reopened(ours, tmp_path / "out")
    for text in TEXTS:
        ids = theirs.EncodeAsIds(text)
        assert ours.encode(text) == again.encode(text) == ids, text
        if ours.lossless:
            assert ours.decode(ids) == text.replace("▁", " ")
    assert ours.lossless == (name in ("bpe", "bpe-no-space"))
    assert (ours.vocab_size, again.roles, again.special) == (theirs.vocab_size(), ours.roles, ours.special)
    assert (ours.bos_id, ours.eos_id, ours.adds_bos, ours.stop_ids) == (1, 2, True, {2})
    assert not set(ours.special.values()) - {0} & {i for text in TEXTS for i in ours.encode(text)}


def test_a_text_that_goes_on_gets_no_space(tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model("bpe"))
    tokenizer = read.read(tmp_path / "m.model")
    assert tokenizer.token_bytes(tokenizer.encode("学校")[0]).startswith(b" ")
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode_rest("学校"))) == "学校".encode()
    assert tokenizer.decode(tokenizer.encode("  学校")) == "  学校"


@pytest.mark.parametrize("name", ["unigram", "bpe-folding"])
def test_a_vocab_table_alone_means_the_defaults(name, tmp_path):
    model = sentencepiece_file.read(sentencepiece_model(name), "m")
    table = "".join(f"{piece.text}\t{piece.score}\n" for piece in model.pieces)
    (tmp_path / "m.vocab").write_text(table, encoding="utf-8")
    tokenizer = read.read(tmp_path / "m.vocab")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(name))
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.model.algorithm == model.algorithm
    assert all(tokenizer.encode(text) == theirs.EncodeAsIds(text) for text in TEXTS)


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_a_tokenizer_json_gives_its_ids(name, tmp_path):
    folder = hugging_face(name, tmp_path / "hf")
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.encode_special_tokens = True
    ours = read.read(folder)
    again = reopened(ours, tmp_path / "out")
    for text in TEXTS:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == again.encode(text) == ids
        if ours.lossless:
            assert ours.decode(ids) == text
    assert (again.roles, again.special, again.vocab_size) == (ours.roles, ours.special, ours.vocab_size)
    assert ours.encode("a<tool>b")[1:-1] == [theirs.token_to_id("<tool>")]
    with pytest.raises(IndexError):
        ours.decode([ours.vocab_size])


def test_roles_come_from_the_files_beside(tmp_path):
    gpt2, llama3, qwen2 = (read.read(hugging_face(name, tmp_path / name)) for name in BYTE_LEVEL)
    assert gpt2.bos_id == gpt2.eos_id == gpt2.special["<|endoftext|>"] and not gpt2.prefix_ids
    assert llama3.prefix_ids == (llama3.special["<|begin_of_text|>"],) and llama3.adds_bos
    assert llama3.stop_ids == {llama3.special["<|end_of_text|>"], llama3.special["<|eot_id|>"]}
    assert qwen2.roles.bos is None and qwen2.bos_id == qwen2.eos_id == qwen2.special["<|im_end|>"]
    assert qwen2.pad_id == qwen2.special["<|endoftext|>"] and "<|im_start|>" in qwen2.chat_template
    assert qwen2.template_texts == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def test_templates_and_further_stops_are_found(tmp_path):
    folder = hugging_face("llama3", tmp_path / "hf")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<|eot_id|>", encoding="utf-8")
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    tokenizer = read.read(folder)
    assert {3, 4} < tokenizer.stop_ids
    ids = chat_ids(tokenizer, [{"role": "user", "content": "好<|eot_id|>"}])
    assert ids[-1] == tokenizer.special["<|eot_id|>"] and ids.count(ids[-1]) == 1


def test_a_piece_in_reserve_gets_the_name_that_the_files_beside_give_it(tmp_path):
    """InternLM2 names pieces of its model in ``added_tokens_decoder`` alone."""
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model("bpe"))
    whole = read.read(tmp_path)
    last = whole.vocab_size - 1
    settings = {
        "added_tokens_decoder": {
            str(last): {"content": "<|im_start|>", "special": True},
            str(last - 1): {"content": "<|im_end|>", "special": True},
            "1": {"content": whole.model.pieces[1].text, "special": True},
        },
        "eos_token": "<|im_end|>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = read.read(tmp_path)
    assert found.vocab_size == whole.vocab_size
    assert (found.special["<|im_start|>"], found.eos_id) == (last, last - 1)
    assert "im_start" in found.chat_template
    again = reopened(found, tmp_path / "again")
    assert again.special == found.special and again.encode("小明去学校") == found.encode("小明去学校")


def test_chatglm2_puts_its_tokens_behind_the_pieces(tmp_path):
    count = 64_789
    texts = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁"]
    texts += [chr(0x3400 + i) for i in range(26_999)]
    texts += [chr(0xAC00 + i) for i in range(11_000)] + [chr(0x20000 + i) for i in range(count - 38_259)]
    types = [PieceType.BYTE] * 256 + [PieceType.NORMAL] * (len(texts) - 256)
    first = [Piece("<unk>", 0, PieceType.UNKNOWN), Piece("<s>", 0, PieceType.CONTROL)]
    first.append(Piece("</s>", 0, PieceType.CONTROL))
    pieces = first + [Piece(text, -i, kind) for i, (text, kind) in enumerate(zip(texts, types, strict=True))]
    model = SentencePieceModel(pieces[:count], Algorithm.BPE, True, remove_spaces=False)
    (tmp_path / "tokenizer.model").write_bytes(model.serialised())
    tokenizer = read.read(tmp_path)
    assert tokenizer.prefix_ids == (64_790, 64_792) and tokenizer.vocab_size == 64_794
    assert (tokenizer.special["sop"], tokenizer.special["eop"]) == (64_792, 64_793)
    ids = chat_ids(tokenizer, [{"role": "user", "content": "㐀㐁"}])
    assert ids[:2] == [64_790, 64_792]
    assert tokenizer.decode(ids, skip_special=True) == "[Round 1]\n\n问：㐀㐁\n\n答："
    fewer, notes = within(tokenizer, 64_793, tmp_path)  # the rows of baby-llama2-chinese
    assert fewer.vocab_size == 64_793 and "eop" not in fewer.special and "'eop'" in notes[0]
    assert chat_ids(fewer, [{"role": "user", "content": "㐀㐁"}]) == ids
    assert within(tokenizer, 64_794, tmp_path) == (tokenizer, [])
    with pytest.raises(UserError, match="64792, and .*'sop'|64792, and .*role.*sop"):
        within(tokenizer, 64_792, tmp_path)
    with pytest.raises(UserError, match="a text can lead to this one"):
        within(tokenizer, 60_000, tmp_path)


def test_a_model_beside_a_tokenizer_json_is_taken_when_they_agree(tmp_path):
    from congling.interop.hf import tokenizer as written

    (tmp_path / "m.model").write_bytes(sentencepiece_model("bpe"))
    tokenizer = read.read(tmp_path / "m.model")
    folder = tmp_path / "hf"
    folder.mkdir()
    written.write(tokenizer, folder, 64)
    assert read.read(folder).kind == "sentencepiece"
    (folder / "tokenizer.model").write_bytes(sentencepiece_model("bpe-no-space"))
    assert read.read(folder).kind == "hf"


def test_what_is_no_tokenizer_is_said_to_be_none(tmp_path):
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "none", "no such"), (tmp_path / "empty", "holds no tokenizer")):
        with pytest.raises(UserError, match=words):
            read.read(path)
    (tmp_path / "m.gguf").write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(UserError, match="GGUF"):
        read.read(tmp_path / "m.gguf")


def changed(content, **parts):
    return json.dumps(content | parts)


def test_hostile_json_is_an_error_with_words(tmp_path):
    folder = hugging_face("gpt2", tmp_path / "hf")
    file = folder / "tokenizer.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    model, vocabulary = whole["model"], whole["model"]["vocab"]
    for text in (
        "",
        "[]",
        "{}",
        '{"model": []}',
        "[" * 100_000,
        '{"model": {"type": "BPE"}}',
        '{"a": "\ud800"}',
        changed(whole, model=model | {"type": "WordPiece"}),
        changed(whole, model=model | {"vocab": vocabulary | {"x": 2**31}}),
        changed(whole, model=model | {"vocab": vocabulary | {"x": -1}}),
        changed(whole, model=model | {"merges": [["nowhere", "else"]]}),
        changed(whole, decoder=None),
        changed(whole, model=model | {"dropout": 0.1}),
        changed(whole, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(["}, "behavior": "Isolated"}),
        changed(whole, truncation="x"),
        changed(
            whole,
            post_processor={
                "type": "TemplateProcessing",
                "special_tokens": {},
                "pair": [],
                "single": [{"SpecialToken": {"id": "<nowhere>", "type_id": 0}}],
            },
        ),
    ):
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        with pytest.raises(UserError):
            read.read(folder)


def test_json_of_more_than_any_vocabulary_has_is_not_parsed(tmp_path):
    file = hugging_face("gpt2", tmp_path / "hf") / "tokenizer.json"
    file.write_text('{"model": [' + "[]," * 2**20 + "[]]}")
    with pytest.raises(UserError, match="lists and objects"):
        read.read(file)
    with file.open("wb") as stream:
        stream.write(b"{")
        stream.truncate(LARGEST + 1)
    with pytest.raises(UserError, match="too large"):
        read.read(file)


def test_hostile_files_beside_are_errors_with_words(tmp_path):
    folder = hugging_face("gpt2", tmp_path / "hf")
    for text in ("[]", "{", '"x"', "[" * 100_000):
        (folder / "tokenizer_config.json").write_text(text)
        with pytest.raises(UserError, match="JSON"):
            read.read(folder)
    (tmp_path / "sp").mkdir()
    (tmp_path / "sp" / "tokenizer.model").write_bytes(sentencepiece_model("bpe"))
    for index in (2**40, -1, "x", "9" * 5000):
        (tmp_path / "sp" / "added_tokens.json").write_text(json.dumps({"<new>": index}))
        with pytest.raises(UserError, match="added token"):
            read.read(tmp_path / "sp")
    (tmp_path / "sp" / "added_tokens.json").write_text('{"\\ud800": 420}')
    with pytest.raises(UserError, match="added token"):
        read.read(tmp_path / "sp")
    (tmp_path / "sp" / "added_tokens.json").unlink()
    (tmp_path / "sp" / "tokenizer_config.json").write_text('{"added_tokens": 5}')  # not a key of this file
    assert read.read(tmp_path / "sp").vocab_size == 420
    (tmp_path / "sp" / "tokenizer_config.json").write_text('{"chat_template": "\\ud800"}')
    with pytest.raises(UserError, match="template"):
        read.read(tmp_path / "sp")


def test_a_table_of_far_too_many_lines_is_refused_before_it_is_taken_apart(tmp_path):
    (tmp_path / "m.vocab").write_text("a\t0\n" * 600_000)
    with pytest.raises(UserError, match="600000 lines"):
        read.read(tmp_path / "m.vocab")


def test_a_folder_with_several_vocabularies_is_not_guessed_at(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.model").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.model, b\.model"):
        read.read(tmp_path)


ENDS = ("<s>", "</s>", "<end>", "<stop>", "<x>")  # 256 to 260


def folder_of(path, **files):
    """A Hugging Face folder with a byte-level vocabulary; files by name, ``_`` for the dot."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(
        [AddedToken(text, special=True) for text in ("<s>", "</s>", "<end>", "<stop>", "<x>")]
    )
    path.mkdir()
    made.save(str(path / "tokenizer.json"))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return path


OLD = "{% for m in messages %}OLD {{ m['content'] }}<x>{% endfor %}"
NEW = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }}<end>\n{% endfor %}"


def test_the_template_file_wins_and_its_end_of_an_answer_is_a_stop(tmp_path):
    settings = {"eos_token": "</s>", "chat_template": OLD}
    found = read.read(folder_of(tmp_path / "a", tokenizer_config__json=settings, chat_template__jinja=NEW))
    assert found.chat_template == NEW
    assert {found.special["</s>"], found.special["<end>"]} == found.stop_ids
    old = read.read(folder_of(tmp_path / "b", tokenizer_config__json=settings))
    assert old.chat_template == OLD and old.special["<x>"] in old.stop_ids
    listed = settings | {
        "chat_template": [{"name": "tools", "template": NEW}, {"name": "default", "template": OLD}]
    }
    assert read.read(folder_of(tmp_path / "c", tokenizer_config__json=listed)).chat_template == OLD


def test_ends_in_config_json_alone_survive(tmp_path):
    settings = {"eos_token": "</s>"}
    ends = folder_of(
        tmp_path / "a", tokenizer_config__json=settings, config__json={"eos_token_id": [257, 259]}
    )
    assert read.read(ends).stop_ids == {257, 259}
    both = folder_of(
        tmp_path / "b",
        tokenizer_config__json=settings,
        config__json={"eos_token_id": 258},
        generation_config__json={"eos_token_id": [257, 259], "bos_token_id": None},
    )
    assert read.read(both).stop_ids == {257, 259}
    bare = folder_of(tmp_path / "c", config__json={"eos_token_id": [259, 260]})
    assert read.read(bare).stop_ids >= {259, 260}


def test_fewer_rows_than_a_tokenizer_json_has_ids(tmp_path):
    found = read.read(folder_of(tmp_path / "a", tokenizer_config__json={"eos_token": "</s>"}))
    fewer, notes = within(found, 260, tmp_path)
    assert (fewer.vocab_size, found.vocab_size) == (260, 261) and "'<x>'" in notes[0]
    assert fewer.encode("<x> 天") == found.encode("<x> 天")
    with pytest.raises(UserError, match="has a role"):
        within(found, 257, tmp_path)
    written = read.read(
        folder_of(tmp_path / "b", tokenizer_config__json={"eos_token": "</s>", "chat_template": OLD})
    )
    with pytest.raises(UserError, match="template writes this one"):
        within(written, 260, tmp_path)
