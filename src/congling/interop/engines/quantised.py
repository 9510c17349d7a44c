"""What transformers needs to run layers in few bits on a CPU, and whether it really does.

auto-round's kernels choose by the processor how they multiply: in float32, or, where there is AMX, in 8 bits,
by which logits differ more than by most mistakes in a folder. To compare, they are asked for float32.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.settings import CONFIG, QUANTISED, read_json

MODULES = {
    "gptq": ("auto_round", "auto_round_kernel"),
    "awq": ("auto_round", "auto_round_kernel"),
    "compressed-tensors": ("compressed_tensors",),
    "bitsandbytes": ("bitsandbytes",),
}
"""What has to be installed besides transformers and accelerate, by ``quant_method``."""
_LAYERS = {
    "gptq": ("QuantLinearGPTQ", "QuantLinear"),  # the second one, of torch alone, has three bits
    "awq": ("QuantLinearAWQ",),
    "bitsandbytes": ("Linear8bitLt",),
}
_IN_FLOAT32 = "fp32"


def missing(method: str) -> list[str]:
    """Modules that a folder needs and that are not installed."""
    return [name for name in (*MODULES.get(method, ()), "accelerate") if find_spec(name) is None]


def method_of(folder: Path | str) -> str | None:
    """The ``quant_method`` of a folder; None: its layers are floats."""
    path = Path(folder) / CONFIG
    told = read_json(path).get(QUANTISED) if path.is_file() else None
    return str(told.get("quant_method")) if isinstance(told, dict) else None


@contextlib.contextmanager
def loading(method: str | None) -> Iterator[dict[str, Any]]:
    """What ``from_pretrained`` is given besides; what these programs say meanwhile is not shown.

    Raises:
        UserError: something is not installed.
    """
    if method is None:
        yield {}
        return
    if lacking := missing(method):
        what = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not installed"
        raise UserError(what, hint="pip install 'congling[quant]'")
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        if method not in ("gptq", "awq"):
            yield {"device_map": "cpu"}
            return
        from auto_round_kernel import qlinear
        from transformers import AutoRoundConfig

        logging.getLogger("autoround").setLevel(logging.ERROR)
        # A layer decides what it computes in when its weights are there; it keeps what it is given here.
        kernel: Any = qlinear.QuantLinear
        kernel.cdt = property(
            lambda layer: vars(layer)["cdt"], lambda layer, chosen: vars(layer).update(cdt=_IN_FLOAT32)
        )
        try:
            yield {"quantization_config": AutoRoundConfig(), "device_map": "cpu"}
        finally:
            del kernel.cdt


def require_layers(model: Any, method: str | None, folder: Path | str) -> None:
    """Make sure that layers are computed in few bits, and not as floats they were unpacked to.

    Raises:
        UserError: they are not.
    """
    if method is None:
        return
    found = {type(layer).__name__ for layer in model.modules()}
    if method == "compressed-tensors":  # ordinary layers that know how they were stored
        known = any(hasattr(layer, "quantization_scheme") for layer in model.modules())
    else:
        known = bool(found & set(_LAYERS.get(method, ())))
    if not known:
        what = f"transformers loads this folder, but not its layers as those of {method}"
        raise UserError(what, where=folder, value=", ".join(sorted(one for one in found if "Linear" in one)))
