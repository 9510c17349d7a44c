"""The load-balancing loss weighs the same for a token, whatever is learnt and however a step is cut."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from congling.data.tuning.examples import Example, ExampleBatches, collated
from congling.data.tuning.pair_batches import PairBatch, Rated, RatedBatches, batched
from congling.infer.reward_model import scored_at_its_end
from congling.train.backends.single import Single
from congling.train.config import AdamWConfig
from congling.train.loop import Trainer
from congling.train.objectives.config import GRPOConfig, PPOConfig, PreferenceConfig
from congling.train.objectives.distill import distill
from congling.train.objectives.distill_config import DistillConfig
from congling.train.objectives.next_token import next_token
from congling.train.objectives.policy import Policy
from congling.train.objectives.preference import preference
from congling.train.objectives.reward import BradleyTerry
from congling.train.rl.rollout_buffer import RolloutBatch
from congling.transform.scalar_head import attach_head
from support.training_doubles import CONTEXT, VOCABULARY, SplitBatches, settings, small_model

PLACE = Single(settings()).to_device
COEFFICIENT = 0.001


def mixture(**more: Any) -> Any:
    return small_model(
        "qwen3-moe",
        num_experts=4,
        num_experts_per_tok=2,
        router_aux_loss_coef=COEFFICIENT,
        max_position_embeddings=128,
        **more,
    )


def texts(count: int, learnt: int, length: int = 101) -> list[Example]:
    random = np.random.default_rng(3)
    return [
        Example(
            random.integers(0, VOCABULARY, length).astype(np.int32),
            np.arange(length) >= length - learnt,
            0,
            "rows:1",
        )
        for _ in range(count)
    ]


def weight(objective: Any, batch: Any, model: Any = None) -> float:
    """What the balance adds to the loss of a step, as the loop divides it."""
    model, placed = (model or mixture()).train(), PLACE(batch)
    routers = [block.mlp.router for block in model.blocks]
    totals = []
    for coefficient in (COEFFICIENT, 0.0):
        for router in routers:
            router.balance = coefficient
        totals.append(objective(model, placed).total.double().item())
    return (totals[0] - totals[1]) / batch.count


def expected(batch: Any) -> float:
    """The loss of Switch over the tokens of a batch that are no padding, by its definition."""
    model = mixture().eval()
    placed = PLACE(batch)
    model(placed.tokens, positions=placed.positions, documents=placed.documents)
    total = 0.0
    for block in model.blocks:
        router = block.mlp.router
        scores = router.scores
        if placed.uncounted is not None:
            scores = scores[~placed.uncounted.flatten()]
        chosen = torch.zeros_like(scores).scatter(1, scores.topk(2, dim=-1).indices, 1.0)
        total += (COEFFICIENT * 4 * (chosen.mean(0) * scores.mean(0)).sum()).item()
    return total


def rollout(**more: Any) -> Any:
    batch = batched(RolloutBatch, texts(4, 10), 128, 0, fresh=True, **{"count": 4.0, **more})
    zero = np.zeros(batch.tokens.shape, np.float32)
    return RolloutBatch(**{**vars(batch), "advantages": zero, "old": zero, "values": zero, "returns": zero})


def pairs(loss: str) -> tuple[Any, Any]:
    batch = batched(PairBatch, texts(16, 10), 128, 0, count=8.0, reference=np.zeros(16, np.float32))
    return preference(PreferenceConfig(loss_type=loss)), batch


CASES = {
    "pretraining": lambda: (next_token, SplitBatches(8)(0, 0, 1)[0]),
    "sft": lambda: (next_token, collated([[one] for one in texts(8, 10)], 128, 0)),
    "dpo": lambda: pairs("dpo"), "ipo": lambda: pairs("ipo"),
    "orpo": lambda: pairs("orpo"), "simpo": lambda: pairs("simpo"),
    "grpo": lambda: (Policy(GRPOConfig()), rollout()),
    "grpo by token": lambda: (Policy(GRPOConfig()), rollout(count=40.0)),
    "distill": lambda: (distill(small_model().eval(), DistillConfig()), SplitBatches(8)(0, 0, 1)[0]),
}  # fmt: skip


@pytest.mark.parametrize("method", CASES)
def test_a_token_weighs_the_coefficient_whatever_the_method(method: str):
    objective, batch = CASES[method]()
    assert weight(objective, batch) == pytest.approx(expected(batch), rel=2e-2)
    assert 2 * COEFFICIENT * 2 <= expected(batch) < 2 * COEFFICIENT * 2 * 1.5  # two layers, two experts each


@pytest.mark.parametrize("method", ["reward", "ppo"])
def test_so_it_does_with_a_scalar_head(method: str):
    model = mixture()
    attach_head(model, 0)
    if method == "ppo":
        objective, batch = Policy(PPOConfig()), rollout()
    else:
        ends = [scored_at_its_end(one, 0) for one in texts(4, 10)]
        objective, batch = BradleyTerry(), batched(PairBatch, ends, 128, 0, count=2.0)
    assert weight(objective, batch, model) == pytest.approx(expected(batch), rel=2e-2)


def test_answers_that_only_measure_how_far_the_model_moved_are_not_balanced():
    rows, others = texts(4, 10), texts(4, 3, length=60)
    batches = RatedBatches(
        [Rated(one, True) for one in rows],
        others,
        context=128,
        rows=4,
        accumulation=1,
        seed=0,
        pad=0,
        reference=np.zeros(8, np.float32),
    )
    batch = batches.batch(range(4))
    assert batch.balanced == 4 * 100
    objective = preference(PreferenceConfig(loss_type="kto"))
    assert weight(objective, batch) == pytest.approx(expected(batch), rel=2e-2)


def unequal(rows: int) -> ExampleBatches:
    """Eight rows a step: of some a little is learnt and much of the row is padding, of others all."""
    random, found = np.random.default_rng(5), []
    for length in (70, 100, 80, 101, 66, 90, 75, 120):
        ids = random.integers(0, VOCABULARY, length).astype(np.int32)
        found.append(Example(ids, np.arange(length) >= random.integers(1, length - 1), 0, "rows:1"))
    return ExampleBatches(found, context=128, rows=rows, accumulation=8 // rows)


@pytest.mark.parametrize("family", ["qwen3-moe", "deepseek-moe"])
def test_a_step_is_balanced_the_same_however_it_is_cut(family: str):
    found = []
    for rows in (8, 1):
        config = settings(
            max_steps=3,
            max_length=128,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=8 // rows,
            optimizer=AdamWConfig(learning_rate=1e-3, betas=(0.9, 0.9), eps=1e-3),
        )
        balance: dict[str, Any] = {"router_aux_loss_coef": 1.0} if family == "qwen3-moe" else {}
        model = small_model(
            family, num_experts=4, num_experts_per_tok=2, max_position_embeddings=128, **balance
        )
        trainer = Trainer(
            model, unequal(rows), next_token, config, Single(config), after_update=model.update_balance
        )
        trainer.run()
        found.append({name: value.detach().clone() for name, value in model.state_dict().items()})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=3e-6, msg=name)


def test_the_balance_is_pushed_towards_by_the_loop():
    """Of all experts alike, from a router that sends everything to one."""
    config = settings(max_steps=15, optimizer=AdamWConfig(learning_rate=3e-2))
    model = small_model("qwen3-moe", num_experts=4, num_experts_per_tok=1, router_aux_loss_coef=1.0)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.router.weight[0] += 0.5

    def busiest() -> float:
        model(torch.arange(VOCABULARY).view(1, -1)[:, :CONTEXT])
        return max(
            float(block.mlp.router.choice.flatten().bincount(minlength=4).max()) for block in model.blocks
        )

    trainer = Trainer(model, SplitBatches(4), next_token, config, Single(config))
    trainer.run()
    routers: Sequence[Any] = [block.mlp.router for block in model.blocks]
    assert busiest() < CONTEXT and all(router.step_share is None for router in routers)
