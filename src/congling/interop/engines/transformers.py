"""transformers as an engine: tokens, logits and greedy text of a Hugging Face folder, without remote code.

Quantised folders are run by the layers of auto-round, compressed-tensors or bitsandbytes in it.
"""

# T tokens, V vocabulary

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.engines import quantised


def available() -> bool:
    """Whether transformers is installed."""
    from importlib.util import find_spec

    return find_spec("transformers") is not None


class TransformersEngine:
    """A folder run by ``AutoModelForCausalLM`` and ``AutoTokenizer`` on the CPU, by default in float32.

    Raises:
        UserError: transformers, or what a quantised folder needs, is not installed or does not load it.
    """

    def __init__(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
        self._library, self._folder = _transformers(), str(folder)
        self._tokenizer: Any = None
        method = quantised.method_of(folder)
        with quantised.loading(method) as options:
            self._model: Any = self._loaded("AutoModelForCausalLM", dtype=dtype, **options).eval()
            if method is not None:  # some unpack when they are first used, and say so
                self.logits([0])
        quantised.require_layers(self._model, method, folder)

    @property
    def name(self) -> str:
        """Program and version."""
        return f"transformers {self._library.__version__}"

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text, without a beginning-of-text id; special tokens in it are ordinary characters.

        Raises:
            UserError: the folder's tokenizer cannot be loaded.
        """
        if self._tokenizer is None:
            self._tokenizer = self._loaded("AutoTokenizer")
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """(T, V) float32: scores after each of ``ids``."""
        return self._model(torch.tensor([list(ids)]), use_cache=False).logits[0].float().numpy()

    @torch.inference_mode()
    def watch(
        self, ids: Sequence[int], layers: Iterable[str], see: Callable[[str, Tensor, Tensor], None]
    ) -> None:
        """Read ``ids`` once; ``see`` is given the name, the input and the output of each of these layers."""

        def hook(name: str) -> Any:
            return lambda _, inputs, output: see(name, inputs[0], output)

        hooks = [self._model.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
        try:
            self.logits(ids)
        finally:
            for one in hooks:
                one.remove()

    @torch.inference_mode()
    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The likeliest ``count`` ids after ``ids``; no id ends the text early."""
        found: list[int] = []
        state, next_ids = None, list(ids)
        for _ in range(count):
            step = self._model(torch.tensor([next_ids]), past_key_values=state, use_cache=True)
            state, next_ids = step.past_key_values, [int(step.logits[0, -1].argmax())]
            found += next_ids
        return found

    def _loaded(self, kind: str, **options: Any) -> Any:
        try:
            return getattr(self._library, kind).from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False, **options
            )
        except Exception as error:  # whatever a foreign program raises about a folder
            first = str(error).strip().splitlines()
            raise UserError(
                f"transformers does not load this folder ({type(error).__name__})",
                where=self._folder,
                value=first[0] if first else None,
            ) from None


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError("transformers is not installed", hint="pip install 'congling[hf]'") from None
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers
