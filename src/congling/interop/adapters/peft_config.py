"""``adapter_config.json`` of PEFT: written, and read: what changes the result, and what is refused for it."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.interop.hf.settings import read_json
from congling.model.config import ModelConfig
from congling.transform.adapter import Factors

CONFIG = "adapter_config.json"
_OFF: dict[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (False, None),
    "arrow_config": (None,),
    "velora_config": (None,),
}
"""Settings that change what the factors mean, and the values at which they do not."""
_MOVED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that change the base's own weights: the factors fit no other base."""
_LONGEST_PATTERN = 256
_KINDS = {
    "ADALORA": "factors with singular values", "LOKR": "Kronecker products", "VERA": "shared factors",
    "LOHA": "Hadamard products", "IA3": "scales of activations", "OFT": "rotations", "BOFT": "rotations",
    "HRA": "reflections", "FOURIERFT": "Fourier coefficients", "XLORA": "a mixture of LoRAs",
    "LN_TUNING": "gains of norms", "PREFIX_TUNING": "learnt prefixes", "P_TUNING": "learnt prompts",
    "PROMPT_TUNING": "learnt prompts", "MULTITASK_PROMPT_TUNING": "learnt prompts",
}  # fmt: skip
"""What adapters of PEFT that are no LoRA consist of."""


@dataclass(frozen=True)
class PeftConfig:
    """The settings that scales follow from."""

    alpha: float
    rank_stabilised: bool
    alphas: Mapping[str, float]
    """Alpha of the modules whose names end as these patterns say."""
    dora: bool = False
    """Whether every module has a magnitude."""

    def scale(self, module: str, rank: int) -> float:
        """What ``B @ A`` of a module (``model.layers.0.mlp.up_proj``) is multiplied by."""
        alpha = next(
            (value for pattern, value in self.alphas.items() if re.match(rf"(.*\.)?({pattern})$", module)),
            self.alpha,
        )
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read(folder: Path) -> PeftConfig:
    """Read the configuration of a folder.

    Raises:
        UserError: it is missing or damaged, no LoRA, or asks for more than low-rank factors.
    """
    where = folder / CONFIG
    values = read_json(where)
    _require_lora(values, where)
    for key, neutral in _OFF.items():
        if values.get(key) not in neutral:
            what = f"the adapter uses {key}, which is more than low-rank factors"
            hint = "merge it into its base with PEFT (merge_and_unload), and import the result"
            raise UserError(what, where=where, value=values[key], hint=hint)
    begun = values.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_MOVED_BASE):
        what = "the adapter began by changing the base's weights, so it does not fit the base itself"
        hint = "save it with PEFT's path_initial_model_for_weight_conversion"
        raise UserError(what, where=where, value=begun, hint=hint)
    patterns = values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise UserError("alpha_pattern is no table", where=where, value=patterns)
    alphas = {_pattern(key, where): _number(value, where) for key, value in patterns.items()}
    alpha = _number(values.get("lora_alpha", 8), where)
    return PeftConfig(alpha, _flag(values, "use_rslora", where), alphas, _flag(values, "use_dora", where))


def _require_lora(values: Mapping[str, Any], where: Path) -> None:
    """Raise unless it is a LoRA of PEFT, which older files and other programs do not call so.

    Raises:
        UserError: another kind or another program's; the message says which.
    """
    kind = values.get("peft_type")
    if "fine_tune_type" in values or "lora_parameters" in values:
        kind = values.get("fine_tune_type", "lora")
        hint = "merge it there (mlx_lm.fuse), and import the result"
        raise UserError(f"an adapter of MLX ({kind}); only those of PEFT are read", where=where, hint=hint)
    if kind is None and "r" in values and "lora_alpha" in values:
        return
    name = str(kind).rpartition(".")[2].upper()  # "PeftType.LORA" as well
    if name == "LORA":
        return
    known = _KINDS.get(name, "a kind that is not known here")
    hint = "merge it into its base with PEFT (merge_and_unload), and import the result"
    raise UserError(
        f"an adapter of the kind {kind} ({known}); LoRA and DoRA are read", where=where, hint=hint
    )


def _flag(values: Mapping[str, Any], key: str, where: Path) -> bool:
    value = values.get(key)
    if value is not None and not isinstance(value, bool):  # "true" taken for false would change every scale
        raise UserError(f"{key} must be true or false", where=where, value=value)
    return bool(value)


def _number(value: Any, where: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2.0**100:
        raise UserError("alpha is a finite number", where=where, value=value)
    return float(value)


def _pattern(pattern: str, where: Path) -> str:
    """The pattern, if matching it takes no time worth speaking of.

    Raises:
        UserError: it is no regular expression, or one that could be made to run for ever.
    """
    nested = re.search(r"\)[*+?{]|\{", pattern) or len(re.findall(r"[*+]", pattern)) > 2
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        nested = True
    if nested or len(pattern) > _LONGEST_PATTERN:
        raise UserError(
            "a pattern of module names that is not accepted",
            where=where,
            value=pattern,
            hint="write the names out",
        )
    return pattern


def written(modules: Mapping[str, Factors], config: ModelConfig, base: str | None) -> dict[str, Any]:
    """``adapter_config.json``: the commonest rank and alpha, and the exceptions by full name."""
    ranks = {module: part.rank for module, part in modules.items()}
    alphas = {module: part.scale * part.rank for module, part in modules.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": any(part.magnitude is not None for part in modules.values()),
        "fan_in_fan_out": config.positions.kind == "learned",
        "target_modules": sorted(modules),
        "rank_pattern": {re.escape(module): one for module, one in ranks.items() if one != rank},
        "alpha_pattern": {re.escape(module): _whole(one) for module, one in alphas.items() if one != alpha},
    }


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number
