"""The model card of a Hugging Face folder: what is known of the model, and what is not."""

from collections.abc import Sequence

from congling.interop.foreign import ForeignModel
from congling.model.counts import active_parameters, parameters
from congling.model.mlp_config import MoEConfig

_NEEDED = {
    "GPTQ": "On a CPU with `pip install auto-round auto-round-lib`:\n",
    "AWQ": "On a CPU with `pip install auto-round auto-round-lib`:\n",
    "CT": "With `pip install compressed-tensors`:\n",
    "BNB": "With `pip install bitsandbytes`:\n",
}
"""By the type of the weights: what reads them besides transformers."""


def card(model: ForeignModel, architecture: str, type: str, notes: Sequence[str] = ()) -> str:
    """``README.md`` with the front matter of model hubs; numbers are counted, never estimated.

    ``notes`` say what had to be changed on the way.
    """
    name = str(model.facts.get("name") or "model")
    parts = [
        _front_matter(),
        f"# {name}\n",
        _origin(model, notes),
        _sizes(model, architecture, type),
        _loading(model, type),
    ]
    parts.append("## Limits\n\n" + _limits(model))
    return "\n".join(parts)


def _front_matter() -> str:
    return "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- congling\n---\n"


def _origin(model: ForeignModel, notes: Sequence[str]) -> str:
    facts = model.facts
    lines = [
        f"Read from {facts['architecture']} by congling."
        if "architecture" in facts
        else "Written by congling."
    ]
    if "step" in facts and "tokens" in facts:
        lines.append(f"Trained for {int(facts['step']):,} steps, {int(facts['tokens']):,} tokens of text.")
    lines += [f"- {note}" for note in [*(facts.get("notes") or ()), *notes]]
    return "\n\n".join(lines) + "\n"


def _sizes(model: ForeignModel, architecture: str, type: str) -> str:
    config = model.config
    rows = [
        ("Class", f"`{architecture}`"),
        ("Parameters", f"{parameters(config):,}"),
        ("Context", f"{config.max_position_embeddings:,} tokens"),
        ("Vocabulary", f"{config.vocab_size:,}"),
        ("Layers × width", f"{config.num_hidden_layers} × {config.hidden_size}"),
        (
            "Heads (key/value heads)",
            f"{config.attention.num_attention_heads} ({config.attention.num_key_value_heads})",
        ),
        ("Weights", type),
    ]
    if isinstance(config.mlp, MoEConfig):
        rows.insert(2, ("Parameters used by a token", f"{active_parameters(config):,}"))
        rows.append(
            ("Experts (used by a token)", f"{config.mlp.num_experts} ({config.mlp.num_experts_per_tok})")
        )
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"| | |\n|---|---|\n{table}\n"


def _loading(model: ForeignModel, type: str) -> str:
    names, given, more = "AutoModelForCausalLM, AutoTokenizer", "", ""
    if type in ("GPTQ", "AWQ"):  # on a CPU by the kernels of auto-round
        names = f"{names}, AutoRoundConfig"
        given = ', device_map="cpu", quantization_config=AutoRoundConfig()'
    if type == "BNB":
        more = ".eval()"  # while training, bitsandbytes computes another product
    lines = [
        "## Use\n",
        *([_NEEDED[type]] if type in _NEEDED else []),
        "```python",
        f"from transformers import {names}\n",
        f'model = AutoModelForCausalLM.from_pretrained("this folder"{given}){more}',
    ]
    if model.tokenizer is not None:
        lines += [
            'tokenizer = AutoTokenizer.from_pretrained("this folder")',
            'ids = tokenizer("从前", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0]))",
        ]
    return "\n".join([*lines, "```\n"])


def _limits(model: ForeignModel) -> str:
    tuned = (
        "The model was tuned on conversations in its chat template."
        if model.facts.get("chat")
        else "The model continues text; it is not known to have been tuned on conversations."
    )
    return (
        f"{tuned} No evaluation is recorded here, and no licence: whoever publishes this folder adds both, "
        "according to the text the model was trained on.\n"
    )
