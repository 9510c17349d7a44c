"""The advice follows corpus, machine and budget, explains itself, and leaves what is given alone."""

from dataclasses import replace

import pytest

from congling.core.errors import UserError
from congling.model.counts import parameters
from congling.plan.corpus_facts import CorpusFacts
from support.situations import DICTIONARY, GPU, HLM, LAPTOP, SLQM, WEB, codes, plan


@pytest.mark.parametrize("corpus", [HLM, SLQM, DICTIONARY, WEB])
@pytest.mark.parametrize("budget", ["30s", "3m", "15m", "5h"])
def test_every_plan_is_sound_and_keeps_its_budget(corpus, budget):
    found = plan(corpus, budget)
    assert "error" not in codes(found).values()
    assert found.cost.seconds < 1.05 * found.advice.budget
    assert found.cost.peak_memory < LAPTOP.memory
    assert all(len(choice.why) > 10 for choice in found.advice.choices)


def test_a_part_of_a_table_is_completed():
    found = plan(
        HLM, "15m", train__schedule={"warmup_ratio": 0.07}, train__optimizer={"learning_rate": 0.01}
    ).train
    assert (found.schedule.kind, found.schedule.warmup_ratio, found.schedule.decay_ratio) == (
        "wsd",
        0.07,
        0.6,
    )
    assert (found.optimizer.kind, found.optimizer.learning_rate) == ("muon", 0.01)
    assert plan(HLM, "15m", train__schedule={"kind": "cosine"}).train.schedule.kind == "cosine"


def test_more_time_and_more_text_make_larger_models():
    sizes = [parameters(plan(HLM, budget).model) for budget in ("20s", "3m", "1h")]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert parameters(plan(SLQM, "1h").model) < parameters(plan(WEB, "1h").model)
    assert parameters(plan(WEB, "1h", GPU).model) > parameters(plan(WEB, "1h").model)


def test_a_tiny_text_gets_a_tiny_model_and_is_told_so():
    found = plan(SLQM)
    assert parameters(found.model) < 500_000
    assert found.cost.tokens_per_step < SLQM.tokens / 4
    assert codes(found)["will-memorise"] == "note"
    assert found.train.torch_compile == "off"


def test_compiling_is_chosen_where_the_steps_of_the_run_pay_for_it():
    little = CorpusFacts(15_000, 12_000, 10, 100, 600, 1000, 1)
    assert plan(little, "10h").train.torch_compile == "off"
    assert plan(WEB, "10h").train.torch_compile == "on"
    assert (
        plan(
            WEB, "10h", train__max_steps=40, model__hidden_size=64, model__num_hidden_layers=2
        ).train.torch_compile
        == "off"
    )
    assert plan(WEB, "3m").train.torch_compile == "off"
    assert plan(WEB, "1m", train__torch_compile="on").train.torch_compile == "on"


def test_rereading_brings_regularisation():
    once, often = plan(WEB, "5m"), plan(HLM, "6h")
    assert once.model.dropout == 0 and once.train.ema_decay is None
    assert often.cost.passes > 4
    assert often.model.dropout > 0 and often.train.ema_decay is not None
    assert often.train.optimizer.weight_decay > once.train.optimizer.weight_decay


def test_what_is_given_stays():
    found = plan(
        HLM,
        model__num_hidden_layers=3,
        model__hidden_size=160,
        train__per_device_train_batch_size=5,
        train__optimizer={"kind": "adamw", "learning_rate": 5e-4},
        train__max_grad_norm=0.5,
    )
    assert (
        found.model.num_hidden_layers,
        found.model.hidden_size,
        found.train.per_device_train_batch_size,
        found.train.max_grad_norm,
    ) == (3, 160, 5, 0.5)
    assert found.train.optimizer.kind == "adamw" and found.train.optimizer.learning_rate == 5e-4
    assert {choice.key: choice.why for choice in found.advice.choices}[
        "num_hidden_layers"
    ] == "given in the recipe"


@pytest.mark.parametrize("steps", [1, 2, 20, 37, 60, 130, 240, 999, 5000])
def test_short_runs_stop_rarely_to_look(steps):
    train = plan(HLM, train__max_steps=steps).train
    looks, samples = (-(-steps // train.interval(name)) for name in ("evaluate", "sample"))
    assert min(2, steps) <= looks <= max(2, min(12, steps // 20))
    assert samples <= max(1, min(6, -(-steps // 50)))
    assert plan(HLM, train__eval_steps=3, train__sample_steps=4).train.eval_steps == 3


def test_presets_and_families():
    classic = plan(HLM, model__preset="classic").model
    assert (classic.num_hidden_layers, classic.hidden_size, classic.attention.num_attention_heads) == (
        16,
        256,
        8,
    )
    assert plan(HLM, model__family="gpt2").model.positions.kind == "learned"
    assert plan(HLM, model__family="qwen3-moe", model__options={"num_experts": 4}).model.mlp.num_experts == 4
    for wrong in ({"model__family": "gtp2"}, {"model__preset": "huge"}, {"model__options": {"expert": 4}}):
        with pytest.raises(UserError):
            plan(HLM, **wrong)


def test_context_follows_the_documents():
    assert plan(DICTIONARY, "5h").train.max_length <= 128
    assert plan(WEB, "5h").train.max_length > 128


@pytest.mark.parametrize("budget", ["5s", "15s", "30s", "1m"])
def test_long_documents_get_room_for_more_than_two_sentences(budget):
    """A text in llama.cpp ends where the context does; a step holds as many tokens as it would with less."""
    long, short = plan(HLM, budget), plan(replace(HLM, median_tokens=60), budget)
    assert long.train.max_length >= 128 > short.train.max_length
    assert long.cost.tokens_per_step == 16 * 128 if long.model.num_hidden_layers == 4 else 512
    why = {choice.key: choice.why for choice in long.advice.choices}["max_position_embeddings"]
    assert "llama.cpp" in why if long.train.max_length == 128 else "updates" in why
    given = plan(HLM, budget, train__max_length=64)
    assert (given.train.max_length, given.model.max_position_embeddings) == (64, 64)


def test_a_small_memory_splits_the_batch():
    small = type(LAPTOP)(2, 8 * 10**8, 50 * 10**9, 2e11, None, True)
    found, roomy = plan(HLM, "1h", small), plan(HLM, "1h")
    assert found.cost.tokens_per_step == roomy.cost.tokens_per_step
    assert found.train.gradient_accumulation_steps > 1 and found.cost.peak_memory < roomy.cost.peak_memory


def test_signs_are_trained_at_a_quarter_of_the_rates_that_weights_bear():
    start = plan(HLM, "15m").model
    whole = plan(HLM, "15m", start=start, quantization__method="rtn").train.optimizer
    found = plan(HLM, "15m", start=start, quantization__method="onebit")
    for key in ("learning_rate", "embedding_learning_rate", "head_learning_rate", "scalar_learning_rate"):
        assert getattr(found.train.optimizer, key) == pytest.approx(0.25 * getattr(whole, key), rel=1e-2)
    why = next(choice.why for choice in found.advice.choices if choice.key == "optimizer")
    assert "a sign turns a whole weight over" in why
    given = {"start": start, "quantization__method": "onebit", "train__optimizer": {"learning_rate": 0.01}}
    assert plan(HLM, "15m", **given).train.optimizer.learning_rate == 0.01
