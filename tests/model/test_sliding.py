"""A sliding window narrows whatever is seen: packed texts, caches, shifted groups."""

import torch

from congling.model.cache import KVCache
from congling.model.families import gemma3
from congling.model.transformer import Transformer

CONFIG = gemma3(
    vocab_size=41,
    max_position_embeddings=32,
    num_hidden_layers=3,
    hidden_size=32,
    num_attention_heads=2,
    sliding_window=4,
)


def model_of() -> Transformer:
    model = Transformer(CONFIG).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.randn(tensor.shape) * 0.3 + ("norm" in name))
    return model


@torch.inference_mode()
def test_packed_texts_are_read_as_each_alone():
    model, tokens = model_of(), torch.randint(0, 41, (1, 20))
    documents = torch.tensor([[0] * 9 + [1] * 11])
    positions = torch.tensor([[*range(9), *range(11)]])
    for apart in (True, False):
        model.varlen = apart
        found = model(tokens, documents=documents, positions=positions)
        expected = torch.cat([model(tokens[:, :9]), model(tokens[:, 9:])], 1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_token_outside_the_window_is_not_seen_by_one_block_alone():
    config = CONFIG.replace(num_hidden_layers=1, attention={"layer_types": ["sliding_attention"]})
    model, tokens = Transformer(config).eval(), torch.randint(0, 41, (1, 12))
    for tensor in model.state_dict().values():
        tensor.normal_(1, 0.3)
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % 41
    moved = (model(tokens) - model(other)).abs().amax(-1)[0] > 1e-6
    assert moved.tolist() == [False] * 3 + [True] * 4 + [False] * 5


@torch.inference_mode()
def test_a_cache_fed_token_by_token_sees_the_same():
    model, tokens = model_of(), torch.randint(0, 41, (2, 14))
    cache = KVCache(CONFIG, 2, 14)
    found = torch.cat([model(step, cache=cache) for step in tokens.split(1, 1)], 1)
    torch.testing.assert_close(found, model(tokens), atol=1e-5, rtol=0)
