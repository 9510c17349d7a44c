"""Texts of a row attended to one by one: the masked kernel's values and gradients, chosen by the batch."""

import pytest
import torch

from congling.model import varlen
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.transform import longlora
from congling.transform.config import LongLoRAConfig

DOCUMENTS = torch.tensor([[0] * 5 + [1] * 6 + [2] * 5, [0] * 16, [0] * 1 + [1] * 14 + [2] * 1])


def built(family: str) -> Transformer:
    """A small model in which every weight matters."""
    model = Transformer(
        FAMILIES[family](vocab_size=61, max_position_embeddings=32, num_hidden_layers=2, hidden_size=64)
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.15
            parameter.copy_(noise + ("norm.weight" in name))
    return model


def learnt(model: Transformer) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Hidden states of packed rows, and what they teach."""
    tokens = torch.randint(0, 61, DOCUMENTS.shape, generator=torch.Generator().manual_seed(2))
    model.zero_grad()
    hidden = model(tokens, documents=DOCUMENTS)
    (model.logits(hidden).square().mean()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return hidden.detach(), gradients


@pytest.mark.parametrize("shifted", [False, True], ids=["whole", "longlora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_behind_a_mask(
    family: str, shifted: bool, monkeypatch: pytest.MonkeyPatch
):
    model = built(family)
    if shifted:
        longlora.shift(model, LongLoRAConfig(groups=4), 16)
    calls = []
    monkeypatch.setattr(varlen, "CALL", 0)
    monkeypatch.setattr(
        "congling.model.attention.attend_apart",
        lambda *given: calls.append(given[3]) or varlen.attend_apart(*given),
    )
    apart, their_gradients = learnt(model)
    assert calls and all(sum(lengths) == DOCUMENTS.numel() for lengths in calls)
    number = len(calls)
    model.varlen = False
    masked, gradients = learnt(model)
    assert len(calls) == number  # the mask, this time
    torch.testing.assert_close(apart, masked, atol=2e-5, rtol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(their_gradients[name], gradient, atol=2e-5, rtol=1e-3)


def test_short_texts_stay_behind_the_mask_and_long_ones_do_not():
    def rows(length: int, time: int) -> torch.Tensor:
        return (torch.arange(time) // length)[None].repeat(8, 1)

    assert varlen.text_lengths(rows(8, 256), channels=128) is None
    assert varlen.text_lengths(rows(64, 256), channels=128) == (64,) * 32
    assert varlen.text_lengths(rows(8, 1024), channels=256) == (8,) * 1024  # a long mask is dear
    assert varlen.text_lengths(torch.zeros(2, 64, dtype=torch.long), channels=8) is None


def test_equal_numbers_in_neighbouring_rows_are_other_texts():
    documents = torch.tensor([[0] * 128, [0] * 64 + [1] * 64])
    assert varlen.text_lengths(documents, channels=1024) == (128, 64, 64)


def test_compiled_blocks_keep_the_mask():
    model = built("llama")
    config = TrainConfig(
        max_steps=1, max_length=32, per_device_train_batch_size=1, device="cpu", torch_compile="on"
    )
    Single(config).compiled(torch.nn.ModuleDict({"model": model}))
    assert not model.varlen


@pytest.mark.parametrize("first", [0, 2])
def test_texts_are_cut_where_groups_end(first: int):
    lengths, time, size = (5, 6, 11, 1, 10), 11, 4
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(owner))
    group = place // time * time + (place % time - first) // size
    expected = [1]
    for i in range(1, len(owner)):
        same = owner[i] == owner[i - 1] and group[i] == group[i - 1] and i % time
        expected = [*expected[:-1], expected[-1] + 1] if same else [*expected, 1]
    assert varlen.cut(lengths, time, size, first) == tuple(expected)
