"""Base and data of a tuning run in numbers: what settings, memory and checks follow from."""

from collections.abc import Sequence

from congling.data.examples import Example, targets_of
from congling.data.findings import Findings
from congling.plan.tuning import TuningFacts
from congling.train.bases import OpenedBase


def facts_of(
    opened: OpenedBase, train: Sequence[Example], held_out: Sequence[Example], findings: Findings
) -> TuningFacts:
    """Count what is learnt from and what is held out; of a pair both answers count.

    Args:
        opened: the base.
        train: at least one example.
        held_out: perhaps none.
        findings: of reading the rows.
    """
    inputs = [example.inputs for example in train]
    return TuningFacts(
        model=opened.model, base_bytes=opened.size, packed=opened.packed, examples=len(train),
        inputs=sum(inputs), targets=targets_of(train), longest=max(inputs), held_out=len(held_out),
        faults=findings.counts, held_out_inputs=sum(example.inputs for example in held_out),
        held_out_targets=targets_of(held_out),
    )  # fmt: skip
