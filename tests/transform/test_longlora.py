"""S²-Attn: who sees whom while training, nothing changed when evaluated, on every kind of model."""

from typing import Any

import pytest
import torch

from congling.core.errors import UserError
from congling.interop.gguf.packing import pack
from congling.model.attention import sdpa
from congling.model.families import FAMILIES
from congling.model.positions import AttentionContext
from congling.model.transformer import Transformer
from congling.transform import longlora, lora
from congling.transform.config import AdapterConfig, LongLoRAConfig

CONTEXT = 22  # groups of 4 at 5 groups: neither half of the heads divides it evenly
CONFIG = LongLoRAConfig(groups=5)
TRAINED = CONTEXT // 3
EXTENDED: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 3.0},
    {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": TRAINED},
]
BY_LENGTH: list[dict[str, Any]] = [
    {"rope_type": "dynamic", "factor": 3.0, "original_max_position_embeddings": TRAINED},
    {"rope_type": "clex", "max_factor": 3, "original_max_position_embeddings": TRAINED},
]
TOKENS = torch.arange(2 * CONTEXT).view(2, CONTEXT) % 50


def model(family: str = "llama", **sizes: object) -> Transformer:
    built = FAMILIES[family](
        vocab_size=50,
        max_position_embeddings=CONTEXT,
        num_hidden_layers=1,
        hidden_size=64,
        num_attention_heads=4,
        **sizes,
    )
    result = Transformer(built)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return result


def extended(scaling: dict[str, Any] | None) -> Transformer:
    """The same weights, with positions stretched from a third of the context."""
    base = model()
    result = Transformer(base.config.replace(positions={"rope_scaling": scaling}))
    result.load_state_dict(base.state_dict())
    return result


def seen_by(heads: int, time: int, size: int) -> torch.Tensor:
    """(H, T, T): by the definition, token by token; the groups of the later heads begin half a group on."""
    found = torch.zeros(heads, time, time, dtype=torch.bool)
    for head in range(heads):
        first = 0 if head < heads // 2 else size // 2
        for query in range(time):
            for key in range(query + 1):
                found[head, query, key] = (query - first) // size == (key - first) // size
    return found


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 3), (5, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_heads_attend_inside_their_groups_and_texts(heads: tuple[int, int], masked: bool):
    (many, few), time, size = heads, 11, 4
    draw = lambda count: torch.randn(2, count, time, 8)  # noqa: E731
    query, key, value = draw(many), draw(few), draw(few)
    visible = seen_by(many, time, size)[None].expand(2, -1, -1, -1)
    context = AttentionContext(None, None, True)
    if masked:
        documents = torch.tensor([[0] * 5 + [1] * 6, [0] * 2 + [1] * 7 + [2] * 2])
        same = (documents[:, :, None] == documents[:, None, :]).tril()[:, None]
        context, visible = AttentionContext(None, same, False), visible & same
    expected = sdpa(query, key, value, AttentionContext(None, visible, False))
    found = longlora.ShiftedGroups(size).train()(query, key, value, context)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scaling", [None, *EXTENDED])
def test_no_token_sees_a_later_one_and_half_a_group_on_it_is_heard(scaling: dict[str, Any] | None):
    base = extended(scaling).train()
    longlora.shift(base, CONFIG, CONTEXT)
    table = base.embedding.weight.detach()[TOKENS[:1]].requires_grad_()
    base.embedding.forward = lambda tokens: table  # type: ignore[method-assign]
    for place in range(CONTEXT):
        (slope,) = torch.autograd.grad(base(TOKENS[:1])[0, place].square().sum(), table)
        heard = slope[0].abs().sum(-1) > 0
        first = min(place // 4 * 4, (place - 2) // 4 * 4 + 2)
        assert heard.tolist() == [max(first, 0) <= other <= place for other in range(CONTEXT)]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "baichuan"])
def test_evaluated_it_is_the_model_it_was(family: str):
    base = model(family).eval()
    before, names = base.logits(base(TOKENS)), list(base.state_dict())
    longlora.shift(base, CONFIG, CONTEXT)
    assert torch.equal(base.logits(base(TOKENS)), before)
    assert list(base.state_dict()) == names
    base.train()
    assert (base.logits(base(TOKENS)) - before).abs().max() > 1e-3
    short = TOKENS[:, :4]  # no longer than one group
    in_training = base.logits(base(short))
    torch.testing.assert_close(in_training, base.eval().logits(base(short)))


@pytest.mark.parametrize("varlen", [False, True])
@pytest.mark.parametrize("scaling", EXTENDED)
def test_texts_that_share_a_row_hear_nothing_of_each_other(
    scaling: dict[str, Any], varlen: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("congling.model.varlen.CALL", 0)
    base = extended(scaling).train()
    base.varlen = varlen
    longlora.shift(base, CONFIG, CONTEXT)
    table = base.embedding.weight.detach()[TOKENS[:1]].requires_grad_()
    base.embedding.forward = lambda tokens: table  # type: ignore[method-assign]
    lengths = torch.tensor([3, 10, 9])
    documents = torch.repeat_interleave(torch.arange(3), lengths)[None]
    positions = torch.cat([torch.arange(int(length)) for length in lengths])[None]
    hidden = base(TOKENS[:1], positions=positions, documents=documents)
    for place in range(CONTEXT):
        (slope,) = torch.autograd.grad(hidden[0, place].square().sum(), table, retain_graph=True)
        heard = slope[0].abs().sum(-1) > 0
        assert heard[place] and not heard[place + 1 :].any()
        assert not heard[documents[0] != documents[0, place]].any()


def test_alibi_keeps_its_distances():
    time, size = 8, 4
    query, key, value = (torch.randn(1, 2, time, 8) for _ in range(3))
    place = torch.arange(time)
    slopes = torch.tensor([0.5, 0.25])[:, None, None] * (place - place[:, None])
    bias = torch.where(place <= place[:, None], slopes, -torch.inf)[None]
    own = torch.where(seen_by(2, time, size), bias, -torch.inf)
    found = longlora.ShiftedGroups(size).train()(query, key, value, AttentionContext(None, bias, False))
    torch.testing.assert_close(found, sdpa(query, key, value, AttentionContext(None, own, False)))


def test_adapters_norms_and_embedding_learn_on_a_packed_base():
    base = pack(model(), "Q8_0")
    lora.attach(
        base, AdapterConfig(r=2, target_modules=("attention",), modules_to_save=("norms", "embedding"))
    )
    longlora.shift(base, CONFIG, CONTEXT)
    base.train()
    base.logits(base(TOKENS)).square().sum().backward()
    learnt = {name for name, one in base.named_parameters() if one.grad is not None and one.grad.any()}
    assert {"embedding.b.trained", "norm.b.trained", "blocks.0.attention.query.b.trained"} <= learnt


@pytest.mark.parametrize("scaling", BY_LENGTH)
def test_frequencies_that_depend_on_the_length_are_refused(scaling: dict[str, Any]):
    config = model().config.replace(positions={"rope_scaling": scaling})
    with pytest.raises(UserError, match="depend on the text's length") as caught:
        longlora.shift(Transformer(config), CONFIG, CONTEXT)
    assert scaling["rope_type"] in str(caught.value) and "yarn" in str(caught.value)


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(UserError, match="too few"):
        longlora.shift(model(), LongLoRAConfig(groups=16), CONTEXT)
    one = Transformer(
        FAMILIES["llama"](
            vocab_size=50,
            max_position_embeddings=16,
            num_hidden_layers=1,
            hidden_size=32,
            num_attention_heads=1,
        )
    )
    with pytest.raises(UserError, match="two heads"):
        longlora.shift(one, CONFIG, 16)
