"""``quantization_config`` of Hugging Face, read and written. Without torch.

Written are the keys that programs need, and none that some of them stumble over: ``meta`` (auto-round refuses
it), ``actorder`` (compressed-tensors). AWQ folders say ``sym: false``, or auto-round ignores their zeros.
"""

from collections.abc import Sequence
from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.quantised.scheme import Claims, Scheme

_HEAD = "lm_head"


def scheme_of(values: object, where: object) -> Scheme:
    """How the layers of a folder are stored.

    Raises:
        UserError: it is a kind that cannot be read, or a value of it is absurd.
    """
    claims = Claims(values, where)
    match claims.values.get("quant_method"):
        case "gptq":
            return _gptq(claims)
        case "awq":
            return _awq(claims)
        case "compressed-tensors":
            return _compressed_tensors(claims)
        case "bitsandbytes":
            return _bitsandbytes(claims)
    raise UserError(
        "quantization_config: packed weights of this kind cannot be read",
        where=where,
        value=claims.values.get("quant_method"),
        hint="read are gptq, awq, compressed-tensors and bitsandbytes; else take the original model",
    )


def quantization_config(scheme: Scheme, floats: Sequence[str] = ()) -> dict[str, Any]:
    """What ``config.json`` says of layers stored in this way.

    The output matrix is never among them, nor are the layers named by ``floats``, of which GPTQ has no list.
    """
    apart = [_HEAD, *floats]
    match scheme.format:
        case "gptq":
            return {
                "quant_method": "gptq",
                "bits": scheme.bits,
                "group_size": scheme.group_size,
                "desc_act": False,
                "sym": scheme.sym,
                "checkpoint_format": "gptq" if scheme.zero_offset else "gptq_v2",
                "lm_head": False,
            }
        case "awq":
            return {
                "quant_method": "awq",
                "bits": scheme.bits,
                "group_size": scheme.group_size,
                "zero_point": True,
                "sym": False,
                "version": "gemm",
                "modules_to_not_convert": apart,
            }
        case "bitsandbytes":
            return {
                "quant_method": "bitsandbytes",
                "load_in_8bit": True,
                "load_in_4bit": False,
                "llm_int8_threshold": scheme.threshold,
                "llm_int8_skip_modules": apart,
                "llm_int8_has_fp16_weight": False,
                "llm_int8_enable_fp32_cpu_offload": False,
            }
        case _:
            return _compressed(scheme) | {"ignore": apart}


def _compressed(scheme: Scheme) -> dict[str, Any]:
    by_row = scheme.group_size == -1
    weights = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.sym,
        "strategy": "channel" if by_row else "group",
        "group_size": None if by_row else scheme.group_size,
        "dynamic": False,
    }
    inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": inputs if scheme.format == "int-quantized" else None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": scheme.format,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
    }


def _gptq(claims: Claims) -> Scheme:
    claims.without("dynamic", "lm_head")
    version = claims.one_of("checkpoint_format", "gptq", "gptq_v2", default="gptq")
    return Scheme(
        "gptq",
        claims.one_of("bits", 2, 3, 4, 8),
        claims.group_size(),
        claims.flag("sym", True),
        zero_offset=int(version == "gptq"),
    )


def _awq(claims: Claims) -> Scheme:
    claims.one_of("version", "gemm", "GEMM", default="gemm")
    sym = not claims.flag("zero_point", True)
    return Scheme("awq", claims.one_of("bits", 4), claims.group_size(), sym)


def _compressed_tensors(claims: Claims) -> Scheme:
    claims.without("kv_cache_scheme", "sparsity_config", "transform_config")
    claims.one_of("quantization_status", "compressed", default="compressed")
    groups = claims.within("config_groups")
    if len(groups.values) != 1:
        raise claims.refuse("config_groups", "one group of layers is read, all stored alike")
    group = groups.within(next(iter(groups.values)))
    group.without("output_activations")
    weights = group.within("weights")
    weights.one_of("type", "int", default="int")
    weights.one_of("dynamic", False, default=False)
    by_row = weights.one_of("strategy", "channel", "group") == "channel"
    size = -1 if by_row else weights.group_size()
    format = claims.one_of("format", "pack-quantized", "int-quantized", default=group.values.get("format"))
    if format == "pack-quantized":
        group.without("input_activations")
        return Scheme(format, weights.one_of("num_bits", 2, 3, 4, 8), size, weights.flag("symmetric", True))
    inputs = group.within("input_activations")
    for key, needed in (("num_bits", 8), ("type", "int"), ("strategy", "token"), ("dynamic", True)):
        inputs.one_of(key, needed)
    inputs.one_of("symmetric", True, default=True)
    weights.one_of("symmetric", True, default=True)
    weights.one_of("strategy", "channel")
    return Scheme(format, weights.one_of("num_bits", 8))


def _bitsandbytes(claims: Claims) -> Scheme:
    claims.without("load_in_4bit", "llm_int8_has_fp16_weight")
    claims.one_of("load_in_8bit", True)
    threshold = claims.values.get("llm_int8_threshold", 6.0)
    if type(threshold) not in (int, float) or not 0 <= threshold < 1e6:
        raise claims.refuse("llm_int8_threshold")
    return Scheme("bitsandbytes", threshold=float(threshold))
