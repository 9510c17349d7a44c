"""Vocabularies learnt here, known again in the files of other programs that they were written to."""

from congling.tokenizer import bpe, unigram
from congling.tokenizer.base import CHATML, FIRST_BYTE, FIRST_PIECE, SPECIAL, Roles, Tokenizer, own_roles
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.imported.hf_json import Node, nodes
from congling.tokenizer.imported.sentencepiece_file import Algorithm, SentencePieceModel
from congling.tokenizer.split import ENCODING
from congling.tokenizer.unigram import UnigramTokenizer


def of_json(content: Node, roles: Roles, chat_template: str = CHATML) -> Tokenizer | None:
    """The ``bpe`` or ``character`` tokenizer a ``tokenizer.json`` was written from; None if neither."""
    model = content["model"]
    vocabulary = model.get("vocab")
    special = {token.get("content"): token.get("id") for token in content.get("added_tokens") or ()}
    if special != SPECIAL or roles != own_roles(SPECIAL) or not isinstance(vocabulary, dict):
        return None
    if not model.get("merges"):
        return _characters(vocabulary, chat_template) if model.get("byte_fallback") else None
    splits = [node.get("pattern") for node in nodes(content.get("pre_tokenizer")) if node["type"] == "Split"]
    if splits != [{"Regex": expression} for expression in ENCODING]:
        return None
    try:
        return bpe.from_merges(model["merges"], vocabulary, chat_template)
    except (ValueError, TypeError):
        return None  # it only begins like one of ours


def of_model(model: SentencePieceModel, roles: Roles, chat_template: str = CHATML) -> UnigramTokenizer | None:
    """The ``unigram`` tokenizer a sentencepiece model was written from; None if there was none."""
    first = {model.pieces[index].text: index for index in range(min(4, len(model.pieces)))}
    plain = not (model.characters or model.space_first or model.remove_spaces)
    ours = first == {"<unk>": 0} | unigram.SPECIAL and roles == own_roles(unigram.SPECIAL)
    if ours and plain and model.byte_fallback and model.algorithm == Algorithm.UNIGRAM:
        return UnigramTokenizer(model.serialised(), unigram.SPECIAL, chat_template)
    return None


def _characters(vocabulary: dict[str, int], chat_template: str) -> CharacterTokenizer | None:
    expected = SPECIAL | {f"<0x{byte:02X}>": FIRST_BYTE + byte for byte in range(256)}
    rest = sorted((index, text) for text, index in vocabulary.items() if text not in expected)
    found = {text: index for text, index in vocabulary.items() if text in expected}
    ordered = [index for index, _ in rest] == list(range(FIRST_PIECE, FIRST_PIECE + len(rest)))
    if found != expected or not ordered or any(len(text) != 1 for _, text in rest):
        return None
    return CharacterTokenizer("".join(text for _, text in rest), SPECIAL, chat_template)
