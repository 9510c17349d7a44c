"""Mixtures of experts: the grouped computation equals the plain one, and balance is kept."""

import pytest
import torch
from torch.nn.functional import silu

from congling.model.mlp_config import MoEConfig, SigmoidRouterConfig, SoftmaxRouterConfig
from congling.model.moe import MixtureOfExperts

WIDTH = 32


def built(router: SoftmaxRouterConfig | SigmoidRouterConfig, **changes: int) -> MixtureOfExperts:
    config = MoEConfig(
        **{"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 16, **changes}, router=router
    )
    mixture = MixtureOfExperts(config, WIDTH)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.normal_(std=0.3)
    return mixture


@pytest.mark.parametrize(
    "router",
    [
        SoftmaxRouterConfig(),
        SoftmaxRouterConfig(routed_scaling_factor=0.5),
        SigmoidRouterConfig(routed_scaling_factor=2.5),
    ],
)
@pytest.mark.parametrize("shared", [0, 2])
def test_grouped_experts_equal_one_token_at_a_time(
    router: SoftmaxRouterConfig | SigmoidRouterConfig, shared: int
):
    mixture, x = built(router, n_shared_experts=shared), torch.randn(2, 7, WIDTH)
    flat = x.flatten(0, 1)
    routing, experts = mixture.router(flat), mixture.experts
    expected = torch.zeros_like(flat)
    for n, token in enumerate(flat):
        for expert, share in zip(routing.choice[n].tolist(), routing.share[n], strict=True):
            hidden = silu(experts.gate[expert] @ token) * (experts.up[expert] @ token)
            expected[n] += share * (experts.down[expert] @ hidden)
    torch.testing.assert_close(mixture(x), expected.view_as(x) + mixture.shared(x), atol=1e-5, rtol=1e-5)
    assert routing.load.tolist() == [int((routing.choice == expert).sum()) for expert in range(5)]
    torch.testing.assert_close(routing.share.sum(-1), torch.full((14,), router.routed_scaling_factor))


def test_shares_that_stay_as_they_are_are_those_of_the_whole_softmax():
    mixture, x = (
        built(SoftmaxRouterConfig(norm_topk_prob=False, routed_scaling_factor=1.5)),
        torch.randn(7, WIDTH),
    )
    routing = mixture.router(x)
    scores = (x @ mixture.router.weight.T).softmax(-1)
    torch.testing.assert_close(routing.share, 1.5 * scores.topk(2, dim=-1).values)


def test_the_loss_is_least_when_tokens_spread_evenly():
    mixture = built(SoftmaxRouterConfig(router_aux_loss_coef=1.0), num_experts=4, num_experts_per_tok=1)
    x = torch.eye(4, WIDTH)
    with torch.no_grad():
        mixture.router.weight.copy_(torch.eye(4, WIDTH) * 50)
        mixture(x)
        even = mixture.balance_loss()
        mixture.router.weight.copy_(torch.ones(4, WIDTH) * torch.tensor([[50.0], [0], [0], [0]]))
        mixture(x)
    assert even.item() == pytest.approx(1.0, rel=1e-3)
    assert mixture.balance_loss().item() == pytest.approx(4.0, rel=1e-3)  # all to one of four


def test_biases_even_out_a_lopsided_router():
    mixture = built(SigmoidRouterConfig(bias_update_rate=0.02), num_experts=4, num_experts_per_tok=1).train()
    x = torch.randn(400, WIDTH) + 0.5
    with torch.no_grad():
        mixture.router.weight[0] += 0.3  # tokens lean one way, and expert 0 with them

    def busiest() -> float:
        load = mixture.router(x).load
        return (load.max() / load.sum()).item()

    before = busiest()
    for _ in range(100):
        mixture.balance_loss()  # what an objective asks for, and what counts the load
        mixture.update_balance(lambda load: load)
        mixture.router(x)
    assert before > 0.6 and busiest() < 0.35


def test_biases_steer_the_choice_but_not_the_shares():
    mixture = built(SigmoidRouterConfig(), num_experts_per_tok=5).eval()
    x = torch.randn(6, WIDTH)
    before = mixture(x)
    mixture.router.bias += torch.tensor([3.0, 0, 0, -3, 0])
    torch.testing.assert_close(mixture(x), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("router", [SoftmaxRouterConfig(router_aux_loss_coef=1.0), SigmoidRouterConfig()])
def test_padding_is_neither_counted_nor_balanced(router: SoftmaxRouterConfig | SigmoidRouterConfig):
    text, padding = torch.randn(1, 9, WIDTH), torch.randn(1, 30, WIDTH) + 2
    alone, padded = built(router).train(), built(router).train()
    alone(text), padded(torch.cat([text, padding], 1))
    expected, uncounted = alone.balance_loss(), torch.arange(39) >= 9
    torch.testing.assert_close(padded.balance_loss(uncounted), expected)
    assert padded.router.load.tolist() == alone.router.load.tolist()


def test_passes_that_only_measure_move_no_bias():
    mixture = built(SigmoidRouterConfig(bias_update_rate=0.02)).train()
    mixture(torch.randn(2, 7, WIDTH))  # nobody learns from it
    mixture.update_balance(lambda load: load)
    assert not mixture.router.bias.any()


def test_a_skipped_step_moves_no_bias_and_its_load_is_forgotten():
    mixture, x = built(SigmoidRouterConfig(bias_update_rate=0.02)).train(), torch.randn(2, 7, WIDTH)
    mixture(x), mixture.balance_loss()
    mixture.update_balance(lambda load: load, torch.tensor(1.0))
    assert not mixture.router.bias.any() and not mixture.router.load.any()
    mixture(x), mixture.balance_loss()
    mixture.update_balance(lambda load: load, torch.tensor(0.0))
    assert mixture.router.bias.any()
