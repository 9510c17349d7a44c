"""Our parameters as the tensors of a GGUF file: renamed, reordered, fused, and encoded one at a time."""

# V vocabulary, W width, F hidden width of an expert

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, float32

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.gguf.arrangement import Heads, to_interleaved, turned_heads
from congling.interop.gguf.config_writing import stretched
from congling.interop.gguf.file import TensorData
from congling.interop.gguf.names import fused_name, gguf_name
from congling.interop.gguf.stretch import FACTORS
from congling.model.checkpoint import expected_shapes
from congling.model.config import ModelConfig
from congling.model.mlp_config import MoEConfig
from congling.quant import ggml

WITH_OUTPUT = frozenset({"baichuan", "refact", "dots1", "stablelm", "olmo2"})
"""Architectures that want an output matrix even when it is the embedding."""


@dataclass(frozen=True)
class Source:
    """A tensor as the file wants it."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], np.ndarray]
    """float32, made when it is written."""
    parameters: tuple[str, ...] = ()
    """Ours that lie in it, one below the other."""
    heads: Heads | None = None
    """Heads whose rows stand in another order in the file."""

    def tensor(
        self,
        type: str,
        importance: np.ndarray | None,
        blocks: Mapping[str, np.ndarray],
    ) -> TensorData:
        """The same, encoded as ``type`` when its turn comes.

        Args:
            type: of ggml.
            importance: of its columns, as ``ggml.encode`` takes it.
            blocks: rows of our parameters that are encoded already, in our order.
        """
        if self.parameters and blocks.keys() >= set(self.parameters):
            return TensorData(self.name, self.shape, type, lambda: self._arranged(blocks))
        return TensorData(self.name, self.shape, type, lambda: self._encoded(type, importance))

    def _arranged(self, blocks: Mapping[str, np.ndarray]) -> np.ndarray:
        rows = np.concatenate([blocks[name] for name in self.parameters])
        return rows if self.heads is None else to_interleaved(rows, self.heads)

    def _encoded(self, type: str, importance: np.ndarray | None) -> np.ndarray:
        try:
            return ggml.encode(self.values(), type, importance)
        except UserError as error:
            raise UserError(error.what, where=self.name, value=error.value, hint=error.hint) from None


def sources(model: ForeignModel, architecture: str, where: Path) -> Iterator[Source]:
    """What the file holds, in the order of our parameters, then what the architecture wants besides.

    Raises:
        UserError: the weights are not those of the configuration.
    """
    config, weights = model.config, model.weights
    shapes = expected_shapes(config, len(weights), where)
    if odd := sorted(shapes.keys() ^ weights.keys()):
        raise UserError("the tensors are not those of the configuration, the first", value=odd[0])
    for name, shape in shapes.items():
        if (fused := fused_name(name, architecture)) is not None:
            theirs, parts = fused
            if name == parts[0]:
                yield _fused(theirs, parts, shapes, weights)
            continue
        heads = turned_heads(name, config, architecture)
        values = _values(weights, name, heads)
        yield Source(gguf_name(name, architecture), shape, values, (name,), heads)
    if config.tie_word_embeddings and architecture in WITH_OUTPUT:
        yield Source("output.weight", shapes["embedding.weight"], _values(weights, "embedding.weight"))
    if (divisors := stretched(config, architecture).divisors) is not None:
        table = np.array(divisors, np.float32)
        yield Source(FACTORS, table.shape, lambda: table)
    if architecture == "glm4moe" and isinstance(config.mlp, MoEConfig):
        yield from _stand_ins(config, config.mlp)


def _stand_ins(config: ModelConfig, mlp: MoEConfig) -> Iterator[Source]:
    """Zeros for parts that the architecture wants and the model has not: they change nothing."""
    absent: dict[str, tuple[int, ...]] = {}
    if mlp.router.kind == "softmax":
        absent["exp_probs_b.bias"] = (mlp.num_experts,)
    if not mlp.n_shared_experts:
        absent |= {
            f"ffn_{part}_shexp.weight": (mlp.moe_intermediate_size, config.hidden_size)
            for part in ("gate", "up")
        }
        absent["ffn_down_shexp.weight"] = (config.hidden_size, mlp.moe_intermediate_size)
    for layer in range(mlp.first_k_dense_replace, config.num_hidden_layers):
        for part, shape in absent.items():
            yield Source(f"blk.{layer}.{part}", shape, lambda shape=shape: np.zeros(shape, np.float32))


def _fused(
    theirs: str, parts: list[str], shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]
) -> Source:
    """Several parameters as one tensor, one below the other."""
    shape = (sum(shapes[part][0] for part in parts), *shapes[parts[0]][1:])
    values = lambda: np.concatenate([_array(weights[part]) for part in parts])  # noqa: E731
    return Source(theirs, shape, values, tuple(parts))


def _values(weights: Mapping[str, Tensor], name: str, heads: Heads | None = None) -> Callable[[], np.ndarray]:
    def values() -> np.ndarray:
        array = _array(weights[name])
        return array if heads is None else to_interleaved(array, heads)

    return values


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", float32).numpy()
