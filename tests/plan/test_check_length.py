"""Whether texts are long enough, what length costs, and whether rows fit an extended base."""

from dataclasses import replace

import pytest

from congling.core.diagnosis import Diagnosis
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.plan import planning
from congling.plan.check_length import Lengths, check_lengths
from congling.plan.planning import Plan
from congling.plan.recipe import Recipe
from congling.plan.text_lengths import TextLengths
from support.situations import DICTIONARY, HLM, LAPTOP, codes, plan

CHAPTERS = TextLengths.of([8000] * 70)
ENTRIES = TextLengths.of([100] * 20_000 + [2000] * 10)
LENGTH_KINDS = ("dynamic", "clex", "longrope")


def extended(kind: str | None = "yarn", factor: float = 4.0, context: int = 1024) -> ModelConfig:
    """4 × 192, of 256 tokens before."""
    base = FAMILIES["qwen3"](
        vocab_size=4600,
        max_position_embeddings=context,
        num_hidden_layers=4,
        hidden_size=192,
        num_attention_heads=6,
    )
    scaling: dict[str, object] = {"rope_type": kind, "factor": factor}
    if kind != "linear":
        scaling["original_max_position_embeddings"] = 256
    if kind == "clex":
        scaling["max_factor"] = int(scaling.pop("factor"))  # type: ignore[call-overload]
    if kind == "longrope":
        scaling |= {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16}
    return base if kind is None else base.replace(positions={"rope_scaling": scaling})


def found(model: ModelConfig, rows: int = 1024, **more: object) -> dict[str, Diagnosis]:
    values = {"trained": 256, "texts": CHAPTERS} | more
    return {one.code: one for one in check_lengths(Lengths(model, rows, **values))}  # type: ignore[arg-type]


def from_extended(corpus, model: ModelConfig, **train: object) -> Plan:
    recipe = Recipe.model_validate(
        {"data": {"sources": ("shards",)}, "budget": 900.0, "train": train, "exports": ("hf",)}
    )
    return planning.make(recipe, corpus, LAPTOP, start=model, trained_length=256)


def test_the_share_of_tokens_far_from_their_beginning_is_exact():
    lengths = TextLengths.of([100, 300, 300, 1000])
    assert lengths.share_beyond(256) == (44 + 44 + 744) / 1700
    assert lengths.share_beyond(0) == 1 and lengths.share_beyond(1000) == 0
    assert lengths.share_of(300) == 0.75 and not TextLengths().known


def test_documents_too_short_for_the_new_context_are_named_in_numbers():
    short = found(extended(), texts=ENTRIES)["short-documents"]
    assert short.severity == "warning" and "a context of 1,024 can learn little" in short.why
    assert short.what.startswith("1% of the tokens have 256 or more before them in their text, and 0% of")
    assert "long-documents" not in found(extended(), texts=ENTRIES)
    enough = found(extended())["long-documents"]
    assert enough.severity == "note" and enough.what.startswith("97% of the tokens have 256 or more")
    assert "100% of the documents fill a row of 1,024" in enough.what


def test_a_context_of_its_own_is_compared_with_documents_too():
    asked = {"train__max_length": 1024, "train__document_mask": True}
    entries = replace(DICTIONARY, lengths=ENTRIES)
    told = {one.code: one for one in plan(entries, **asked).findings}
    assert told["short-documents"].what.startswith("1% of the tokens have 512 or more before them")
    assert "set train.max_length to about 256" in told["short-documents"].remedy
    assert "short-documents" not in codes(plan(replace(HLM, lengths=CHAPTERS), **asked))
    # Without the mask the rows are of unrelated texts, which is said once; by itself the plan chooses well.
    assert "short-documents" not in codes(plan(entries, train__max_length=1024))
    assert "short-documents" not in codes(plan(entries))


def test_rows_within_the_old_context_teach_nothing_new():
    for rows in (128, 256):
        told = found(extended(), rows=rows)
        assert told["rows-within-old-context"].remedy == "set train.max_length=1024"
    assert "rows-within-old-context" not in found(extended(), rows=512)
    assert found(extended(), rows=128, chosen=True)["rows-within-old-context"].severity == "note"
    assert "rows-within-old-context" not in found(extended("clex"), rows=128, longest=1024)
    assert "rows-within-old-context" not in found(extended(), rows=128, trained=None)
    assert "rows-within-old-context" not in found(extended(), rows=128, trained=1024)


def test_a_factor_larger_than_rows_need_is_named_with_the_one_that_suffices():
    told = found(extended(factor=16.0, context=4096))["factor-too-large"]
    assert "stretched 16 times, to 4,096 tokens, and rows have 1,024" in told.what
    assert told.remedy.startswith("4 times suffice: congling extend --context 1024")
    assert "stretched 8 times" in found(extended(factor=8.0))["factor-too-large"].what
    assert "factor-too-large" not in found(extended())
    assert "factor-too-large" not in found(extended("dynamic", 16.0, 4096))
    assert "factor-too-large" in found(extended("linear", 16.0, 4096))


def test_what_attention_costs_is_told_where_rows_get_longer():
    told = found(extended())["attention-cost"]
    assert told.severity == "note" and "at 1,024 tokens" in told.what and "at 256" in told.what
    rest = 6 * (4 * (192 * (2 * 192 + 2 * 96) + 3 * 192 * 576) + 192 * 4600)  # half as many keys as queries
    long, short = 12 * 4 * 192 * 1024, 12 * 4 * 192 * 256
    assert f"attention is {long / (long + rest):.0%} of" in told.what
    assert f"{short / (short + rest):.0%} at 256: {(long + rest) / (short + rest):.3g} times" in told.what
    assert "attention-cost" not in found(extended(None), rows=256, trained=None)
    assert "attention-cost" in found(extended(None, context=4096), rows=4096, trained=None)


@pytest.mark.parametrize(
    ("kind", "severity"), [("dynamic", "warning"), ("clex", "note"), ("yarn", None), ("longrope", None)]
)
def test_keys_that_are_turned_anew_are_told(kind, severity):
    told = found(extended(kind)).get("keys-turned-again")
    assert severity == (told and told.severity)
    if kind == "dynamic":
        assert told and "congling extend --method yarn" in told.remedy and "481 times as many" in told.what
    assert "keys-turned-again" not in found(extended(kind), rows=256)


def test_what_shifted_groups_save_is_said_with_its_number():
    little = found(extended(), rows=512, groups=4)["longlora-saves"]
    assert little.severity == "note" and "in 4 groups saves 17% of the arithmetic at 512" in little.what
    assert "at 1,000 tokens and below expect little" in little.why
    nothing = found(extended(None), rows=128, trained=None, groups=4)["longlora-saves"]
    assert nothing.severity == "warning" and "leave [longlora] out" in nothing.remedy
    much = found(extended(None, context=4096), rows=4096, trained=None, groups=4)["longlora-saves"]
    assert "large part of the work" in much.why and much.remedy == "nothing"
    for kind in LENGTH_KINDS:
        assert found(extended(kind), groups=4)["longlora-by-length"].severity == "error"
    assert "longlora-by-length" not in found(extended(), groups=4)


def test_an_extended_base_is_trained_at_its_new_length():
    chapters = replace(HLM, lengths=CHAPTERS)
    made = from_extended(chapters, extended())
    assert made.train.max_length == 1024 and made.train.tokens_per_step <= 4096
    assert codes(made)["long-documents"] == "note" and made.to_json()["cost"]["attention_share"] > 0.2
    assert not {"error", "warning"} & set(codes(made).values())
    assert from_extended(chapters, extended("clex")).train.max_length < 1024
    assert codes(from_extended(chapters, extended(), max_length=256))["rows-within-old-context"] == "warning"
    beyond = next(
        one
        for one in from_extended(chapters, extended(), max_length=2048).findings
        if one.code == "context-beyond-model"
    )
    assert beyond.severity == "error" and "congling extend --context 2048" in beyond.remedy


def test_programs_that_compute_the_positions_are_named():
    def elsewhere(model: ModelConfig) -> Diagnosis:
        made = from_extended(replace(HLM, lengths=CHAPTERS), model)
        return next(one for one in made.findings if one.code == "positions-elsewhere")

    yarn = elsewhere(extended())
    assert "yarn × 4 from 256 tokens, scores × 1.296: held by gguf, hf, ollama, not by llama2c" in yarn.what
    assert "llama2.c has no scaled rotary positions" in yarn.why and "qk" not in yarn.why
    dynamic = elsewhere(extended("dynamic"))
    assert "not by" in dynamic.what and "vllm" in dynamic.what and "longest text" in dynamic.why
    curve = elsewhere(extended("clex"))
    assert "hf" in curve.what.partition("not by")[2] and "freeze" in curve.remedy
    assert "positions-elsewhere" not in codes(plan(HLM))
