"""Which other programs compute the positions of an extended model, before it is trained."""

from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.interop.targets import TARGETS, obstacles
from congling.model.positions_words import positions_in_words
from congling.plan.situation import Situation

_VLLM = {
    "dynamic": "vLLM turns all texts by one base, that of the longest text, however short they are",
    "clex": "vLLM has no learnt curve of frequencies",
}
"""What vLLM makes of a Hugging Face folder with positions of these kinds; of the others, the same as we."""


def programs(s: Situation) -> Iterator[Diagnosis]:
    """What stands in the way of each format because of the positions alone."""
    extended = s.trained_length is not None and s.trained_length < s.model.max_position_embeddings
    if (
        not extended
        or s.model.positions.kind != "rope"
        or (scaling := s.model.positions.rope_scaling) is None
    ):
        return
    plain = s.model.replace(positions=s.model.positions.model_dump() | {"rope_scaling": None})
    lacking = {}
    for target in TARGETS:
        others = obstacles(plain, s.tokenizer_kind, target)
        if found := [one for one in obstacles(s.model, s.tokenizer_kind, target) if one not in others]:
            lacking[target] = found[0]
    held = [target for target in TARGETS if target not in lacking]
    reasons = list(dict.fromkeys(one.what for one in lacking.values()))
    if scaling.rope_type in _VLLM:
        reasons.append(_VLLM[scaling.rope_type])
    not_in = [*lacking, *(["vllm"] if scaling.rope_type in _VLLM else [])]
    wanted = [lacking[target] for target in s.exports if target in lacking]
    yield Diagnosis(
        "note",
        "positions-elsewhere",
        f"{positions_in_words(s.model.positions)}: held by {', '.join(held) or 'no format'}"
        + (f", not by {', '.join(not_in)}" if not_in else ", and by vllm"),
        "; ".join(reasons) or "each of these programs turns queries and keys as here",
        wanted[0].remedy or wanted[0].nearest if wanted else "nothing, unless it is meant for one of those",
    )
