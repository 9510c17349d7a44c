"""How far llama.cpp's probabilities are from ours, on drawn text."""

import numpy as np
import torch

TEXT = "从零开始学而时习之不亦说乎云对雨雪风晚照晴空"


def drawn(length: int, seed: int) -> str:
    """So many of its characters."""
    return "".join(np.random.default_rng(seed).choice(list(TEXT), length))


def divergence(ours: np.ndarray, theirs: np.ndarray | None) -> float:
    """Mean KL of logits (T, V), nats per token."""
    assert theirs is not None
    logs = [torch.from_numpy(each).double().log_softmax(-1) for each in (ours, theirs)]
    return float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean())
