import pytest
import torch

from congling.model.lazy import LazyTensors


def test_each_tensor_is_made_when_it_is_asked_for():
    asked: list[str] = []

    def make(name: str) -> torch.Tensor:
        asked.append(name)
        return torch.full((2,), float(len(name)))

    lazy = LazyTensors(["b", "aa"], make)
    assert list(lazy) == ["b", "aa"] and len(lazy) == 2 and "b" in lazy and not asked
    assert lazy["aa"].tolist() == [2.0, 2.0] and asked == ["aa"]
    with pytest.raises(KeyError):
        lazy["c"]
    assert {name: tensor[0].item() for name, tensor in lazy.items()} == {"b": 1.0, "aa": 2.0}
    assert asked == ["aa", "b", "aa"]
