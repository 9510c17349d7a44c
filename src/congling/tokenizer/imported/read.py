"""Tokenizers from elsewhere: a sentencepiece ``.model`` or ``.vocab``, a ``tokenizer.json``, or the folder of
a Hugging Face model with either.

Of a folder ``tokenizer.json`` is taken before ``tokenizer.model``, as transformers does. Special tokens,
roles and the chat template come from ``tokenizer_config.json``, ``special_tokens_map.json``,
``added_tokens.json``, ``generation_config.json``, ``config.json`` (ends of a text alone) and
``chat_template.jinja``, which wins over a template elsewhere, as far as they are there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers

from congling.core import files
from congling.core.errors import UserError
from congling.tokenizer import library, own, store
from congling.tokenizer.base import Roles, Tokenizer, is_text
from congling.tokenizer.chat import sandbox
from congling.tokenizer.chat.guard import guarded
from congling.tokenizer.chat.turns import CHATGLM2, PLAIN, stops
from congling.tokenizer.imported import sentencepiece_file, vocab_files
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer
from congling.tokenizer.imported.sentencepiece import (
    SentencePieceTokenizer,
    controls,
    model_roles,
    read_model,
)
from congling.tokenizer.imported.sentencepiece_file import Algorithm, Piece, PieceType, SentencePieceModel
from congling.tokenizer.imported.side_files import (
    ADDED,
    model_settings,
    named,
    settings_of,
    template_of,
    with_added,
)

_CHATGLM2_PIECES = 64_789
_CHATGLM2_ADDED = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
_PROBES = ("人之初，性本善。", "  It's 12.50 €\n\n\tＡＢＣ é😀", "▁ a")
_ANSWER = "an answer 42"


def read(path: Path | str) -> Tokenizer:
    """Open a tokenizer of any kind: ours, sentencepiece's or Hugging Face's.

    Raises:
        UserError: there is none at ``path``, it is damaged, or of a kind that cannot be run here.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    try:
        with files.opened(path) as stream:
            start = stream.read(4)
    except FileNotFoundError:
        raise UserError("there is no such tokenizer", value=str(path)) from None
    except OSError as error:
        raise UserError(f"the tokenizer cannot be read ({error.strerror})", value=str(path)) from None
    if start == b"GGUF":
        raise UserError("this is a GGUF file", value=str(path), hint="congling import reads it")
    if start.lstrip()[:1] == b"{":
        return _json(path, path.parent)
    if path.suffix == ".vocab":
        beside = path.with_suffix(".model")
        return _model(beside if beside.is_file() else path, path.parent)
    return _model(path, path.parent)


def _folder(folder: Path) -> Tokenizer:
    if (folder / store.FILE).is_file():
        return store.load(folder)
    named = folder / "tokenizer.model"
    if (folder / library.FILE).is_file():
        found = _json(folder / library.FILE, folder)
        if isinstance(found, HuggingFaceTokenizer) and not found.byte_level and named.is_file():
            return _same(found, _model(named, folder))
        return found
    models = [named] if named.is_file() else []
    models = models or sorted([*folder.glob("*.model"), *folder.glob("*.vocab")])
    if len({file.stem for file in models}) > 1:
        names = ", ".join(file.name for file in models if file.suffix == ".model")
        raise UserError(
            "this folder holds several vocabularies", value=str(folder), hint=f"name one: {names}"
        )
    if not models and vocab_files.present(folder):
        return _json(folder / vocab_files.VOCABULARY, folder)
    if not models:
        hint = "tokenizer.json, tokenizer.model, or vocab.json with merges.txt should be in it"
        raise UserError("this folder holds no tokenizer that can be read here", value=str(folder), hint=hint)
    return _model(models[0], folder)


def _same(found: HuggingFaceTokenizer, model: Tokenizer) -> Tokenizer:
    """The sentencepiece model beside a ``tokenizer.json`` if both are one: more programs can be given it."""
    same = found.vocab_size == model.vocab_size and found.special == model.special
    return model if same and found.encode_batch(_PROBES) == model.encode_batch(_PROBES) else found


def _json(file: Path, folder: Path) -> Tokenizer:
    settings = settings_of(folder)
    if file.name == vocab_files.VOCABULARY and vocab_files.present(folder):
        text = vocab_files.as_json(folder, settings, model_settings(folder))
        settings = {"eos_token": vocab_files.END} | settings
    else:
        text = library.read_text(file)
    text = with_added(text, settings)
    roles = Roles(None, 0, 0, frozenset())  # until the special tokens are known
    found = HuggingFaceTokenizer.parsed(text, file, None, PLAIN, "", roles)
    known = dict(found.special) | {token.content: index for index, token in found.added.items()}
    prefix = _prefix(text, settings, known, file)
    usual = Roles(None, -1, -1, frozenset())
    found.roles = _roles(settings, known, prefix, usual, file, found.vocab_size)
    # A token with a role is special even where the file forgot to say so.
    found.special = dict(found.special) | {
        text: index for text, index in known.items() if index in found.roles.ids()
    }
    found.chat_template = template_of(settings, found.special, found.roles)
    found.roles = _with_answer_end(found)
    if ours := own.of_json(found.content, found.roles, found.chat_template):
        return ours
    return guarded(
        HuggingFaceTokenizer.parsed(text, file, found.special, found.chat_template, "", found.roles)
    )


def _prefix(text: str, settings: Mapping[str, Any], known: Mapping[str, int], file: Path) -> bool:
    """Whether the bos token goes before a text: by what the file itself puts there, whatever
    ``add_bos_token`` says, as in transformers 5.

    Raises:
        UserError: what the file puts there is not in its vocabulary.
    """
    bos = known.get(named(settings.get("bos_token")))
    try:
        with library.panics_as_errors():
            return bos is not None and tokenizers.Tokenizer.from_str(text).encode("a").ids[:1] == [bos]
    except ValueError:
        raise UserError("post_processor: it adds tokens that are not there", where=file) from None


def _model(file: Path, folder: Path) -> Tokenizer:
    settings = settings_of(folder)
    model = _renamed(_from_table(file) if file.suffix == ".vocab" else read_model(file), settings)
    special = controls(model)
    chatglm = settings.get("tokenizer_class") == "ChatGLMTokenizer" or (
        len(model.pieces) == _CHATGLM2_PIECES and model.algorithm == Algorithm.BPE
    )
    if chatglm:
        special |= {text: len(model.pieces) + i for i, text in enumerate(_CHATGLM2_ADDED)}
        roles = model_roles(model, special)
        roles = replace(roles, prefix=(special["[gMASK]"], special["sop"]), pad=max(model.unknown, 0))
        return SentencePieceTokenizer(model, special, CHATGLM2, "", roles)
    special |= _added(settings, model, file)
    by_text = {piece.text: index for index, piece in enumerate(model.pieces)}
    usual = model_roles(model, special)
    prefix = bool(settings.get("add_bos_token", bool(usual.prefix)))
    size = max(len(model.pieces), 1 + max(special.values()))
    roles = _roles(settings, by_text | special, prefix, usual, file, size)
    template = template_of(settings, special, roles)
    roles = _with_answer_end(SentencePieceTokenizer(model, special, template, "", roles))
    ours = own.of_model(model, roles, template)
    return ours or guarded(SentencePieceTokenizer(model, special, template, "", roles))


def _renamed(model: SentencePieceModel, settings: Mapping[str, Any]) -> SentencePieceModel:
    """The model with the texts that ``added_tokens_decoder`` gives some of its pieces.

    InternLM2 keeps pieces in reserve (``[UNUSED_TOKEN_146]``) and names those of its chat template so.
    """
    listed = settings.get("added_tokens_decoder")
    pieces, taken = list(model.pieces), {piece.text for piece in model.pieces}
    for number, token in listed.items() if isinstance(listed, dict) else ():
        index = int(number) if re.fullmatch("[0-9]{1,9}", str(number)) else len(pieces)
        text = named(token)
        if index < len(pieces) and text and is_text(text) and text not in taken:
            kind = PieceType.CONTROL if token.get("special") else PieceType.USER_DEFINED
            pieces[index] = replace(pieces[index], text=text, type=kind)
            taken.add(text)
    return replace(model, pieces=pieces)


def _added(settings: Mapping[str, Any], model: SentencePieceModel, file: Path) -> dict[str, int]:
    """Tokens that Hugging Face's files add behind the pieces."""
    listed = settings.get("added_tokens_decoder")
    found = {named(token): index for index, token in listed.items()} if isinstance(listed, dict) else {}
    found |= settings[ADDED]
    added: dict[str, int] = {}
    for text, number in found.items():
        index = int(number) if re.fullmatch("[0-9]{1,9}", str(number)) else -1
        if not text or not is_text(text) or not 0 <= index < len(model.pieces) + 2**16:
            raise UserError("an added token has no id that can be used", where=file.parent, value=text)
        if index >= len(model.pieces):
            added[text] = index
    if len(set(added.values())) < len(added):
        raise UserError("two added tokens have one id", where=file.parent)
    return added


def _roles(
    settings: Mapping[str, Any], known: Mapping[str, int], prefix: bool, usual: Roles, file: Path, size: int
) -> Roles:
    bos, eos, pad = (known.get(named(settings.get(f"{role}_token"))) for role in ("bos", "eos", "pad"))
    bos = usual.bos if bos is None else bos
    ends = stops(known)
    generation = settings.get("eos_token_id")
    listed = generation if isinstance(generation, list) else [generation]
    also = [index for index in listed if type(index) is int and 0 <= index < size]
    if eos is None:
        stated = named(settings.get("eos_token"))
        if stated and stated not in known and not also:
            raise UserError("eos_token is no token of this vocabulary", where=file, value=stated)
        eos = usual.eos if usual.eos >= 0 else min(ends, default=also[0] if also else bos)
    if eos is None:
        raise UserError(
            "no token ends a text", where=file, hint="tokenizer_config.json should name eos_token"
        )
    pad = pad if pad is not None else usual.pad if usual.pad >= 0 else eos
    return Roles(bos, eos, pad, ends | {eos, *also}, (bos,) if prefix and bos is not None else ())


def _with_answer_end(tokenizer: Tokenizer) -> Roles:
    """The roles, and among the stops the special token that the template writes right behind an answer."""
    roles, turns = tokenizer.roles, [("user", "?"), ("assistant", _ANSWER)]
    names = {"bos_token": "", "eos_token": ""} | tokenizer.template_texts
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        text = sandbox.run(tokenizer.chat_template, messages, add_generation_prompt=False, **names)
    except UserError:  # it refuses this conversation, or does not run: nothing is known of it
        return roles
    behind = str(text).rpartition(_ANSWER)[2].lstrip()
    found = [token for token in tokenizer.special if token and behind.startswith(token)]
    return (
        roles if not found else replace(roles, stops=roles.stops | {tokenizer.special[max(found, key=len)]})
    )


def _from_table(file: Path) -> SentencePieceModel:
    """A model from a ``.vocab`` table (piece, tab, score) alone.

    The table does not say how texts are normalised: what ``spm_train`` does by default is assumed. Scores
    that count 0, -1, -2 … are those of a BPE.
    """
    text = library.read_text(file)
    if text.count("\n") > sentencepiece_file.MOST_PIECES:  # counted before anything is made of the lines
        raise UserError(
            "this is no sentencepiece vocabulary", where=file, value=f"{text.count(chr(10))} lines"
        )
    rows: list[Sequence[str]] = [line.split("\t") for line in text.split("\n") if line]
    try:
        pieces = [Piece(text, float(score), _type(text)) for text, score in rows]
        table = any(piece.type == PieceType.BYTE for piece in pieces)
        normal = [piece.score for piece in pieces if piece.type == PieceType.NORMAL]
        algorithm = Algorithm.BPE if normal == [-float(i) for i in range(len(normal))] else Algorithm.UNIGRAM
        normaliser = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto()
        ids = {piece.text: index for index, piece in enumerate(pieces)}
        return sentencepiece_file.check(
            SentencePieceModel(
                pieces,
                algorithm,
                table,
                "nmt_nfkc",
                sentencepiece_file.characters_of(normaliser),
                unknown=ids.get("<unk>", -1),
                bos=ids.get("<s>", -1),
                eos=ids.get("</s>", -1),
                pad=ids.get("<pad>", -1),
            )
        )
    except ValueError as error:
        raise UserError("this is no sentencepiece vocabulary", where=file, value=str(error)) from None


def _type(text: str) -> PieceType:
    if text == "<unk>":
        return PieceType.UNKNOWN
    if text in ("<s>", "</s>", "<pad>"):
        return PieceType.CONTROL
    return (
        PieceType.BYTE
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        else PieceType.NORMAL
    )
