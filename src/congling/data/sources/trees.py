"""Trees of conversations (OpenAssistant): of each the conversation along its best replies.

=======  ==========================================================================================
tree     ``{"prompt": {"text", "role", "replies": [{"text", "role", "rank", "replies": [...]}, …]}}``
lines    one message each: put together to trees first, see ``tree_lines``
=======  ==========================================================================================

The best reply is that of the lowest ``rank``; where none is ranked, the first. Others are counted and named.
"""

from collections.abc import Mapping
from typing import Any

from congling.data.sources.fields import Log

REPLIES = "replies"


def is_tree(value: Any) -> bool:
    """Whether a record is a tree, or the root of one."""
    root = _root(value)
    return root is not None and isinstance(root.get("text"), str) and isinstance(root.get(REPLIES), list)


def best_path(value: Mapping[str, Any], log: Log) -> list[Mapping[str, Any]]:
    """The messages from the root along the best replies; how many replies are left out is told to ``log``."""
    turn, found = _root(value) or {}, []
    log.layout = "trees of replies: of each the conversation along the replies of the best rank"
    while turn:
        found.append({"role": turn.get("role"), "content": turn.get("text")})
        replies = [
            one for one in turn.get(REPLIES) or () if isinstance(one, Mapping) and not one.get("deleted")
        ]
        if len(replies) > 1:
            who = replies[0].get("role")
            reason = f"of {len(replies)} replies by the {who} to turn {len(found)} the best is followed"
            log.repairs.append(("further replies", reason))
        turn = min(replies, key=_rank, default={})
    return found


def _root(value: Any) -> Mapping[str, Any] | None:
    if not isinstance(value, Mapping):
        return None
    prompt = value.get("prompt")
    return prompt if isinstance(prompt, Mapping) else value if REPLIES in value else None


def _rank(turn: Mapping[str, Any]) -> float:
    rank = turn.get("rank")
    return rank if isinstance(rank, int | float) and rank == rank else float("inf")  # NaN of a table is none
