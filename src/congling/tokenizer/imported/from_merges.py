"""A sentencepiece BPE from the merges of a ``tokenizer.json`` (Llama 2, Mistral), where scores are needed.

Both algorithms join the best pair first: one by the rank of the merge, the other by the score of what it
makes. So a piece scores by the rank of its first merge.
"""

from collections.abc import Mapping

from congling.tokenizer.imported.hf_json import Node, nodes
from congling.tokenizer.imported.sentencepiece_file import (
    Algorithm,
    Piece,
    PieceType,
    SentencePieceModel,
    check,
)

_LAST = -1e9  # of pieces that nothing makes


def model_of(content: Node, special: Mapping[str, int], size: int) -> SentencePieceModel:
    """The model; ValueError says why there is none that would give the same ids."""
    model = content["model"]
    if model.get("type", "BPE") != "BPE" or not model.get("byte_fallback"):
        raise ValueError("it is no BPE that falls back to bytes")
    space_first = _puts_space(content)
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        ranks.setdefault(left + right, rank)
    types = {index: PieceType.CONTROL for index in special.values()}
    types |= {model["vocab"][f"<0x{byte:02X}>"]: PieceType.BYTE for byte in range(256)}
    users = [token for token in content.get("added_tokens") or () if token["id"] not in types]
    types |= {token["id"]: PieceType.USER_DEFINED for token in users}
    texts = {index: text for text, index in model["vocab"].items()}
    texts |= {token["id"]: token["content"] for token in content.get("added_tokens") or ()}
    pieces = []
    for index in range(size):
        text, kind = texts.get(index, f"[PAD{index}]"), types.get(index, PieceType.NORMAL)
        kind = kind if index in texts else PieceType.UNUSED
        if kind == PieceType.NORMAL and len(text) > 1 and text not in ranks:
            raise ValueError(f"no merge makes the piece {text!r}")
        pieces.append(Piece(text, float(-ranks[text]) if text in ranks else _LAST, kind))
    unknown = model["vocab"].get(model.get("unk_token"), min(special.values(), default=0))
    pieces[unknown] = Piece(pieces[unknown].text, 0.0, PieceType.UNKNOWN)
    return check(
        SentencePieceModel(
            pieces,
            Algorithm.BPE,
            True,
            space_first=space_first,
            remove_spaces=False,
            unknown=unknown,
            bos=-1,
            eos=-1,
        )
    )


def _puts_space(content: Node) -> bool:
    """Whether a space is put first; ValueError for any other change of texts."""
    first = False
    steps = [*nodes(content.get("normalizer")), *nodes(content.get("pre_tokenizer"))]
    for step in steps:
        kind, pattern = step["type"], step.get("pattern")
        if kind == "Prepend" and step.get("prepend") == "▁":
            first = True
        elif kind == "Metaspace" and step.get("replacement") == "▁":
            first = step.get("prepend_scheme", "always") != "never"
        elif kind != "Replace" or pattern != {"String": " "} or step.get("content") != "▁":
            raise ValueError(f"texts are changed by {kind}")
    if not steps:
        raise ValueError("spaces are kept as they are")
    return first
