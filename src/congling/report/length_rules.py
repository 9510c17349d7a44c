"""What a run on a base with an extended context learnt of the new length."""

from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.infer.reading import lengths_in_words, trained_length
from congling.report.record import RunRecord
from congling.report.weights import extension_facts, model_of


def extended_context(run: RunRecord) -> Iterator[Diagnosis]:
    """Both lengths, and whether the run reached the new one."""
    model, facts = model_of(run), extension_facts(run)
    lengths = "" if model is None else lengths_in_words(facts, model)
    if model is None or not lengths:
        return
    trained, context = trained_length(facts, model), model.max_position_embeddings
    reached = trained >= context
    yield Diagnosis(
        "note",
        "extended-context",
        f"the model reads {lengths}",
        "it was trained as far as it reads"
        if reached
        else f"between {trained:,} and {context:,} tokens nothing was learnt: there it rests on stretched "
        "positions alone",
        "nothing" if reached else "look at what it makes of more text: congling eval --tasks length",
    )
