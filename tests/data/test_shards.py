import json
import shutil

import numpy as np
import pytest
import zstandard

from congling.core import artifact
from congling.core.errors import UserError
from congling.data import shards, token_split
from congling.data.document import Document, DocumentWriter, read_documents
from congling.plan import corpus_facts
from congling.tokenizer import store
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.training import train

TRAIN = ["天地玄黄，宇宙洪荒。\n日月盈昃，辰宿列张。", "", "寒来暑往\n", "云腾致雨，露结为霜。" * 2000]
HELD_OUT = ["闰余成岁，律吕调阳。", "A😀"]
LINES = {"uniform": 11.5, "unigram": 8.8, "bigram": 6.9}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A documents directory and a tokenizer directory."""
    root = tmp_path_factory.mktemp("inputs")
    with artifact.writing(root / "documents", "documents") as folder:
        for split, texts in (("train", TRAIN), ("validation", HELD_OUT)):
            with DocumentWriter(folder / f"{split}.jsonl.zst") as writer:
                for number, text in enumerate(texts):
                    writer.write(Document(text, f"{split}:{number}"))
        (folder / "summary.json").write_text(json.dumps({"reference_lines": LINES}), encoding="utf-8")
    for name, size in (("tokenizer", 340), ("other", 330)):
        train(TokenizerConfig(vocab_size=size), lambda: iter(TRAIN), root / name)
    return root


@pytest.fixture
def written(inputs, tmp_path):
    shards.write(inputs / "documents", inputs / "tokenizer", tmp_path / "shards")
    return tmp_path / "shards"


def test_documents_come_back(inputs, written):
    tokenizer = store.load(inputs / "tokenizer")
    opened = shards.open_shards(written, tokenizer=tokenizer, verify=True)
    for name, texts in (("train", TRAIN), ("validation", HELD_OUT)):
        split = opened[name]
        assert split.documents == len(texts)
        assert split.characters.tolist() == [len(text) for text in texts]
        assert split.bytes.tolist() == [len(text.encode()) for text in texts]
        for index, text in enumerate(texts):
            ids = split.document(index)
            assert ids.tolist() == [*tokenizer.encode(text), tokenizer.eos_id]
            assert tokenizer.decode(ids, skip_special=True) == text
    assert opened["train"].tokens.dtype == np.uint16
    assert opened.vocab_size == tokenizer.vocab_size
    assert opened.summary["reference_lines"] == LINES
    assert "entropy_floor" not in opened.summary
    assert opened.summary["splits"]["train"]["tokens"] == len(opened["train"].tokens)


def test_beginnings_hold_no_end_of_text(inputs, written):
    tokenizer, opened = store.load(inputs / "tokenizer"), shards.open_shards(written)
    whole = token_split.beginnings(opened["validation"], tokenizer, documents=9, tokens=1000)
    assert list(whole) == HELD_OUT
    (one,) = token_split.beginnings(opened["train"], tokenizer, documents=1, tokens=2)
    assert one == tokenizer.decode(tokenizer.encode(TRAIN[0])[:2])


def test_small_batches_write_the_same_files(inputs, written, tmp_path, monkeypatch):
    monkeypatch.setattr(token_split, "BATCH_CHARACTERS", 8)
    monkeypatch.setattr(token_split, "CHUNK_CHARACTERS", 16)
    monkeypatch.setattr(token_split, "CHUNKS_AT_ONCE", 3)
    again = shards.write(inputs / "documents", inputs / "tokenizer", tmp_path / "again")
    assert again.files["train.bin"] == artifact.opened(written, "shards").files["train.bin"]
    assert again.fingerprint == artifact.opened(written, "shards").fingerprint


def test_token_types():
    assert token_split.dtype_for(65_536) == "uint16"
    assert token_split.dtype_for(65_537) == "uint32"


def test_another_tokenizer_is_refused(inputs, written):
    with pytest.raises(UserError, match="another tokenizer"):
        shards.open_shards(written, tokenizer=store.load(inputs / "other"))


def test_no_training_text_is_an_error(inputs, tmp_path):
    with artifact.writing(tmp_path / "empty", "documents") as folder:
        for split in ("train", "validation"):
            with DocumentWriter(folder / f"{split}.jsonl.zst"):
                pass
        (folder / "summary.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no training text"):
        shards.write(tmp_path / "empty", inputs / "tokenizer", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def cut(folder):
    file = folder / "train.bin"
    file.write_bytes(file.read_bytes()[:-1])


def beyond(folder):
    tokens = np.fromfile(folder / "train.bin", "<u2")
    tokens[5] = 60_000
    tokens.tofile(folder / "train.bin")


def lost_end(folder):
    tokens = np.fromfile(folder / "validation.bin", "<u2")
    tokens[-1] = 7
    tokens.tofile(folder / "validation.bin")


def wrong_index(folder):
    ends = np.load(folder / "train.ends.npy")
    np.save(folder / "train.ends.npy", ends[::-1])


def no_array(folder):
    (folder / "train.characters.npy").write_bytes(b"\x80\x04not an array")


def wrong_type(folder):
    np.save(folder / "train.bytes.npy", np.array([1.5, 2.5, 3.5, 4.5]))


def no_description(folder):
    (folder / "shards.json").write_text("[]", encoding="utf-8")


DAMAGES = {
    cut: "should have",
    beyond: "beyond the vocabulary",
    lost_end: "end-of-text",
    wrong_index: "index is damaged",
    no_array: "cannot read",
    wrong_type: "wrong type",
    no_description: "no table",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found(written, damage):
    damage(written)
    with pytest.raises(UserError, match=DAMAGES[damage]):
        shards.open_shards(written)
    with pytest.raises(UserError, match="checksum"):
        shards.open_shards(written, verify=True)


@pytest.mark.parametrize(
    "file", ["shards/shards.json", "tokenizer/congling.json", "tokenizer/tokenizer.json"]
)
def test_descriptions_nested_without_end_are_named(inputs, written, tmp_path, file):
    shutil.copytree(inputs / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / file).write_text("[" * 100_000, encoding="utf-8")
    artifact.seal((tmp_path / file).parent, file.split("/")[0], parents={}, facts={})
    with pytest.raises(UserError):
        shards.open_shards(written) if file.startswith("shards") else store.load(tmp_path / "tokenizer")


def test_documents_nested_without_end_are_named(tmp_path):
    file = tmp_path / "train.jsonl.zst"
    file.write_bytes(zstandard.compress(b"[" * 100_000 + b"\n"))
    with pytest.raises(UserError, match="damaged"):
        list(read_documents(file))


def test_a_test_split_becomes_files_of_its_own_and_is_what_is_scored(inputs, tmp_path):
    lines = {"uniform": 11.0, "unigram": 8.0, "bigram": 6.0}
    with artifact.writing(tmp_path / "documents", "documents") as folder:
        for split, texts in (("train", TRAIN), ("validation", HELD_OUT), ("test", ["露结为霜"])):
            with DocumentWriter(folder / f"{split}.jsonl.zst") as writer:
                for number, text in enumerate(texts):
                    writer.write(Document(text, f"{split}:{number}"))
        summary = {"reference_lines": LINES, "test_reference_lines": lines}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    shards.write(tmp_path / "documents", inputs / "tokenizer", tmp_path / "shards")
    opened = shards.open_shards(tmp_path / "shards", verify=True)
    assert opened.scored == "test" and opened["test"].characters.tolist() == [4]
    found = corpus_facts.facts_of_shards(opened)
    assert (found.test_documents, found.test_tokens) == (1, len(opened["test"].tokens))
    assert (found.reference_lines, found.test_reference_lines) == (LINES, lines)
    assert corpus_facts.reference_lines(opened.summary, "test") == lines
    assert corpus_facts.reference_lines(opened.summary, "train") == {}


def test_without_one_validation_is_scored(written):
    opened = shards.open_shards(written)
    assert opened.scored == "validation" and set(opened.splits) == {"train", "validation"}
