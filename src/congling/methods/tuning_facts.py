"""Base and data of a tuning run in numbers: what settings, memory and checks follow from."""

from collections.abc import Sequence

from congling.data.problems import Findings
from congling.data.tuning.examples import Example, targets_of
from congling.methods.base_model import OpenedBase
from congling.plan.tuning_plan import TuningFacts
from congling.transform.config import AdapterConfig


def facts_of(
    opened: OpenedBase,
    train: Sequence[Example],
    held_out: Sequence[Example],
    findings: Findings,
    adapter: AdapterConfig | None = None,
) -> TuningFacts:
    """Count what is learnt from and what is held out; of a pair both answers count.

    Args:
        opened: the base.
        train: at least one example.
        held_out: perhaps none.
        findings: of reading the rows.
        adapter: what is trained beside the base, if not the base itself.
    """
    inputs = [example.length for example in train]
    return TuningFacts(
        model=opened.model,
        base_bytes=opened.size,
        packed=opened.packed,
        examples=len(train),
        inputs=sum(inputs),
        targets=targets_of(train),
        longest=max(inputs),
        held_out=len(held_out),
        faults=findings.counts,
        held_out_inputs=sum(example.length for example in held_out),
        held_out_targets=targets_of(held_out),
        strange_marks=adapter is not None and _strange_marks(opened, train[0], adapter),
    )


def _strange_marks(opened: OpenedBase, example: Example, adapter: AdapterConfig) -> bool:
    """Whether rows hold special tokens that the base has not been tuned on, and the adapter cannot teach."""
    tables = ("embedding",) if opened.model.tie_word_embeddings else ("embedding", "head")
    if opened.chat or all(adapter.chooses(table) for table in tables):
        return False
    tokenizer = opened.tokenizer
    known = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, *tokenizer.prefix_ids}
    return not {*example.ids.tolist()}.isdisjoint({*tokenizer.special.values()} - known)
