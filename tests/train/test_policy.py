"""The clipped objective and PPO's value head, on numbers that can be checked by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from congling.data.problems import Place
from congling.data.tuning.examples import Example
from congling.data.tuning.preference_rows import QuestionRow
from congling.data.tuning.preferences import Question
from congling.train.backends.single import Single
from congling.train.objectives.config import PPOConfig, PPORolloutConfig
from congling.train.objectives.policy import Policy, clipped, divergence, value_loss
from congling.train.rl.advantage import GAEAdvantage
from congling.train.rl.reference import Reference, RolloutScorer
from congling.train.rl.rollout_buffer import Rollout
from congling.train.rl.rollouts import RolloutBatches
from congling.transform.scalar_head import attach_head
from support.training_doubles import CONTEXT, VOCABULARY, settings, small_model

SINGLE = Single(settings())


def test_a_ratio_beyond_the_clip_counts_no_more():
    old = torch.zeros(4)
    new = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5])).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    losses = clipped(new, old, advantages, 0.2, 0.28)
    torch.testing.assert_close(losses.detach(), torch.tensor([-1.28, 1.5, -0.5, 0.8]))
    gradient = torch.autograd.grad(losses.sum(), new)[0]
    assert gradient[0] == 0 and gradient[3] == 0 and gradient[1] != 0 and gradient[2] != 0


def test_the_divergence_is_never_negative_and_0_only_without_a_difference():
    difference = torch.tensor([-2.0, -0.1, 0.0, 0.3, 4.0])
    found = divergence(torch.zeros(5), difference)
    assert (found >= 0).all() and found[2] == 0 and (found[[0, 1, 3, 4]] > 0).all()


def test_a_value_far_from_the_old_one_counts_no_more():
    old, returns = torch.zeros(3), torch.tensor([1.0, 1.0, -1.0])
    values = torch.tensor([0.1, 0.9, 0.9], requires_grad=True)
    losses = value_loss(values, old, returns, 0.2)
    wanted = 0.5 * torch.tensor([0.9**2, 0.8**2, 1.9**2])  # as in TRL's PPO: the worse of the two
    torch.testing.assert_close(losses.detach(), wanted)
    gradient = torch.autograd.grad(losses.sum(), values)[0]
    torch.testing.assert_close(gradient, torch.tensor([-0.9, 0.0, 1.9]))


def test_ppo_is_its_definition_on_a_whole_model():
    """Values, penalties, estimation, both losses: everything again, one answer at a time and unpacked."""
    model: Any = small_model()
    base = Reference(small_model())
    head = attach_head(model, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    random, examples = np.random.default_rng(2), []
    for prompt, answer in ((2, 3), (4, 1), (1, 6)):
        ids = random.integers(1, VOCABULARY, prompt + answer).astype(np.int32)
        examples.append(Example(ids, np.arange(prompt + answer) >= prompt, 0, "rows:1"))
    config = PPOConfig(
        beta=0.1, gamma=0.9, lam=0.8, vf_coef=0.3, cliprange_value=0.05, whiten_advantages=False
    )
    looks = RolloutScorer(model, SINGLE, 0, 0.9)
    found = Rollout(examples, np.arange(3), np.array([1.0, -2.0, 0.5]), np.ones(3, bool), [])
    found.old = [old - 0.1 for old in looks.reference(found, lambda b, t: log_probs(model, b, t))]  # type: ignore[arg-type]
    found = GAEAdvantage(config, looks, base)(found)
    questions = [Question((1,) * 4, QuestionRow((), None, Place("rows", 1)))]
    tokenizer: Any = SimpleNamespace(pad_id=0)
    rollouts = RolloutBatches(
        model,
        tokenizer,
        questions,
        None,
        None,
        PPORolloutConfig(max_completion_length=6),
        SINGLE,  # type: ignore[arg-type]
        seed=0,
    )
    batches = [SINGLE.to_device(one) for one in rollouts.batches_of(found, fresh=False)]
    loss = sum(Policy(config, 0.9)(model, one).total for one in batches) / sum(one.count for one in batches)
    wanted = torch.zeros(())
    for example, reward, old in zip(examples, (1.0, -2.0, 0.5), found.old, strict=True):
        tokens = torch.from_numpy(example.input_ids[None].astype(np.int64))
        hidden = model(tokens[:, :-1])[0]
        new = torch.log_softmax(model.logits(hidden) / 0.9, -1).gather(1, tokens[0, 1:, None])[:, 0]
        learnt = torch.from_numpy(example.loss_mask[1:])
        values, new, prior = head(hidden)[learnt, 0], new[learnt], torch.from_numpy(old)
        with torch.no_grad():
            other = base._model(tokens[:, :-1])[0]
            spread = torch.log_softmax(base._model.logits(other) / 0.9, -1)
            anchor = spread.gather(1, tokens[0, 1:, None])[:, 0][learnt]
            paid = -0.1 * (prior - anchor)
            paid[-1] += reward
            after = torch.cat([values.detach(), torch.zeros(1)])
            errors = paid + 0.9 * after[1:] - after[:-1]
            powers = [0.72**k for k in range(len(errors))]
            advantage = torch.stack(
                [
                    sum((errors[t + k] * powers[k] for k in range(len(errors) - t)), torch.zeros(()))
                    for t in range(len(errors))
                ]
            )
            returns = advantage + values
        policy = -torch.min((new - prior).exp() * advantage, (new - prior).exp().clamp(0.8, 1.2) * advantage)
        wanted = wanted + (policy + 0.3 * 0.5 * (values - returns) ** 2).sum() / 10
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(one, [head.weight, model.embedding.weight], retain_graph=True)
        for one in (loss, wanted)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        assert one.abs().max() > 1e-3


def log_probs(model: Any, batch: Any, temperature: float) -> torch.Tensor:
    from congling.train.objectives.log_probs import score

    return score(model, batch, temperature=temperature).log_probs


def test_an_answer_without_a_reward_pulls_neither_policy_nor_value():
    model: Any = small_model()
    attach_head(model, 3)
    examples = [Example(np.arange(1, 6, dtype=np.int32), np.arange(5) >= 2, 0, "") for _ in range(2)]
    found = Rollout(
        examples, np.arange(2), np.array([float("nan"), 1.0]), np.ones(2, bool), [np.zeros(3)] * 2
    )
    found = GAEAdvantage(PPOConfig(beta=0.0), RolloutScorer(model, SINGLE, 0, 1.0), None)(found)
    assert found.values is not None and found.returns is not None
    assert not found.advantages[0].any() and np.array_equal(found.returns[0], found.values[0])
    assert found.advantages[1].any()
    assert CONTEXT >= 5
