"""The parity report sees every kind of difference between two programs, and none where there is none."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from congling.evals.conversion import parity
from congling.evals.conversion.verification import lengths_of
from congling.interop.foreign import ForeignModel
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer.character import CharacterTokenizer


class Double:
    """The same model as another program would run it, with faults to choose."""

    name = "double 1.0"

    def __init__(
        self,
        model: Transformer,
        tokenizer: CharacterTokenizer,
        *,
        shift: float = 0.0,
        wrong_after: int = 10**9,
        breaks: str = "",
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.shift, self.wrong_after, self.breaks = shift, wrong_after, breaks

    def tokenize(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text)
        return [*ids[1:], ids[0]] if self.breaks and self.breaks in text else ids

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        found = parity.logits_of(self.model, ids)
        found[-1, 0] += self.shift
        return found

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        text = list(ids)
        for step in range(count):
            scores = parity.logits_of(self.model, text)[-1]
            text.append(int(scores.argmin() if step >= self.wrong_after else scores.argmax()))
        return text[len(ids) :]


@pytest.fixture(scope="module")
def subject() -> tuple[Transformer, CharacterTokenizer]:
    tokenizer = CharacterTokenizer("从零开始学而时习之不亦说乎却那日天气")
    model = Transformer(
        FAMILIES["qwen3"](
            vocab_size=tokenizer.vocab_size, max_position_embeddings=64, num_hidden_layers=2, hidden_size=64
        )
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.randn(tensor.shape) * 0.15 + ("norm.weight" in name))
    return model.eval(), tokenizer


def test_equal_programs_are_equal(subject):
    found = parity.compare(*subject, Double(*subject))
    assert found.ids == found.equal_ids > 300
    assert found.positions >= 300
    assert found.largest_difference == 0
    assert found.perplexity == found.engine_perplexity > 1
    assert found.equal_greedy == found.greedy >= 100
    assert found.margin is None and found.misses(1e-4) == []
    assert parity.perplexity(*subject) == pytest.approx(found.perplexity)


def test_other_ids_are_named_with_their_line(subject):
    found = parity.compare(*subject, Double(*subject, breaks="价格"))
    assert 0 < found.equal_ids < found.ids
    assert any("价格" in miss for miss in found.misses(None))


def test_other_logits_are_a_miss_unless_the_format_is_inexact(subject):
    found = parity.compare(*subject, Double(*subject, shift=0.01))
    assert found.largest_difference == pytest.approx(0.01, rel=1e-3)
    assert 0 < found.mean_difference < 0.01
    assert any("1.00e-02" in miss for miss in found.misses(1e-3))
    assert found.misses(0.02) == [] and found.misses(None) == []


def test_nan_is_a_miss(subject):
    found = parity.compare(*subject, Double(*subject, shift=float("nan")))
    for accuracy in (1e9, None):
        assert any("not finite" in miss for miss in found.misses(accuracy))


def test_another_perplexity_is_a_miss_where_logits_are_not_judged(subject):
    found = parity.compare(*subject, Double(*subject, shift=0.01))
    assert found.misses(None, 0.01) == []
    other = replace(found, engine_perplexity=found.perplexity * 1.02)
    assert other.misses(None) == [] and other.misses(None, 0.03) == []
    assert any("perplexity differs by 2.00%" in miss for miss in other.misses(None, 0.01))


def test_greedy_texts_that_part(subject):
    found = parity.compare(*subject, Double(*subject, wrong_after=3))
    assert found.equal_greedy < found.greedy
    assert found.margin is not None and found.margin > 0.1
    assert any("part after" in miss for miss in found.misses(1e-3))
    assert found.misses(found.margin) == []  # a tie within the accuracy


def stretched(kind: str, **values: object) -> ForeignModel:
    config = FAMILIES["qwen3"](
        vocab_size=97, max_position_embeddings=300, num_hidden_layers=2, hidden_size=64
    ).replace(positions={"rope_scaling": {"rope_type": kind, **values}})
    return ForeignModel(config, {})


def test_positions_that_are_wrong_far_from_the_beginning_are_a_miss(subject, monkeypatch):
    plain, tokenizer = subject
    monkeypatch.setattr(parity, "GREEDY", 4)
    pairs = plain.config.attention.head_dim // 2
    scaling = {
        "rope_type": "longrope", "factor": 2.4, "original_max_position_embeddings": 128,
        "short_factor": (1.0,) * pairs, "long_factor": (4.0,) * pairs, "attention_factor": 1.0,
    }  # fmt: skip
    changes = {"max_position_embeddings": 300}
    far = Transformer(plain.config.replace(**changes, positions={"rope_scaling": scaling})).eval()
    near = Transformer(plain.config.replace(**changes)).eval()
    far.load_state_dict(plain.state_dict()), near.load_state_dict(plain.state_dict())
    engine = Double(near, tokenizer)
    without = parity.compare(far, tokenizer, engine)
    found = parity.compare(far, tokenizer, engine, lengths=parity.Lengths(300, 300))
    assert without.largest_difference < 1e-6 and found.positions == without.positions + 300
    assert any("logits differ" in miss for miss in found.misses(1e-3))
    assert parity.perplexity(far, tokenizer, lengths=parity.Lengths(300, 300)) == pytest.approx(
        found.perplexity
    )
    short = parity.compare(far, tokenizer, engine, lengths=parity.Lengths(64))
    assert short.largest_difference < 1e-6 and short.positions >= 384


def test_stretched_positions_are_looked_at_up_to_where_programs_agree():
    assert lengths_of(stretched("linear", factor=4.0), "hf") == parity.Lengths(300, 300)
    dynamic = stretched("dynamic", factor=4.0, original_max_position_embeddings=80)
    assert lengths_of(dynamic, "hf") == parity.Lengths(80, 80)
    wide = stretched("linear", factor=4.0)
    wide = replace(wide, config=wide.config.replace(max_position_embeddings=2**20))
    assert lengths_of(wide, "hf").long == 4096 and lengths_of(wide, "gguf").long == 1024
    wide = replace(wide, config=wide.config.replace(vocab_size=2**17))
    assert lengths_of(wide, "hf").long == 512
    plain = replace(wide, config=wide.config.replace(positions={"rope_scaling": None}))
    assert lengths_of(plain, "hf") == parity.Lengths(2**20)
    assert lengths_of(replace(plain, facts={"extended": {"method": "ntk"}}), "hf").long == 512
